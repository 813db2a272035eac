"""``hnn tables``: the paper's cells, what is trained, kept, shared and replaced."""

import hashlib
import json

import pytest
import torch

import hnn_kernels
import hnn_models.paper.cells as paper
from hnn_models.data import datasets
from hnn_models.paper import record as results
from hnn_models.paper import runs as command
from hnn_models.paper.cells import Cell, Run, select
from hnn_models.paper.plan import Plan, planned_epochs
from hnn_models.training import device, learning, provenance
from hnn_models.training.device import FAST_PRECISIONS, device_name
from hnn_models.training.protocol import PRECISIONS, Protocol
from support.commands import hnn, refused
from support.paper_cells import CELLS, SEPARATE, reproduction, row


@pytest.fixture
def trained(monkeypatch):
    """The folders that training was asked for, in order, and those that it went through an epoch in."""
    asked, worked = [], []
    train = learning.train

    def noting(network, images, protocol, *, run_dir, **options):
        asked.append(run_dir)
        if not (run_dir / "last.ckpt").exists():
            worked.append(run_dir)
        return train(network, images, protocol, run_dir=run_dir, **options)

    monkeypatch.setattr(learning, "train", noting)
    return asked, worked


def records(work):
    return results.read(work.record, work.cells)


def test_cells_are_the_papers():
    found = {cell.name: (cell.run.coding, cell.run.activation, cell.accuracy) for cell in paper.CELLS}
    assert len(found) == len(paper.CELLS) == 6 + 8 + 4 + 5 + 4 + 5 + 2
    s, a_s, aa_s, ann = "S784-S500-S10", "A784-S500-S10", "A784-A500-S10", "A784-A500-A10"
    cnns = ["-".join(("A" if i < n else "S") + t for i, t in enumerate(("32C3", "32C3", "64C3", "64C3", "512", "10")))
            for n in (0, 1, 3, 4, 6)]  # fmt: skip
    cnns = ["-".join((*t[:3], "P2", t[3], "P2", *t[4:])) for t in (cnn.split("-") for cnn in cnns)]
    for name, expected in {
        f"1a/{s}/simultaneous": ("duplicate", "relu", 98.13),
        f"1a/{a_s}/separate": ("duplicate", "relu", 98.22),
        f"1a/{aa_s}/separate": ("duplicate", "relu", 99.17),
        f"1a/{aa_s}/simultaneous": ("duplicate", "relu", 98.07),
        f"1a/{ann}/simultaneous": ("none", "relu", 98.23),
        f"2a/{s}/simultaneous": ("duplicate", "relu", 98.13),
        f"2a/{a_s}/simultaneous": ("gaussian", "relu", 98.02),
        f"2a/{ann}/simultaneous": ("none", "relu", 98.23),
        f"3a/{s}/simultaneous": ("poisson", "relu", 98.09),
        f"3a/{a_s}/separate": ("poisson", "sigmoid", 89.67),
        f"3a/{ann}/simultaneous": ("none", "sigmoid", 97.67),
        f"4.2/{s}/direct": ("duplicate", "relu", 97.71),
        f"4.2/{s}/axon": ("duplicate", "relu", 97.56),
        f"1b/{cnns[2]}/separate": ("duplicate", "relu", 63.30),
        f"1b/{cnns[3]}/simultaneous": ("duplicate", "relu", 66.08),
        f"2b/{cnns[2]}/simultaneous": ("gaussian", "relu", 65.30),
        f"3b/{cnns[3]}/separate": ("poisson", "sigmoid", 31.32),
        f"3b/{cnns[4]}/simultaneous": ("none", "sigmoid", 56.43),
    }.items():
        assert found[name] == expected, name
    of = {cell.name: cell.run for cell in paper.CELLS}
    assert of[f"1a/{s}/simultaneous"] == of[f"2a/{s}/simultaneous"] == of[f"4.2/{s}/direct"]
    assert of[f"1a/{ann}/simultaneous"] == of[f"2a/{ann}/simultaneous"] == of[f"1a/{a_s}/separate"].artificial
    assert of[f"3a/{ann}/simultaneous"] == of[f"3a/{aa_s}/separate"].artificial
    assert len(set(of.values())) == 34 - 2 * 2 - 1
    shares = {cell.artificial_share for cell in select(["3b"], paper.CELLS)}
    assert shares == {0, 1 / 6, 3 / 6, 4 / 6, 1}


