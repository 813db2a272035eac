"""Checkpoints rebuild the network, run no code, and are refused when they are not what they should be."""

import pickle
import signal
import subprocess
import sys

import pytest
import torch

import hnn_kernels
from hnn_models.training import checkpoint
from hnn_models.training.checkpoint import CheckpointError
from support.small_network import PROTOCOL

_WEIGHT = "network.artificial.1.weight"


@pytest.fixture
def content(run):
    return torch.load(run[1].checkpoint, weights_only=True)


def refused(path, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoint.load(path)
    assert str(path) in str(caught.value)


def test_rebuilds_the_network(run, digits):
    network, outcome = run
    found = checkpoint.load(outcome.checkpoint, backend="reference")
    images, _ = digits[torch.arange(50)]
    assert torch.equal(found.network(images), network(images))
    assert found.network.spiking[0].neurons.backend == "reference"
    assert found.protocol == PROTOCOL
    assert found.images == digits.fingerprint()
    assert 0 < found.seconds <= outcome.seconds
    assert (found.epoch, found.validation_accuracy) == (outcome.best_epoch, outcome.validation_accuracy)
    assert all(p.requires_grad for p in found.network.parameters())


# The description in a checkpoint of version 2. Files that have been written with it must stay readable.
VERSION_2 = {
    "version": 2,
    "network": {
        "architecture": "A64-S32-S10",
        "input_shape": (1, 8, 8),
        "coding": "duplicate",
        "steps": 8,
        "input": "direct",
        "axon": tuple(hnn_kernels.IIR.dual_exponential(4, 1)),
        "synapse": None,
        "learn": (),
        "per": "neuron",
        "activation": "relu",
        "fixed_artificial": False,
        "gain": 1.0,
    },
    "protocol": {
        "dataset": "digits",
        "recipe": "paper",
        "epochs": 3,
        "batch_size": 32,
        "lr": 2e-3,
        "schedule": "steps",
        "milestones": (0.5,),
        "weight_decay": 0.0,
        "label_smoothing": 0.0,
        "shift": 0,
        "flip": False,
        "warp": 0.0,
        "split": "pooled",
        "patience": None,
        "min_epochs": 1,
        "precision": "32-true",
        "seed": 5,
        "split_seed": 1,
    },
}


def test_version_2_is_what_is_written_and_read(run, content, tmp_path):
    network, outcome = run
    assert content["hnn"]["version"] == VERSION_2["version"]
    for part in ("network", "protocol"):  # what came later has defaults, with which a file without it is read
        assert VERSION_2[part].items() <= content["hnn"][part].items()
    assert {name: type(value) for name, value in content["hnn"].items() if name not in VERSION_2} == {
        "images": str,
        "validation_accuracy": float,
        "seconds": float,
    }
    assert [name.split("{")[0] for name in content["callbacks"]] == ["_Checkpoints", "_Checkpoints"]
    weights = ("artificial.1", "spiking.0.weights", "spiking.1.weights")
    assert list(content["state_dict"]) == [f"network.{w}.{part}" for w in weights for part in ("weight", "bias")]
    content["hnn"].update(VERSION_2)
    torch.save(content, tmp_path / "then.ckpt")
    found = checkpoint.load(tmp_path / "then.ckpt")
    assert found.network.settings == network.settings
    assert (found.protocol, found.epoch) == (PROTOCOL, outcome.best_epoch)


def test_missing(tmp_path):
    refused(tmp_path / "none.ckpt", "is not a file")


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_truncated(run, tmp_path, share):
    whole = run[1].checkpoint.read_bytes()
    path = tmp_path / "cut.ckpt"
    path.write_bytes(whole[: int(share * len(whole))])
    refused(path, "damaged or not a checkpoint")


def test_one_wrong_bit_in_the_weights(run, content, tmp_path):
    whole = bytearray(run[1].checkpoint.read_bytes())
    weights = content["state_dict"][_WEIGHT].numpy().tobytes()
    whole[whole.index(weights) + 100] ^= 1
    path = tmp_path / "bit.ckpt"
    path.write_bytes(whole)
    refused(path, "damaged or not a checkpoint")


@pytest.mark.parametrize("bytes_", [b"hello, this is text\n", bytes(1000), pickle.dumps({"hnn": 1}, protocol=2)[:-1]])
def test_foreign_bytes(tmp_path, bytes_):
    path = tmp_path / "foreign.ckpt"
    path.write_bytes(bytes_)
    refused(path, "damaged or not a checkpoint")


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_code_is_not_run(content, tmp_path):
    content["hnn"]["network"]["architecture"] = Payload(str(tmp_path / "ran"))
    torch.save(content, tmp_path / "bad.ckpt")
    refused(tmp_path / "bad.ckpt", "damaged or not a checkpoint")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("hnn"), "not a checkpoint of hnn_models"),
        (lambda c: c["hnn"].update(version=1), "has checkpoint version 1; this package reads 2"),
        (lambda c: c["hnn"]["network"].update(architecture="A64-X"), "'X' is not a layer"),
        (lambda c: c["hnn"]["network"].update(architecture="A64-S33-S10"), "size mismatch"),
        # Refused for its size, before that much memory is asked for.
        (lambda c: c["hnn"]["network"].update(architecture="A99999999-A99999999-S10"), "cannot|can be rebuilt"),
        (lambda c: c["hnn"]["network"].update(surprise=1), "surprise"),
        (lambda c: c["hnn"].pop("network"), "network"),
        (lambda c: c["hnn"]["protocol"].update(seed="x"), "seed must be an int"),
        (lambda c: c["hnn"]["protocol"].update(surprise=1), "surprise"),
        (lambda c: c["hnn"].pop("images"), "images"),
        (lambda c: c.pop("state_dict"), "state_dict"),
        (lambda c: c["state_dict"].popitem(), "Missing key"),
        (lambda c: c["state_dict"].update({_WEIGHT: c["state_dict"][_WEIGHT].half()}), "is torch.float16, not"),
        (lambda c: c["state_dict"].update({_WEIGHT: "x"}), "can be rebuilt"),
        (lambda c: c.update(state_dict=3), "can be rebuilt"),
        (lambda c: c["hnn"].update(network=[1]), "can be rebuilt"),
    ],
)
def test_wrong_content(content, tmp_path, change, message):
    change(content)
    torch.save(content, tmp_path / "wrong.ckpt")
    refused(tmp_path / "wrong.ckpt", message)


