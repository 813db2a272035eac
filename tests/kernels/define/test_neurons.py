"""The field's neurons: what each computes, against its equations in NumPy, and against the reference."""

import re

import numpy as np
import pytest
import torch

from hnn_kernels import neurons
from hnn_kernels._define.layer import Neuron
from support.defined import driven, hold_gradients_of_the_field, hold_results_of_the_field
from support.paths import ROOT

NAMES = neurons.__all__


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def plif(x, s):
    v = s.get("v", 0) + sigmoid(0.0) * (x - s.get("v", 0))
    spike = v >= 1
    return spike, {"v": np.where(spike, 0, v)}


def klif(x, s):
    v = np.maximum(s.get("v", 0) + (x - s.get("v", 0)) / 2, 0)
    spike = v >= 1
    return spike, {"v": np.where(spike, 0, v)}


def clif(x, s):
    v = 0.5 * s.get("v", 0) + x
    spike = v >= 1
    m = s.get("m", 0) * sigmoid(v / 2) + spike
    return spike, {"v": v - spike * (1 + sigmoid(m)), "m": m}


def adaptive_lif(x, s):
    v = 0.9 * s.get("v", 0) + x - s.get("w", 0)
    spike = v >= 1
    return spike, {"v": v - spike, "w": 0.97 * s.get("w", 0) + 0.1 * spike}


def lsnn(x, s):
    z, b = s.get("spike", 0), s.get("b", 0)
    v = 0.95 * s.get("v", 0) + 0.05 * x - (1 + 1.8 * b) * z
    b = 0.995 * b + 0.005 * z
    z = v >= 1 + 1.8 * b
    return z, {"v": v, "b": b, "spike": z}


def glif(x, s):
    v, z = s.get("v", 0), s.get("spike", 0)
    decay = 1 - 0.6 * (1 - 0.25)
    v = decay * v * (1 - 0.6 * z) + x * (1 - 0.8 * (1 - 0.9)) - (1 - 0.6) * 0.5 * z
    return v >= 0.5, {"v": v, "spike": v >= 0.5}


def qif(x, s):
    v = s.get("v", 0)
    v = v + 0.5 * (v * (v - 0.8) + x)
    return v >= 1, {"v": np.where(v >= 1, 0, v)}


def eif(x, s):
    v = s.get("v", 0)
    v = v + 0.5 * (-v + np.exp(v - 0.8) + x)
    return v >= 1, {"v": np.where(v >= 1, 0, v)}


def izhikevich(x, s):
    v, u = s.get("v", -65.0), s.get("u", -13.0)
    v, u = v + 0.5 * (0.04 * v**2 + 5 * v + 140 - u + x), u + 0.5 * 0.02 * (0.2 * v - u)
    spike = v >= 30
    return spike, {"v": np.where(spike, -65, v), "u": np.where(spike, u + 8, u)}


def adex(x, s):
    v, w = s.get("v", 0), s.get("w", 0)
    v, w = v + (-v + 0.1 * np.exp((v - 0.8) / 0.1) - w + x) / 5, w + (0.1 * v - w) / 50
    spike = v >= 1
    return spike, {"v": np.where(spike, 0, v), "w": w + 0.1 * spike}


def refractory_lif(x, s):
    v, wait = s.get("v", np.zeros_like(x)), s.get("wait", np.zeros_like(x))
    v = np.where(wait > 0, v, 0.9 * v + x)
    spike = (v >= 1) & (wait == 0)
    return spike, {"v": np.where(spike, 0, v), "wait": np.where(spike, 2, np.maximum(wait - 1, 0))}


def multi_spike(x, s):
    v = 0.9 * s.get("v", 0) + x
    spikes = np.clip(np.floor(v), 0, 4)
    return spikes, {"v": v - spikes}


def resonate_and_fire(x, s):
    z = s.get("z", 0) * np.exp(-0.1 + 0.6j) + x
    spike = z.imag >= 1
    return spike, {"z": np.where(spike, 0, z)}


EQUATIONS = {name: globals()[name] for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_spikes_are_those_of_the_equations(name):
    arguments, state, expected = driven(name, dtype=torch.float64), {}, []
    for x in arguments["x"].numpy():
        spike, state = EQUATIONS[name](x, state)
        expected.append(spike)
    expected = np.stack(expected).astype(float)
    got = getattr(neurons, name)(**arguments, backend="reference")[0].numpy()
    assert 0.01 < (got > 0).mean() < 0.9, "the drive makes too few or too many spikes to tell anything"
    np.testing.assert_array_equal(got, expected)


def test_half_a_threshold_earlier_a_neuron_of_several_spikes_rounds():
    """The I-LIF of Luo et al. 2024: round(clip(v, 0, 4))."""
    x, v, expected = driven("multi_spike", dtype=torch.float64)["x"].numpy(), 0, []
    for one in x:
        v = 0.9 * v + one
        expected.append(np.round(np.clip(v, 0, 4)))
        v = v - expected[-1]
    got = neurons.multi_spike(torch.from_numpy(x), first=0.5, backend="reference")[0].numpy()
    assert got.max() > 2
    np.testing.assert_array_equal(got, np.stack(expected))


@pytest.mark.parametrize("name", NAMES)
def test_kernels_are_those_of_the_definition(neuron_target, name):
    hold_results_of_the_field(neuron_target, name)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_the_loop(neuron_target, name):
    hold_gradients_of_the_field(neuron_target, name)


def test_each_has_its_source_and_its_row():
    page = (ROOT / "docs" / "neurons.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert sorted(rows) == sorted(NAMES)
    found = {name for name, value in vars(neurons).items() if isinstance(value, Neuron)}
    assert found == set(NAMES)
    for name in NAMES:
        assert re.search(r"\b(19|20)\d\d\b", getattr(neurons, name).__doc__), name
