"""The command line: results on stdout, short errors, exit codes."""

import json
import runpy
import sys
import time

import numpy as np
import pytest

import hnn_kernels
from hnn_models import cli
from hnn_models.training import checkpoint
from hnn_models.training.protocol import Protocol
from support.commands import hnn, refused

SMALL = ["--epochs", "1", "--steps", "4", "--no-progress", "--device", "cpu"]


def test_train_then_evaluate(tmp_path):
    out = tmp_path / "run"
    trained = json.loads(
        hnn("train", "A64-S10", *SMALL, "--epochs", 4, "--lr", 0.002, "--batch-size", 32, "--out", out, "--json").stdout
    )
    assert trained["backend"] == hnn_kernels.explain("cpu").chosen
    assert trained["checkpoint"] == str(out / "best.ckpt")
    assert 1 <= trained["best_epoch"] <= 4
    assert trained["test_accuracy"] > 0.5
    again = json.loads(
        hnn(
            "evaluate", out / "best.ckpt", "--no-progress", "--device", "cpu", "--backend", "reference", "--json"
        ).stdout
    )
    assert again == {"test_accuracy": trained["test_accuracy"], "backend": "reference"}
    evaluate = ["evaluate", out / "best.ckpt", "--no-progress", "--device", "cpu"]
    assert "precision '16-mixed' needs a CUDA device" in refused(*evaluate, "--precision", "16-mixed")
    assert "precision must be one of" in refused(*evaluate, "--precision", "8")
    shown = hnn(*evaluate, "--confusion").stdout
    assert f"test accuracy           {100 * trained['test_accuracy']:.2f} %" in shown
    rows = [line.split() for line in shown.splitlines() if line.strip()][-10:]
    assert [row[0] for row in rows] == [str(digit) for digit in range(10)]
    right = sum(int(row[1 + digit]) for digit, row in enumerate(rows))
    assert right / sum(int(n) for row in rows for n in row[1:]) == pytest.approx(trained["test_accuracy"], abs=1e-6)

    assert "graph needs a CUDA device; the device is 'cpu'" in refused(
        "train", "A64-S10", *SMALL, "--graph", "--out", tmp_path / "graph"
    )
    assert "already holds a run" in refused("train", "A64-S10", *SMALL, "--out", out)
    assert "has another steps (4, now 5)" in refused(
        "train", "A64-S10", *SMALL, "--lr", 0.002, "--batch-size", 32, "--out", out, "--resume", "--steps", 5
    )
    resumed = json.loads(
        hnn("train", "A64-S10", *SMALL, "--epochs", 4, "--lr", 0.002, "--batch-size", 32, "--out", out, "--resume",
            "--json").stdout
    )  # fmt: skip
    for results in (resumed, trained):
        assert results.pop("training_seconds") > 0
    assert resumed == trained


def test_backend_is_the_one_asked_for(tmp_path):
    result = hnn("train", "S10", *SMALL, "--backend", "reference", "--out", tmp_path)
    assert "backend                 reference" in result.stdout
    result = hnn("train", "A10", *SMALL, "--out", tmp_path / "artificial")
    assert "backend                 none, no layer is spiking" in result.stdout


def test_demo_measures_the_speed_up():
    results = json.loads(hnn("demo", *SMALL, "--repeats", 2, "--batch-size", 8, "--json").stdout)
    assert 0 <= results["test_accuracy"] <= 1
    assert results["backend"] == hnn_kernels.explain("cpu").chosen
    if results["backend"] == "reference":
        assert results.keys() == {"test_accuracy", "backend"}
        return
    for part in ("step", "neurons"):
        ratio = results[f"{part}_reference_ms"] / results[f"{part}_ms"]
        assert results[f"{part}_speedup"] == pytest.approx(ratio, rel=1e-2)


