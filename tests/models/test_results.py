"""The record of the tables, and the page that it gives."""

import pytest

from hnn_models.paper import cells as tables
from hnn_models.paper import record as results
from hnn_models.paper.record import RecordError, Row
from support.commands import refused
from support.paper_cells import CELLS, row
from support.paths import ROOT

COLUMNS = (
    "table,architecture,dataset,coding,input,learning,recipe,seed,epochs,best_epoch,val_accuracy,test_accuracy,"
    "paper_accuracy,seconds_per_epoch,device,torch,commit,date"
)


def test_columns():
    assert ",".join(Row._fields) == COLUMNS


def test_rows_are_written_in_order_and_read_again(tmp_path):
    path = tmp_path / "folder" / "tables.csv"
    rows = [row(CELLS[4], seed=1), row(CELLS[4]), row(CELLS[0], device='a "quoted", named one'), row(CELLS[6])]
    assert results.read(path, CELLS) == []
    results.write(path, rows, CELLS)
    assert results.read(path, CELLS) == [rows[2], rows[1], rows[0], rows[3]]
    assert path.read_text().splitlines()[0] == COLUMNS
    assert sorted(p.name for p in path.parent.iterdir()) == ["tables.csv", "tables.md"]


def test_put_replaces_the_same_cell_recipe_and_seed():
    rows = [row(CELLS[0]), row(CELLS[0], seed=1), row(CELLS[0], recipe="modern"), row(CELLS[1])]
    new = row(CELLS[0], recipe="paper, 2 epochs", epochs=2, best_epoch=1, dataset="digits (PNG copy)")
    assert results.put(rows, new) == [*rows[1:], new]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", "is not a record of tables: its columns are none"),
        (lambda text: "a,b\n1,2\n", "is not a record of tables: its columns are a, b"),
        (lambda text: text[: text.rindex(",50.5")], "damaged in line 3: it has 10 columns of 18"),
        (lambda text: text + text.splitlines()[2] + "\n", "damaged in line 4: the cell has a row already"),
        (lambda text: text.replace("49.25", "4x", 1), "damaged in line 2: not a number: .*4x"),
        (lambda text: text.replace("49.25", "nan", 1), "line 2: test_accuracy is nan, not in percent"),
        (lambda text: text.replace("49.25", "101", 1), "line 2: test_accuracy is 101.0, not in percent"),
        (lambda text: text.replace(",27,", ",48,", 1), "line 2: epoch 48 cannot be the best of 47"),
        (lambda text: text.replace("1a,S16-S10", "1a,S17-S10"), "line 2: there is no such cell"),
        (lambda text: text.replace("50.0", "51.0"), "line 2: there is no such cell"),
        (
            lambda text: text.replace(",paper,", ",old,", 1),
            "line 2: recipe must be one of 'paper', 'modern'; got 'old'",
        ),
        (lambda text: text.replace(",paper,", ',"paper, 46 epochs",', 1), "line 2: 47 epochs are too many"),
        (lambda text: text.replace("a processor", '"a', 1), "is not a record of tables"),
        (lambda text: b"\xff\xfe" + text.encode(), "is not a record of tables"),
    ],
)
def test_damaged_or_foreign_files_are_refused_and_left_alone(change, message, tmp_path, monkeypatch):
    path = tmp_path / "tables.csv"
    results.write(path, [row(CELLS[0]), row(CELLS[1])], CELLS)
    changed = change(path.read_text())
    changed = changed if isinstance(changed, bytes) else changed.encode()
    path.write_bytes(changed)
    with pytest.raises(RecordError, match=message):
        results.read(path, CELLS)
    monkeypatch.setattr("hnn_models.cli.tables.CELLS", CELLS)
    assert f"hnn: error: {path} is " in refused("tables", "--out", path, "--device", "cpu")
    assert path.read_bytes() == changed


def test_page():
    rows = [
        row(CELLS[0], test_accuracy=98.2),
        row(CELLS[0], test_accuracy=98.5, seed=1, epochs=100, best_epoch=90),
        row(CELLS[0], test_accuracy=99.0, recipe="modern", epochs=100),
        row(CELLS[2], recipe="paper, 2 epochs", epochs=2, best_epoch=1, dataset="digits (JPEG copy)"),
    ]
    lines = [line for line in results.markdown(rows, CELLS).splitlines() if line.startswith(("|", "## "))]
    assert [line for line in lines if "---" not in line] == [
        "## Table 1(a): duplicate coding, MNIST",
        "| architecture | learning | recipe | paper | ours | difference | best seed | seeds | epochs |",
        "| S16-S10 | simultaneous | paper | 50.00 | **98.35** | +48.35 | 98.50 | 2 | 47 of 100 (27), 100 (90) |",
        "| S16-S10 | simultaneous | modern | 50.00 | **99.00** | +49.00 | 99.00 | 1 | 100 (27) |",
        "| A16-S10 | simultaneous | paper | 55.00 | not yet measured |  |  |  |  |",
        "| A16-S10 | separate | paper, 2 epochs; JPEG copy | 60.00 | **49.25** | -10.75 | 49.25 | 1 | 2 (1) |",
        "| A16-A10 | simultaneous | paper | 70.00 | not yet measured |  |  |  |  |",
        "## Table 2(a): Gaussian coding, MNIST",
        "| architecture | learning | recipe | paper | ours | difference | best seed | seeds | epochs |",
        "| A16-S10 | simultaneous | paper | 65.00 | not yet measured |  |  |  |  |",
        "| A16-A10 | simultaneous | paper | 70.50 | not yet measured |  |  |  |  |",
        "## Section 4.2: how values are received, MNIST",
        "| architecture | input | recipe | paper | ours | difference | best seed | seeds | epochs |",
        "| S16-S10 | axon | paper | 40.00 | not yet measured |  |  |  |  |",
    ]


def test_committed_page_is_what_the_committed_record_gives():
    path = ROOT / "benchmarks" / "results" / "tables.csv"
    assert path.is_file()
    rows = results.read(path, tables.CELLS)
    assert path.with_suffix(".md").read_text() == results.markdown(rows, tables.CELLS)