def test_another_files_dictionary(tmp_path):
    torch.save({"weight": torch.ones(3)}, tmp_path / "other.pt")
    refused(tmp_path / "other.pt", "not a checkpoint of hnn_models")
    torch.save([1, 2], tmp_path / "list.pt")
    refused(tmp_path / "list.pt", "not a checkpoint of hnn_models")


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_kill_while_writing_leaves_the_former_file(tmp_path, step):
    """A real SIGKILL, in the middle of the new file, before it is on the disk, and before it takes the name."""
    path = tmp_path / "last.ckpt"
    checkpoint.write({"value": torch.zeros(1000)}, path)
    former = path.read_bytes()
    script = f"""
import os, signal, torch
from hnn_models.training import checkpoint

def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

def half(content, file):
    file.write(b"PK" * 500)
    file.flush()
    die()

if {step!r} == "write":
    torch.save = half
else:
    setattr(os, {step!r}, die)
checkpoint.write({{"value": torch.ones(1000)}}, {str(path)!r})
"""
    result = subprocess.run([sys.executable, "-c", script], check=False)
    assert result.returncode == -signal.SIGKILL
    assert path.read_bytes() == former
    checkpoint.write({"value": torch.ones(1000)}, path)
    assert torch.load(path, weights_only=True)["value"].eq(1).all()
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