def test_select():
    assert select([], CELLS) == list(CELLS)
    assert [cell.name for cell in select(["4.2", "1a/A16-S10"], CELLS)] == [
        "1a/A16-S10/simultaneous",
        "1a/A16-S10/separate",
        "4.2/S16-S10/axon",
    ]
    with pytest.raises(ValueError, match=r"no cell or table '1'; there are 1a, 2a, 4.2$"):
        select(["1"], CELLS)
    with pytest.raises(ValueError, match="'1a/A16'; there are 1a/S16-S10/simultaneous, 1a/A16-S10/sim"):
        select(["1a/A16"], CELLS)


@pytest.mark.parametrize(
    ("plan", "label", "protocol"),
    [
        (Plan(), "paper", {"patience": 20, "min_epochs": 30}),
        (Plan(epochs=1), "paper, 1 epoch", {"epochs": 1}),
        (Plan(epochs=2), "paper, 2 epochs", {"epochs": 2}),
        (Plan(epochs=2, patience=5), "paper, 2 epochs, ends when flat for 5, from 1 on", None),
        (Plan(epochs=40), "paper, 40 epochs", {"epochs": 40, "patience": 20, "min_epochs": 30}),
        (Plan(patience=0), "paper, never cut", {}),
        (Plan(min_epochs=50), "paper, ends when flat for 20, from 50 on", {"patience": 20, "min_epochs": 50}),
        (
            Plan(precision="bf16-mixed"),
            "paper, bf16-mixed",
            {"precision": "bf16-mixed", "patience": 20, "min_epochs": 30},
        ),
        (
            Plan(epochs=2, precision="bf16-mixed"),
            "paper, 2 epochs, bf16-mixed",
            {"epochs": 2, "precision": "bf16-mixed"},
        ),
        (Plan(precision="32-true"), "paper", {"patience": 20, "min_epochs": 30}),
        (Plan("modern"), "modern", {"recipe": "modern"}),
        (Plan("modern", split_seed=0), "modern, split 0", {"recipe": "modern", "split_seed": 0}),
    ],
)
def test_plan_names_its_departures(plan, label, protocol):
    if protocol is None:
        plan, protocol = plan._replace(min_epochs=1), {"epochs": 2, "patience": 5}
    assert plan.label("mnist") == label
    assert plan.protocol("mnist", 3) == Protocol.of("mnist", **{"seed": 3, **protocol})
    assert planned_epochs(label, "mnist") == plan.protocol("mnist").epochs


def test_what_is_shared_is_trained_once(trained, tmp_path):
    asked, worked = trained
    work = reproduction(tmp_path, Plan("modern", epochs=6))
    work.fill(CELLS, [3])
    folders = [work.run_dir(run, 3) for run in dict.fromkeys(cell.run for cell in CELLS)]
    assert sorted(asked) == sorted(worked) == sorted(folders)
    assert len(set(folders)) == 6
    rows = records(work)
    assert [row.is_of(cell) for row, cell in zip(rows, CELLS, strict=True)] == [True] * 7
    assert rows[3][7:13] == rows[5][7:13]
    assert [row.paper_accuracy for row in rows] == [cell.accuracy for cell in CELLS]
    assert {(row.seed, row.epochs, row.recipe, row.dataset) for row in rows} == {(3, 6, "modern, 6 epochs", "digits")}
    torch.manual_seed(3)
    network, protocol = SEPARATE.network((1, 8, 8), "modern"), Protocol.of("digits", "modern", epochs=6, seed=3)
    alone = learning.train(
        network, datasets.load_images("digits"), protocol,
        run_dir=tmp_path / "alone", device=work.device, progress=False,
    )  # fmt: skip
    assert min(row.test_accuracy for row in rows) > 15, "nothing was learnt: equal figures would say little"
    assert 100 * alone.test_accuracy == pytest.approx(rows[2].test_accuracy, abs=1e-3)
    assert 100 * alone.artificial.validation_accuracy == pytest.approx(rows[3].val_accuracy, abs=1e-3)

    assert work.record.with_suffix(".md").read_text() == results.markdown(rows, CELLS)


