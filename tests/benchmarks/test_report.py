"""The pages and the README's tables, as generated from records."""

import re

import pytest

pytest.importorskip("typer", reason="the command line needs the extra 'models'")

from typer.testing import CliRunner

from benchmarks.core import cases
from benchmarks.core.layer import NO_PRODUCT
from benchmarks.providers import providers
from benchmarks.records import readme, report, standings
from benchmarks.records import record as records
from benchmarks.suite import runner
from benchmarks.suite.command import app
from support.bench_rows import row, run

SIZES = ("25x64x500", "25x64x4096", "100x32x4096")
LATER = "2026-11-23T10:00:00"


@pytest.fixture
def root(tmp_path):
    """A clone with one record, and nothing generated."""
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    both = run(SIZES, readme.OPS)
    fresh = [one._replace(buffers="fresh") for one in both if one.median_ms is not None]
    records.append(results / "some.csv", both + fresh)
    (results / "other.csv").write_text("another,form\n1,2\n")
    (tmp_path / "docs").mkdir()
    for page in (readme.README, readme.PAGE):
        (tmp_path / page).write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n")
    return tmp_path


def lines(rows, why=()):
    return report.markdown(rows, "some.csv", why).splitlines()


WINS, NEAR = "## Where others win", f"## Where a layer of ours is ahead by less than 1.3{report.TIMES}"


def wins(rows, why=(), title=WINS):
    """The lines of the table of wins of others, or of the table called ``title``."""
    found = lines(rows, why)
    first = found.index(title) + 2
    last = next(i for i in range(first, len(found)) if not found[i])
    return [line for line in found[first:last] if not line.startswith(("| operation", "| ---"))]


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_committed_pages_and_readme_match_the_records():
    assert readme.outdated() == []


def test_committed_pages_give_a_reason_for_every_win_of_another():
    pages = [report.page(record) for record in readme.records()]
    assert pages
    assert [page.name for page in pages if report.UNEXPLAINED in page.read_text()] == []


def test_pages_that_are_missing_or_edited_by_hand_are_found(root):
    page, text, short = root / "benchmarks/results/some.md", root / readme.README, root / readme.PAGE
    assert readme.outdated(root) == [page, text, short]
    assert readme.write_all(root) == [page, text, short]
    assert readme.outdated(root) == []
    page.write_text(page.read_text().replace("ours", "OURS", 1))
    assert readme.outdated(root) == [page]
    text.write_text(text.read_text().replace("25, 64, 500", "25, 64, 501", 1))
    assert readme.outdated(root) == [page, text]
    readme.write_all(root)
    records.append(root / "benchmarks/results/some.csv", [row(median=0.1, run=LATER)])
    assert readme.outdated(root) == [page, text, short]


def test_command_writes_all_pages_of_a_clone_or_one_page(root, monkeypatch):
    monkeypatch.setattr(readme.write_all, "__defaults__", (root,))
    page, record = root / "benchmarks/results/some.md", str(root / "benchmarks/results/some.csv")
    assert CliRunner().invoke(app, ["report", record]).exit_code == 0
    assert readme.outdated(root) == [root / readme.README, root / readme.PAGE]
    page.unlink()
    assert CliRunner().invoke(app, ["report"]).exit_code == 0
    assert readme.outdated(root) == []


def test_readme_keeps_its_text_around_the_table(root):
    readme.write_all(root)
    text = (root / "README.md").read_text()
    assert text.startswith(f"before\n{readme.BEGIN}\n")
    assert text.endswith(f"{readme.END}\nafter\n")
    assert "old" not in text
    table = [cells(line) for line in text.splitlines() if line.startswith("| LIF")]
    assert [line[1] for line in table] == [report.axes(size) for size in SIZES] * 3
    assert table[0] == [
        "LIF", "25, 64, 500", "1.57", "15.2", "**9.7**", "3.90", "**2.5**", "spikingjelly torch", "**15.7**", "85 %",
    ]  # fmt: skip
    assert "ours is 7.51 to 9.68 times as fast as the loop and 2.38 to 2.48 times as fast as the compiled loop" in text
    assert "0 of 144 medians are lower than ours" in text


def test_readme_marks_a_library_that_is_faster_or_computes_something_else(root):
    record = root / "benchmarks/results/some.csv"
    records.append(record, [row(median=2.0, run=LATER), row("norse", 1.0, run=LATER, note="its own dynamics")])
    readme.write_all(root)
    text = (root / "README.md").read_text()
    first = next(cells(line) for line in text.splitlines() if line.startswith("| LIF"))
    assert first[7:9] == [r"norse\*", "0.50 ▲"]
    assert r"\* This library computes something else" in text
    assert "1 of " in text


