"""The comparison of backends runs what it says, in turns, and leaves the network alone."""

import pytest
import torch

from hnn_models.analysis import timing
from support.small_network import build


def test_compares_in_turns_and_leaves_the_network_alone(digits, monkeypatch):
    network = build()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    turns = []
    step = timing._step

    def watched(twin, *rest):
        turns.append(twin.spiking[0].neurons.backend)
        step(twin, *rest)

    monkeypatch.setattr(timing, "_step", watched)
    times = timing.compare(network, *digits[torch.arange(8)], ("reference", None), repeats=2)
    assert turns == ["reference", None] * 5  # three to warm up, two measured
    assert times.step.keys() == times.neurons.keys() == {"reference", None}
    assert all(seconds > 0 for part in times for seconds in part.values())
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_median_of_the_measured_runs():
    clock = iter([0, 9, 0, 9, 0, 9, 0, 1, 0, 5, 0, 2])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing.time, "perf_counter", lambda: next(clock))
        assert timing._medians({"a": lambda: None}, 3, torch.device("cpu")) == {"a": 2}


def test_nothing_to_compare(digits):
    with pytest.raises(ValueError, match="A10 has no spiking layer"):
        timing.compare(build("A10"), *digits[torch.arange(8)], ("reference",))
    with pytest.raises(ValueError, match="repeats must be at least 1"):
        timing.compare(build(), *digits[torch.arange(8)], ("reference",), repeats=0)