def test_finished_cells_are_kept_and_another_plan_replaces_them(trained, tmp_path):
    _, worked = trained
    work = reproduction(tmp_path)  # one epoch
    work.fill(CELLS[:2], [0, 1])
    first = work.record.read_bytes()
    assert len(worked) == 4
    assert work.left(CELLS[:3], [0, 2]) == [(CELLS[2], 0), *((cell, 2) for cell in CELLS[:3])]

    again = reproduction(tmp_path)
    again.fill(CELLS[:2], [0, 1])
    assert len(worked) == 4
    assert work.record.read_bytes() == first

    longer = reproduction(tmp_path, Plan(epochs=2))
    longer.fill(CELLS[:1], [0])
    assert len(worked) == 5
    assert [(row.architecture, row.seed, row.epochs) for row in records(work)] == [
        ("S16-S10", 1, 1), ("S16-S10", 0, 2), ("A16-S10", 0, 1), ("A16-S10", 1, 1),
    ]  # fmt: skip
    modern = reproduction(tmp_path, Plan("modern", epochs=1))
    modern.fill(CELLS[:1], [0])
    assert [row.recipe for row in records(work)[:3]] == ["paper, 1 epoch", "paper, 2 epochs", "modern, 1 epoch"]
    assert len(records(work)) == 5


def test_a_cell_that_was_finished_in_another_precision_is_kept(trained, tmp_path):
    _, worked = trained
    plans = [Plan(epochs=1, precision=precision) for precision in FAST_PRECISIONS]
    for plan, seed in zip(plans, (0, 1), strict=True):
        reproduction(tmp_path, plan).fill(CELLS[:1], [seed])
    assert len(worked) == 2
    assert {row.seed: row.recipe for row in records(reproduction(tmp_path))} == {
        0: "paper, 1 epoch, bf16-mixed", 1: "paper, 1 epoch",
    }  # fmt: skip
    for plan in plans:
        assert reproduction(tmp_path, plan, alike=plans).left(CELLS[:1], [0, 1, 2]) == [(CELLS[0], 2)]
        assert len(reproduction(tmp_path, plan).left(CELLS[:1], [0, 1, 2])) == 2
    assert reproduction(tmp_path, Plan(epochs=2), alike=[Plan(epochs=2)]).left(CELLS[:1], [0]) == [(CELLS[0], 0)]


@pytest.mark.parametrize("pays", [True, False])
@pytest.mark.parametrize("given", [None, *PRECISIONS[:2]])
def test_the_command_chooses_the_precision_by_the_processor(given, pays, tmp_path, monkeypatch):
    monkeypatch.setattr(device, "bfloat16_pays", lambda device: pays)
    made = []
    left = command.Reproduction.left
    monkeypatch.setattr(command.Reproduction, "left", lambda self, *of: (made.append(self), left(self, *of))[1])
    asked = [] if given is None else ["--precision", given]
    hnn("tables", "1a", "--list", "--out", tmp_path / "t.csv", "--device", "cpu", *asked)
    work = made[0]
    assert work.plan.precision == (given or ("bf16-mixed" if pays else "32-true"))
    assert [plan.precision for plan in work.alike] == ([] if given else list(FAST_PRECISIONS))
    assert all(plan._replace(precision=None) == work.plan._replace(precision=None) for plan in work.alike)


