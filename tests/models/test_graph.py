"""Training with CUDA graphs: the weights of usual training, and what is refused. Graphs are recorded on the CPU."""

import dataclasses

import pytest
import torch

from hnn_models.training import trainer
from hnn_models.training.launch import Launch
from support import recorded_graphs
from support.small_network import PROTOCOL, assert_same_weights, build, saved_weights, train

CUDA = torch.device("cuda")


@pytest.mark.parametrize(
    ("options", "precision"),
    [({}, "32-true"), ({"coding": "gaussian"}, "32-true"), ({"fixed_artificial": True}, "32-true"), ({}, "bf16-mixed")],
    ids=str,
)
def test_the_weights_are_those_of_usual_training(digits, tmp_path, monkeypatch, options, precision):
    few = dataclasses.replace(
        digits, images=digits.images[:200], labels=digits.labels[:200]
    )  # 3 full batches, one of 24
    protocol = PROTOCOL._replace(epochs=2, precision=precision)
    train(build(**options), few, tmp_path / "usual", protocol)
    made = recorded_graphs.install(monkeypatch)
    monkeypatch.setattr(trainer, "check_graph", lambda device, compiled: None)
    train(build(**options), few, tmp_path / "graph", protocol, graph=True)
    assert_same_weights(*(saved_weights(tmp_path / name) for name in ("usual", "graph")))
    assert [graph.replays for graph in made] == [6, 6] * (2 if "fixed_artificial" in options else 1)


def test_a_graph_needs_a_gpu(digits, tmp_path):
    with pytest.raises(ValueError, match="graph needs a CUDA device; the device is 'cpu'"):
        train(build(), digits, tmp_path, graph=True)
    with pytest.raises(ValueError, match="graph must be True or False; got 1"):
        train(build(), digits, tmp_path, graph=1)


def test_a_graph_is_of_one_process_and_of_a_network_that_is_not_compiled(monkeypatch):
    trainer.check_graph(CUDA, compiled=False)
    with pytest.raises(ValueError, match="graph cannot be used with a compiled network"):
        trainer.check_graph(CUDA, compiled=True)
    monkeypatch.setattr(trainer, "launch", lambda: Launch(0, 2))
    with pytest.raises(ValueError, match="graph needs training in one process; this launch has 2"):
        trainer.check_graph(CUDA, compiled=False)
