"""Runs in processes of their own: killed for good and continued, and shared by two."""

import json
import signal
import subprocess
import sys

import pytest
import torch

from support.paths import environment
from support.small_network import PROTOCOL, assert_same_weights, build, saved_weights, train

ENVIRONMENT = environment(OMP_NUM_THREADS=str(torch.get_num_threads()))

# Trains like small_network.train, and dies in the middle of its second epoch; in separate learning, of the spiking
# part's second.
KILLED = """
import os, signal, sys
from pathlib import Path
from support.small_network import PROTOCOL, build, train
from hnn_models import HybridNetwork
from hnn_models.data import datasets
from hnn_models.training.classifier import Classifier

step = Classifier.training_step

def killed(self, batch, batch_index):
    if self.current_epoch == 1 and batch_index == 9 and self.network.spiking:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, batch_index)

Classifier.training_step = killed
train(build(**{options}), datasets.load_images("digits"), Path({folder!r}), PROTOCOL)
"""


@pytest.mark.parametrize("options", [{"coding": "gaussian"}, {"fixed_artificial": True}], ids=["noise", "separate"])
def test_killed_run_ends_in_the_weights_of_an_uninterrupted_one(digits, tmp_path, options):
    script = KILLED.format(folder=str(tmp_path / "cut"), options=options)
    result = subprocess.run(
        [sys.executable, "-c", script], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert torch.load(tmp_path / "cut" / "last.ckpt", weights_only=True)["epoch"] == 0
    resumed = train(build(**options), digits, tmp_path / "cut", resume=True)
    whole = train(build(**options), digits, tmp_path / "whole")
    for name in ("last.ckpt", "best.ckpt"):
        assert_same_weights(saved_weights(tmp_path / "cut", name), saved_weights(tmp_path / "whole", name))
    assert resumed[:4] == whole[:4]


@pytest.mark.parametrize(
    ("arguments", "options"),
    [(["--learning", "separate"], {"fixed_artificial": True}), (["--coding", "gaussian"], {"coding": "gaussian"})],
    ids=["separate", "noise"],
)
def test_two_processes_do_what_one_does(digits, tmp_path, arguments, options):
    """Batches of 33 and a last one of 22, so that the shares differ."""
    arguments = ["A64-S32-S10", "--steps", 8, "--epochs", 3, "--batch-size", 33, "--lr", 0.002, "--seed", 5,
                 "--split-seed", 1, "--device", "cpu", "--no-progress", "--json", *arguments,
                 "--out", tmp_path / "two"]  # fmt: skip
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    result = subprocess.run(
        [sys.executable, *launch, "-m", "hnn_models", "train", *map(str, arguments)],
        env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    (line,) = result.stdout.splitlines()  # the first process alone reports
    two = json.loads(line)

    one = train(build(**options), digits, tmp_path / "one", PROTOCOL._replace(batch_size=33))
    assert (two["best_epoch"], two["epochs"]) == (one.best_epoch, one.epochs)
    assert two["test_accuracy"] == pytest.approx(one.test_accuracy, abs=1e-6)
    if one.artificial is not None:
        assert two["artificial_test_accuracy"] == pytest.approx(one.artificial.test_accuracy, abs=1e-6)
    assert two["validation_accuracy"] == pytest.approx(one.validation_accuracy, abs=1e-6)
    for name, weights in saved_weights(tmp_path / "one").items():
        # Measured: 4e-7.
        torch.testing.assert_close(saved_weights(tmp_path / "two")[name], weights, rtol=0, atol=2e-6)


def free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