def test_a_finished_cell_serves_others_where_its_run_is_gone(trained, tmp_path):
    asked, _ = trained
    work = reproduction(tmp_path)
    results.write(work.record, [row(CELLS[3], recipe="paper, 1 epoch", epochs=1, best_epoch=1, commit="old")], CELLS)
    work.fill([CELLS[5]], [0])
    assert asked == []
    assert records(work)[1] == records(work)[0]._replace(table="2a", paper_accuracy=70.5)


def test_an_interrupted_run_goes_on(trained, tmp_path, monkeypatch):
    from hnn_models.training.classifier import Classifier

    whole = reproduction(tmp_path / "whole", Plan(epochs=3))
    whole.fill(CELLS[:1], [0])

    work = reproduction(tmp_path / "cut", Plan(epochs=3))
    begin = Classifier.on_train_epoch_start
    epochs = []

    def interrupted(self):
        epochs.append(self.current_epoch)
        if epochs == [0, 1]:
            raise KeyError
        begin(self)

    monkeypatch.setattr(Classifier, "on_train_epoch_start", interrupted)
    with pytest.raises(KeyError):
        work.fill(CELLS[:1], [0])
    assert records(work) == []
    reproduction(tmp_path / "cut", Plan(epochs=3)).fill(CELLS[:1], [0])
    assert epochs == [0, 1, 1, 2]
    different = {"seconds_per_epoch": 0}
    assert [r._replace(**different) for r in records(work)] == [r._replace(**different) for r in records(whole)]


@pytest.fixture
def images(tmp_path):
    """A folder of images in CIFAR-10's shape: ten classes, each a brightness."""
    from PIL import Image

    for part, count in (("train", 8), ("test", 2)):
        for label in range(10):
            folder = tmp_path / "images" / part / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (32, 32), (25 * label,) * 3).save(folder / f"{number}.jpg")
    return tmp_path / "images"


