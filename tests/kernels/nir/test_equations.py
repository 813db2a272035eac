"""The steps of a loaded graph are those of a plain loop over NIR's equations, written a second time here."""

import numpy as np
import pytest
import torch

from hnn_kernels.nir import load
from support.nir_graphs import DT, graph, spread

nir = pytest.importorskip("nir", reason="NIR needs the extra 'nir'")
pytestmark = pytest.mark.usefixtures("float64")
SHAPES = [(6,), (2, 3)]
# Of each neuron: the values by the names of the node, from one number per neuron or one for all.
VALUES = {
    "tau": (3e-3, 2e-2), "tau_mem": (3e-3, 2e-2), "tau_syn": (2e-3, 9e-3), "r": (3.0, 9.0), "w_in": (0.5, 4.0),
    "v_leak": (-0.3, 0.4), "v_threshold": (0.8, 1.4), "v_reset": (-0.5, 0.3),
}  # fmt: skip
FIELDS = {
    "I": ("r",), "LI": ("tau", "r", "v_leak"), "CubaLI": ("tau_syn", "tau_mem", "r", "w_in", "v_leak"),
    "IF": ("r", "v_threshold", "v_reset"), "LIF": ("tau", "r", "v_leak", "v_threshold", "v_reset"),
    "CubaLIF": ("tau_syn", "tau_mem", "r", "w_in", "v_leak", "v_threshold", "v_reset"),
}  # fmt: skip


def node(kind, shape, per_neuron):
    generator = np.random.default_rng(5)
    values = {name: spread(VALUES[name], shape, per_neuron, generator) for name in FIELDS[kind]}
    if kind in ("I", "IF"):
        values["r"] *= 20  # nothing leaks, and the step is short
    return getattr(nir, kind)(**values)


def share(tau, method):
    """The part of the way to its end that a leaky variable goes in a step."""
    return DT / tau if method == "euler" else 1 - np.exp(-DT / tau)


def loop(node, x, method):
    """Forward, step by step, in NumPy."""
    kind, out = type(node).__name__, []
    leaks = kind not in ("I", "IF")
    v = np.zeros(x.shape[1:]) + (node.v_leak if leaks else getattr(node, "v_reset", 0.0))
    current = np.zeros(x.shape[1:])
    for now in x:
        if kind.startswith("Cuba"):
            current = current + share(node.tau_syn, method) * (node.w_in * now - current)
        else:
            current = now
        if leaks:
            tau = node.tau_mem if kind.startswith("Cuba") else node.tau
            v = v + share(tau, method) * (node.v_leak - v + node.r * current)
        else:
            v = v + DT * node.r * current
        if hasattr(node, "v_threshold"):
            fires = v > node.v_threshold
            out.append(fires.astype(float))
            v = np.where(fires, node.v_reset, v)
        else:
            out.append(v)
    return np.stack(out)


@pytest.mark.parametrize("method", ["euler", "exponential"])
@pytest.mark.parametrize("per_neuron", [False, True], ids=["one", "each"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", FIELDS)
def test_a_neuron_is_the_loop(kind, shape, per_neuron, method):
    made = node(kind, shape, per_neuron)
    x = torch.randn(50, 3, *shape) + 0.3
    out = load(graph(shape, n=made), dt=DT, method=method)(x)
    expected = torch.from_numpy(loop(made, x.numpy(), method))
    if hasattr(made, "v_threshold"):
        assert 0.02 < expected.mean() < 0.6
        assert torch.equal(out, expected)
    else:
        torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)  # other orders of rounding in float64


@pytest.mark.parametrize("kind", ["LIF", "CubaLI", "LI", "IF"])
def test_two_calls_are_one(kind):
    network = load(graph((6,), n=node(kind, (6,), True)), dt=DT)
    x = torch.randn(30, 2, 6)
    first, state = network(x[:11], return_state=True)
    second = network(x[11:], state=state)
    assert torch.equal(torch.cat([first, second]), network(x))


def test_a_neuron_fires_above_its_threshold_and_not_at_it():
    made = nir.IF(r=np.full(2, 1 / DT), v_threshold=np.full(2, 1.0), v_reset=np.zeros(2))
    x = torch.tensor([[[0.5, 0.75]], [[0.5, 0.5]]])
    assert load(graph((2,), n=made), dt=DT)(x).tolist() == [[[0.0, 0.0]], [[0.0, 1.0]]]
    assert load(graph((2,), n=made), dt=DT, tie_fires=True)(x).tolist() == [[[0.0, 0.0]], [[1.0, 1.0]]]


def test_options_reach_the_neurons_and_gradients_the_weights():
    made = nir.LIF(tau=np.full(3, 5e-3), r=np.ones(3), v_leak=np.zeros(3), v_threshold=np.full(3, 0.4))
    weights = nir.Affine(np.eye(3) * 3, np.full(3, 0.1))
    network = load(graph((3,), w=weights, n=made), dt=DT, surrogate="arctan", sigma=0.7, reset_grad="detach")
    layer = network.layer("n")
    assert (layer.surrogate, layer.sigma, layer.reset_grad) == ("arctan", 0.7, "detach")
    network(torch.rand(8, 2, 3)).sum().backward()
    assert network.layer("w").weight.grad.abs().sum() > 0
    with pytest.raises(KeyError, match="'nothing'"):
        network.layer("nothing")


@pytest.mark.parametrize("method", ["euler", "exponential"])
def test_a_shorter_step_comes_nearer_to_the_solution(method):
    """A leaky integrator with a constant input has v = r I (1 - exp(-t / tau)). The second method solves it."""
    made = nir.LI(tau=np.array([4e-3]), r=np.array([2.0]), v_leak=np.array([0.0]))
    end = 8e-3
    expected = 2.0 * (1 - np.exp(-end / 4e-3))
    errors = []
    for dt in (1e-3, 1e-4, 1e-5):
        x = torch.ones(round(end / dt), 1, 1)
        errors.append(abs(load(graph((1,), n=made), dt=dt, method=method)(x)[-1].item() - expected))
    if method == "euler":  # first order
        assert 8 < errors[0] / errors[1] < 13
        assert 8 < errors[1] / errors[2] < 13
    else:
        assert max(errors) < 1e-11


def test_a_delay_and_a_threshold_and_a_scale():
    delays = np.array([0.0, 2 * DT, 5 * DT])
    x = torch.randn(9, 2, 3)
    made = graph((3,), a=nir.Scale(np.array([2.0, -1.0, 0.5])), b=nir.Delay(delays), c=nir.Threshold(np.full(3, 0.3)))
    expected = torch.zeros_like(x)
    for neuron, (factor, steps) in enumerate(((2.0, 0), (-1.0, 2), (0.5, 5))):
        expected[steps:, :, neuron] = (factor * x[: len(x) - steps, :, neuron] > 0.3).double()
    assert torch.equal(load(made, dt=DT)(x), expected)