def test_the_page_has_a_table_for_each_instruction_set_and_the_readme_the_first():
    """Its times are over those of that set: a run that holds all to another one is another device."""
    held = {"device": "A processor, AVX2"}
    rows = [row(median=2.0), row("loop compiled", 4.0), row(median=3.0, **held), row("loop compiled", 9.0, **held)]
    text = readme.section(rows, "some", readme.PAGE)
    tables = [cells(line) for line in text.splitlines() if line.startswith("| LIF")]
    assert [(line[2], line[6]) for line in tables] == [("2.00", "**2.0**"), ("3.00", "**3.0**")]
    assert text.index("A processor, 2 threads") < text.index("| 3.00 |") < text.index("A processor, AVX2, 2 threads")
    assert "[All rows](../benchmarks/results/some.md)" in text
    short = readme.section(rows, "some", readme.README)
    first, _, _ = text.partition("\n\n| layer |")
    assert short == first.replace("(../benchmarks", "(benchmarks")


def test_readme_without_a_record_stays_the_same_and_needs_its_markers(root):
    (root / "benchmarks/results/some.csv").unlink()
    assert readme.outdated(root) == []
    for broken in ("no markers", readme.END + readme.BEGIN, 2 * (readme.BEGIN + readme.END)):
        with pytest.raises(ValueError, match="once each"):
            readme.updated(broken, [], readme.README)


def test_names_are_those_of_the_suite():
    names = [provider.name for provider in providers()]
    assert {*standings.OURSELVES} - {*standings.FLOORS} < {*names}
    assert (runner.PRODUCTS,) == standings.FLOORS
    for suite in ("full", "gpu"):
        measured = {(case.op, case.name) for case in cases.SUITES[suite] if case.dtype == "float32"}
        assert {(op, case) for op in readme.OPS for case in readme.CASES} <= measured


def test_every_win_of_another_is_listed_and_marked():
    rows = [
        row(median=1.0, peak_bytes=1000, tape_bytes=1000),
        row("fast", 0.5, peak_bytes=1000, tape_bytes=1000),
        row("near", 0.98, peak_bytes=2000, tape_bytes=995),
        row("lean", 3.0, peak_bytes=900, tape_bytes=2),
        row("worse", 3.0, peak_bytes=2000, tape_bytes=None),
        row("products alone", 0.1, peak_bytes=1, tape_bytes=1),
    ]
    assert [cells(line)[4:] for line in wins(rows)] == [
        ["fast", "0.500 of our time", "not explained yet"],
        ["near", "0.980 of our time (quartiles overlap)", "not explained yet"],
        ["lean", "0.900 of our peak memory; under 0.01 of our tape", "not explained yet"],
    ]
    table = {cells(line)[1].split()[0]: line for line in lines(rows) if line.startswith("| both, reused")}
    assert {name: line.count("▲") for name, line in table.items()} == {
        "cpu": 0, "fast": 1, "near": 1, "lean": 2, "worse": 0, "products": 0,
    }  # fmt: skip
    assert cells(table["cpu"])[4] == "**ours**"
    assert cells(table["fast"])[4] == "0.500 ▲"
    assert wins([row(), row("slow", 2.0)]) == ["Nowhere in this record."]


def test_a_near_provider_is_listed_if_only_the_layer_is_measured():
    rows = [row(), row("fast", 0.99), row("near", 1.29), row("far", 1.3)]
    assert [cells(line)[4:] for line in wins(rows, title=NEAR)] == [["near", "1.29 of our time", "not explained yet"]]
    (line,) = wins(rows, [{"provider": "near", "why": "it is good"}], NEAR)
    assert cells(line)[-1] == "it is good"
    network = [one._replace(op="mlp_step") for one in rows]
    assert wins(network, title=NEAR) == ["Nowhere in this record."]


def test_a_win_with_all_buffers_is_one_line():
    rows = [row(name, ms, buffers=b) for b in ("fresh", "reused") for name, ms in (("cpu", 1.0), ("fast", 0.5))]
    (line,) = wins(rows)
    assert cells(line)[3] == "both, reused and fresh"


def test_reasons_stand_beside_the_wins_that_they_explain(tmp_path):
    record = tmp_path / "some.csv"
    records.append(record, [row(), row("fast", 0.5), row("fast", 0.5, op="lif_axon"), row(op="lif_axon")])
    assert report.reasons(record) == ()
    path = tmp_path / "some.reasons.toml"
    path.write_text('[[reason]]\nop = "lif_*"\nwhy = "it skips the axon"\n')
    why = report.reasons(record)
    assert [cells(line)[-1] for line in wins(records.read(record), why)] == ["not explained yet", "it skips the axon"]
    assert "it skips the axon" in report.write(record).read_text()
    with pytest.raises(ValueError, match="a reason must be for a case in which another wins or is near"):
        report.markdown(records.read(record), "some.csv", [{"provider": "slow", "why": "it is not"}])
    path.write_text('[[reason]]\nprovder = "fast"\nwhy = "a misspelt name"\n')
    with pytest.raises(ValueError, match="provder"):
        report.reasons(record)
    path.write_text('[[reason]]\nop = ["lif_*", "lif"]\nwhy = "it skips all"\n')
    assert [cells(line)[-1] for line in wins(records.read(record), report.reasons(record))] == ["it skips all"] * 2