def test_demo_on_the_reference_claims_no_speed_up():
    result = hnn("demo", *SMALL, "--backend", "reference", "--json")
    assert json.loads(result.stdout).keys() == {"test_accuracy", "backend"}
    assert "no kernel to time" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["A784-S10-A10"], "  A784-S10-A10\n           ^^^\n"),
        (["A64-S11"], "one neuron per class, 10; got 11\n  A64-S11\n      ^^^\n"),
        (["A32C9-S10"], "'A32C9' does not fit"),
        (
            ["A64-S10", "--dataset", "svhn"],
            "dataset must be one of 'digits', 'mnist', 'fashion-mnist', 'cifar10', 'folder'; got 'svhn'",
        ),
        (["A64-S10", "--dataset", "mnist"], "--data-dir"),
        (["A64-S10", "--dataset", "mnist", "--data-dir", "nowhere"], "no train-images-idx3-ubyte"),
        (["A64-S10", "--data-dir", "."], "takes no data_dir"),
        (["A64-S10", "--coding", "morse"], "coding must be one of"),
        (["A64-S10", "--backend", "fast"], "backend must be one of"),
        (["A64-S10", "--device", "tpu"], "device must be"),
        (["A64-S10", "--lr", "0"], "lr must be a finite float above 0"),
        (
            ["A64-S10", "--recipe", "best"],
            "recipe must be one of 'paper', 'modern', 'authors'",
        ),
        (["A64-S10", "--schedule", "cosine"], "schedule must be one of"),
        (["A64-S10", "--split", "5:5"], "split must be one of"),
        (["A64-S10", "--held-out", "0"], "held_out must be a fraction below 1 and above 0; got 0.0"),
        (["A64-S10", "--loss", "mean"], "loss must be one of 'total', 'step'; got 'mean'"),
        (["A64-S10", "--loss", "step"], "loss 'step' needs a network with readout='membrane'"),
        (["A64-S10", "--readout", "spikes"], "readout must be one of 'count', 'membrane'; got 'spikes'"),
        (["A64-S10", "--neuron", "decay"], "--neuron must be NAME=VALUE, such as decay=0.5, once for each name"),
        (["A64-S10", "--neuron", "reset=never"], "reset must be one of 'filter', 'subtract', 'zero', 'none'"),
        (["A64-S10", "--pretrained-activation", "tanh"], "must be one of 'relu', 'sigmoid', 'identity'; got 'tanh'"),
        (["A64-S10", "--split", "given"], "digits has no test part"),
        (["A64-S10", "--precision", "8"], "precision must be one of"),
        (["A64-S10", "--learning", "both"], "learning must be one of 'simultaneous', 'separate'; got 'both'"),
        (["A64-S10", "--pretrained", "x.ckpt"], "pretrained is for separate learning"),
        (["A64-S10", "--learning", "separate", "--pretrained", "x.ckpt"], "x.ckpt is not a file"),
        (["A64-S10", "--image-shape", "3,8,8"], "shape (--image-shape) is for a folder"),
        (["A64-S10", "--dataset", "folder", "--data-dir", ".", "--image-shape", "3x8"], "must be C,H,W, such as"),
        (["A64-S10", "--dataset", "folder", "--data-dir", "nowhere"], "nowhere is not a folder of images"),
    ],
)
def test_bad_input_gets_a_short_message(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = refused("train", *arguments)
    assert "hnn: error: " in error
    assert message in error
    assert list(tmp_path.iterdir()) == []


def test_out_that_cannot_be_a_folder(tmp_path):
    (tmp_path / "file").touch()
    assert "file" in refused("train", "A64-S10", *SMALL, "--out", tmp_path / "file" / "run")


def test_usage_errors():
    assert "--epochs" in refused("train", "A64-S10", "--epochs", "0", code=2)
    assert "architecture" in refused("train", code=2).lower()


def test_evaluate_refuses_a_foreign_file(tmp_path):
    path = tmp_path / "foreign.ckpt"
    path.write_text("not a checkpoint")
    assert refused("evaluate", path).startswith(f"hnn: error: {path} is damaged")


def test_damaged_checkpoint_cannot_be_resumed(tmp_path):
    (tmp_path / "last.ckpt").write_bytes(b"PK\x03\x04 cut")
    error = refused("train", "A64-S10", *SMALL, "--out", tmp_path, "--resume")
    assert f"{tmp_path / 'last.ckpt'} is damaged" in error


def test_separate_learning_then_pretrained(tmp_path):
    common = ["train", "A64-S10", *SMALL, "--learning", "separate", "--recipe", "modern", "--shift", 0, "--json"]
    first = json.loads(hnn(*common, "--out", tmp_path / "first").stdout)
    assert 0 <= first["artificial_test_accuracy"] <= 1
    pretrained = tmp_path / "first" / "artificial" / "best.ckpt"
    second = json.loads(hnn(*common, "--out", tmp_path / "second", "--pretrained", pretrained).stdout)
    assert "artificial_test_accuracy" not in second
    assert second["test_accuracy"] == first["test_accuracy"]
    assert checkpoint.load(second["checkpoint"]).protocol == Protocol.of("digits", "modern", shift=0, epochs=1)


def test_every_option_of_a_network(tmp_path):
    options = ["--input", "axon", "--axon", "normalized", "--learn", "axon", "--learn", "decay", "--per", "layer",
               "--activation", "sigmoid", "--gain", 2, "--coding", "gaussian"]  # fmt: skip
    hnn("train", "A8-S10", *SMALL, *options, "--out", tmp_path)
    config = checkpoint.load(tmp_path / "best.ckpt").network.config
    assert (config["input"], config["learn"], config["per"]) == ("axon", ("axon", "decay"), "layer")
    assert (config["activation"], config["gain"], config["coding"]) == ("sigmoid", 2, "gaussian")
    assert "axon must be one of" in refused("train", "A8-S10", *SMALL, "--axon", "long", "--out", tmp_path / "none")


def test_a_folder_of_images(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for part, count in (("train", 8), ("test", 4)):
        for name in "ab":
            (tmp_path / "images" / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (9, 9), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / part / name / f"{number}.png")
    common = ["--dataset", "folder", "--data-dir", "images"]
    trained = hnn("train", "S2", *common, *SMALL, "--image-shape", "1,4,4", "--split", "given", "--json")
    path = json.loads(trained.stdout)["checkpoint"]
    assert path == str(tmp_path / "runs" / "folder-S2" / "best.ckpt")
    assert checkpoint.load(path).network.input_shape == (1, 4, 4)
    evaluated = hnn("evaluate", path, "--data-dir", "images", "--device", "cpu", "--no-progress", "--json")
    assert json.loads(evaluated.stdout)["test_accuracy"] == json.loads(trained.stdout)["test_accuracy"]
    (tmp_path / "images" / "test" / "a" / "0.png").unlink()
    assert "was trained on other images than those of images" in refused(
        "evaluate", path, "--data-dir", "images", "--no-progress"
    )


def test_download_is_for_one_process(tmp_path, monkeypatch):
    launch = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    for name, value in launch.items():
        monkeypatch.setenv(name, value)
    error = refused("train", "A64-S10", "--dataset", "mnist", "--data-dir", tmp_path, "--download")
    assert "--download is for one process" in error


def test_a_long_import_is_told(capsys):
    with cli.telling("still loading", silence=0.01):
        time.sleep(0.1)
    assert set(capsys.readouterr().err.splitlines()) == {"still loading"}
    with cli.telling("still loading"):
        pass
    assert capsys.readouterr().err == ""


def test_module_entry_point(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["hnn_models", "--help"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("hnn_models", run_name="__main__")
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    for command in ("train", "evaluate", "demo"):
        assert command in shown