def test_command_on_a_folder_of_images(images, tmp_path, monkeypatch):
    hybrid = Run("A4C3-P2-S10", "cifar10", learning="separate")
    cells = (Cell("1b", hybrid, 10.0), Cell("1b", hybrid.artificial, 20.0))
    monkeypatch.setattr("hnn_models.cli.tables.CELLS", cells)
    record, plots = tmp_path / "new" / "record.csv", tmp_path / "plots"
    common = ["--epochs", 2, "--precision", "32-true", "--out", record, "--runs", tmp_path / "runs", "--json"]
    listed = json.loads(hnn("tables", "--list", *common).stdout)["rows"]
    assert [(line["cell"], line["paper"], line["ours"], line["left"]) for line in listed] == [
        ("1b/A4C3-P2-S10/separate", 10, None, "0"),
        ("1b/A4C3-P2-A10/simultaneous", 20, None, "0"),
    ]
    assert not record.exists()
    train = [*common, "--cifar10-dir", images, "--device", "cpu", "--no-progress"]
    done = hnn("tables", "1b", *train, "--plots", plots)
    assert "[2/2] 1b/A4C3-P2-A10/simultaneous, seed 0" in done.stderr
    rows = results.read(record, cells)
    assert {(row.dataset, row.recipe, row.epochs) for row in rows} == {("cifar10 (JPEG copy)", "paper, 2 epochs", 2)}
    assert {(row.device, row.commit) for row in rows} == {(device_name(torch.device("cpu")), provenance.commit())}
    shown = json.loads(done.stdout)["rows"]
    assert [(line["ours"], line["seeds"], line["left"]) for line in shown] == [(r.test_accuracy, "0", "") for r in rows]
    assert all(line["against the paper"] in ("below", "level", "above") for line in shown)
    assert sorted(path.name for path in plots.iterdir()) == [
        "accuracy-cifar10.png",
        "energy-cifar10.png",
        "learning-1b.png",
    ]
    work = command.Reproduction(
        cells,
        Plan(epochs=2),
        record,
        tmp_path / "runs",
        {"cifar10": command.Source.of("cifar10", images)},
        torch.device("cpu"),
    )
    points = [work.point(cell.run, 0, accuracy) for cell, accuracy in zip(cells, (50.0, 75.0), strict=True)]
    assert [(p.name, p.accuracy) for p in points] == [
        ("A4C3-P2-S10, duplicate, separate", 0.5), ("A4C3-P2-A10, relu", 0.75),
    ]  # fmt: skip
    # The convolution is the same for both: 9 * 3 multiply-accumulates for each of 4 * 30 * 30 values, at 4.6 pJ.
    assert all(p.energy > 27 * 3600 * 4.6 and p.memory_energy > 0 for p in points)
    assert work.point(cells[0].run, 1, 50.0) is None  # not trained
    left = json.loads(hnn("tables", "--list", *common, "--seeds", "0,1").stdout)["rows"]
    assert [line["left"] for line in left] == ["1", "1"]
    assert json.loads(hnn("tables", "--list", *common, "--epochs", 3).stdout)["rows"][0]["left"] == "0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["5c"], "there is no cell or table '5c'; there are 1a, 1b, 2a, 2b, 3a, 3b, 4.2"),
        (["1a", "2a"], "--mnist-dir is missing, the folder that holds MNIST/raw"),
        (["2b", "--mnist-dir", "."], "--cifar10-dir is missing, the folder that holds cifar-10-batches-py"),
        (["1b", "--cifar10-dir", "none"], "cifar-10-batches-py is not complete"),
        (["--seeds", "1,x"], "--seeds must be different numbers from 0 on, such as 0,1,2; got '1,x'"),
        (["--seeds", "1,1"], "got '1,1'"),
        (["--precision", "8"], "precision must be one of '32-true', 'bf16-mixed', '16-mixed'; got '8'"),
        (["--out", "tables.md"], "--out must be a CSV file, its page has the suffix .md; got 'tables.md'"),
        (["--out", "/"], "--out must be a file, but / is a folder"),
        (["--runs", "s3://bucket"], "--runs must be a path of this machine, not an address; got 's3://bucket'"),
        (["--mnist-dir", ""], "--mnist-dir must name a path; got an empty one"),
        (
            ["--recipe", "old"],
            "recipe must be one of 'paper', 'modern', 'authors'",
        ),
    ],
)
def test_command_refuses(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refused("tables", *arguments, "--device", "cpu", "--no-progress")
    assert list(tmp_path.iterdir()) == []


def test_command_is_for_one_process(monkeypatch):
    launch = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    for name, value in launch.items():
        monkeypatch.setenv(name, value)
    assert "tables is for one process" in refused("tables", "--list")


def test_the_folder_of_a_run_does_not_change(tmp_path):
    """It is a digest of these two dictionaries, so that a run is found again by another version of the package."""
    network = {
        "architecture": "A16-S10", "input_shape": (1, 8, 8), "coding": "duplicate", "steps": 25, "input": "direct",
        "axon": hnn_kernels.IIR.dual_exponential(4, 1), "synapse": None, "learn": (), "per": "neuron",
        "activation": "relu", "fixed_artificial": True, "gain": 1.0,
    }  # fmt: skip
    protocol = {
        "dataset": "digits", "recipe": "paper", "epochs": 1, "batch_size": 64, "lr": 1e-4, "schedule": "steps",
        "milestones": (0.5,), "weight_decay": 0.0, "label_smoothing": 0.0, "shift": 0, "flip": False, "warp": 0.0,
        "split": "pooled", "patience": None, "min_epochs": 1, "precision": "32-true", "seed": 3, "split_seed": 3,
    }  # fmt: skip
    identity = json.dumps([network, protocol], sort_keys=True).encode()
    digest = hashlib.blake2b(identity, digest_size=6).hexdigest()
    assert reproduction(tmp_path).run_dir(SEPARATE, 3).name == f"digits-A16-S10-duplicate-3-{digest}"