def test_a_reason_waits_for_an_operation_that_is_not_in_the_record():
    early = [{"op": "spike_products_*", "why": "many spikes"}]
    assert wins([row()], early) == ["Nowhere in this record."]
    both = [row(op="spike_products_50"), row("torch", 0.9, op="spike_products_50")]
    assert [cells(line)[-1] for line in wins(both, early)] == ["many spikes"]
    for why in (early, [{"op": "spike_product", "why": "a misspelt name"}]):
        with pytest.raises(ValueError, match="a reason must be for a case in which another wins or is near"):
            report.markdown([row(op="spike_products_50")], "some.csv", why)


def test_only_the_newest_run_counts_and_times_of_two_runs_are_not_divided():
    rows = [
        row(median=1.0), row("loop", 8.0), row("sinabs", 4.0), row("norse", 6.0),
        row(median=2.0, run=LATER), row("loop", 8.0, run=LATER),
        row("sinabs", None, run=LATER, buffers="", note="out of memory"),
    ]  # fmt: skip
    (several,) = standings.standings(rows).values()
    assert [(s.row.provider, s.row.median_ms, s.factor) for s in several] == [
        ("cpu", 2.0, 1.0), ("norse", 6.0, 6.0), ("loop", 8.0, 4.0),
    ]  # fmt: skip
    assert list(standings.standings(rows[4:] + rows[:4]).values()) == [several]
    assert "| sinabs | out of memory |" in lines(rows)


def test_a_provider_without_figures_is_listed_with_the_reason():
    rows = [
        row(), row("gone", None, buffers="", note="not installed"), row("big", None, buffers="", note="out of memory"),
        row(case="4x2x3"), row("gone", None, case="4x2x3", buffers="", note="not installed"),
        row("big", 9.0, case="4x2x3"),
    ]  # fmt: skip
    found = lines(rows)
    assert [line for line in found if "not installed" in line] == ["| gone | not installed |"]
    assert found[-1] == "- no figure for big: out of memory"


def test_products_are_a_section_with_torch_beside_ours():
    at = {"op": "spike_products_10", "case": "1600x784x500"}
    lacks = {"buffers": "", "note": NO_PRODUCT}
    rows = [
        row(), row("loop", 8.0), row("gone", None, buffers="", note="not installed"),
        row(**at), row("torch", 4.0, **at), row("loop", None, **at, **lacks),
        row("gone", None, **at, **lacks),
    ]  # fmt: skip
    found = lines(rows)
    section = found[found.index("## Products of weights with 10 % spikes") :]
    assert section[2].startswith("*torch* is its Linear or Conv2d")
    assert [cells(line)[4] for line in section if line.startswith("| both")] == ["**ours**", "4.00"]
    assert found[-1] == f"- no figure for loop: {NO_PRODUCT}"
    assert [line for line in found if line.startswith("| gone")] == ["| gone | not installed |"]


def test_ours_is_the_default_backend_of_a_call():
    rows = [row("triton", 1.0), row("cuda", 2.0), row("reference", 9.0)]
    assert standings.ours(rows).provider == "cuda"
    assert standings.ours([rows[0], rows[2], row("cuda", None)]).provider == "triton"
    assert standings.ours(rows[2:]) is None


def test_each_device_and_number_of_threads_has_its_own_table(root):
    rows = [row(), row(threads=1), row(device="Another"), row("loop", 2.0, device="Another")]
    assert sum(line.startswith("### ") for line in lines(rows)) == 3
    section = readme.section(rows, "some", readme.PAGE)
    assert re.findall(r"^(A\w*( \w+)?, \d threads?), torch", section, re.M) == [
        ("A processor, 2 threads", " processor"), ("A processor, 1 thread", " processor"), ("Another, 2 threads", ""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, ""), (0, "0"), (0.00001234, "0.0000123"), (0.0366, "0.0366"), (1, "1.00"), (5.5594, "5.56"),
     (54.18, "54.2"), (123.4, "123"), (12345.6, "12,346")],
)  # fmt: skip
def test_figures_have_three_digits_and_no_exponent(value, words):
    assert report.figure(value) == words


def test_record_returns_its_rows_and_names_a_damaged_line(tmp_path):
    path = tmp_path / "some.csv"
    rows = [row(note='a "quoted", one'), row("gone", None, buffers="")]
    records.append(path, rows[:1])
    records.append(path, rows[1:])
    assert records.read(path) == rows
    path.write_text(path.read_text() + "2026,lif\n")
    with pytest.raises(ValueError, match="line 4"):
        records.read(path)
    path.write_text("op,case\n")
    with pytest.raises(ValueError, match="not a record"):
        records.read(path)
