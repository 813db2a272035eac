"""A model, its graph, a file, and the module that comes back compute the same."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from hnn_kernels import IIR
from hnn_kernels import nn as hnn_nn
from hnn_kernels.nir import EachStep, NIRWarning, export, load
from hnn_kernels.nn import LIF
from support.nir_graphs import DT

nir = pytest.importorskip("nir", reason="NIR needs the extra 'nir'")
pytestmark = pytest.mark.usefixtures("float64")

N, PER = 12, torch.linspace(0.3, 0.9, 12, dtype=torch.float64)
# Neurons, the classes of their nodes in order, and True where the standard has no words for them.
NEURONS = {
    "zero": (lambda: LIF(0.9, reset="zero"), ["LIF"], False),
    "without membrane": (lambda: LIF(0.0, reset="zero"), ["LIF"], False),
    "reset potential": (lambda: LIF(PER, reset="zero", reset_potential=PER - 0.8), ["LIF"], False),
    "no leak": (lambda: LIF(1.0, None, PER * 3, reset="zero"), ["IF"], False),
    "gain": (lambda: LIF(0.9, reset="zero", synapse=IIR((), (PER,))), ["LIF"], False),
    "synapse": (lambda: LIF(PER, reset="zero", synapse=IIR((PER.flip(0),), (0.7,))), ["CubaLIF"], False),
    "synapse of order two": (
        lambda: LIF(0.8, reset="zero", synapse=IIR.dual_exponential(4, 1)), ["LI", "LI", "LIF"], False
    ),
    "synapse without a leak": (lambda: LIF(1.0, reset="zero", synapse=IIR((0.5,), (0.3,))), ["LI", "IF"], False),
    "subtract": (lambda: LIF(0.9, reset="subtract"), ["LIF"], True),
    "filter": (lambda: LIF(0.6, PER, 0.8), ["LIF"], True),
    "none": (lambda: LIF(0.8, reset="none"), ["LI", "Threshold"], False),
    "none without a leak": (lambda: LIF(1.0, reset="none"), ["I", "Threshold"], False),
    "threshold alone": (lambda: LIF(0.0, None, 0.5, reset="none"), ["Threshold"], False),
    "a tie does not fire": (lambda: LIF(0.9, reset="zero", tie_fires=False), ["LIF"], False),
    "count": (lambda: LIF(0.9, reset="zero", readout="count"), ["LIF"], False),
    "axon": (lambda: LIF(0.9, reset="zero", axon=IIR.exponential(3)), ["LIF", "LI"], False),
    "later axon": (
        lambda: LIF(0.9, reset="zero", axon=IIR.dual_exponential(5, 2, normalize=True)),
        ["LIF", "LI", "LI", "Delay", "Scale"], False,
    ),
    "potential": (lambda: LIF(0.9, reset="none", readout="none", potential="train"), ["LI"], False),
    "potential and synapse": (
        lambda: LIF(0.9, reset="none", readout="none", potential="train", synapse=IIR((0.7,), (1.0,))),
        ["CubaLI"], False,
    ),
}  # fmt: skip
FILTERS = {
    "exponential": (IIR.exponential(4), ["LI"]),
    "scaled": (IIR((PER,), (2.0,)), ["LI"]),
    "integral": (IIR((1.0,), (1.0,)), ["I"]),
    "dual exponential": (IIR.dual_exponential(4, 1), ["LI", "LI"]),
    "normalized": (IIR.dual_exponential(4, 1, normalize=True), ["LI", "LI", "Delay", "Scale"]),
    "a pole twice": (IIR((1.6, -0.64), (0.2,)), ["LI", "LI"]),
    "a pole twice for each": (IIR((2 * PER, -PER * PER), (1.0,)), ["LI", "LI"]),
    "third order": (IIR((1.7, -0.92, 0.16), (0.1, -0.05)), ["LI", "LI", "LI", "Scale", "Delay", "Scale"]),
    "a gain": (IIR((), (PER,)), ["Scale"]),
    "a delay": (IIR((), (0.0, 0.0, 1.0)), ["Delay"]),
    "finite": (IIR((), (0.5, 0.0, -0.25)), ["Scale", "Delay", "Scale"]),
}


def kinds(graph):
    return [type(node).__name__ for node in graph.nodes.values() if not isinstance(node, nir.Input | nir.Output)]


def through_a_file(graph, path):
    nir.write(path, graph)
    return path


def train(*shape):
    return torch.randn(40, 3, *shape) + 0.4


# With "exponential" a decay of 0 has no time constant.
@pytest.mark.parametrize(
    ("name", "method"),
    [*((name, "euler") for name in NEURONS), *((n, "exponential") for n in NEURONS if n != "without membrane")],
)
def test_neurons(name, method, tmp_path):
    make, nodes, beyond = NEURONS[name]
    layer, x = make(), train(N)
    expected = layer(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if beyond:
            with pytest.warns(NIRWarning, match=f"reset='{layer.reset}'"):
                graph = export(layer, x, dt=DT, method=method)
            with pytest.raises(ValueError, match="strict=True"):
                export(layer, x, dt=DT, strict=True)
        else:
            graph = export(layer, x, dt=DT, strict=True, method=method)
        assert kinds(graph) == nodes
        network = load(through_a_file(graph, tmp_path / "graph.nir"), dt=DT, method=method)
    out = network(x)
    if layer.readout == "count":
        out = out.sum(0)
    if layer.axon is None and layer.potential == "none":
        assert 0.02 < expected.mean() < 40
        assert torch.equal(out, expected)
    else:
        torch.testing.assert_close(out, expected, rtol=1e-11, atol=1e-11)
    # And once more from what came back.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NIRWarning)
        again = load(export(network, dt=DT, method=method), dt=DT, method=method)
    torch.testing.assert_close(again(x), network(x), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", FILTERS)
def test_filters(name, tmp_path):
    filter_, nodes = FILTERS[name]
    module, x = hnn_nn.IIR(*filter_), train(N)
    graph = export(module, (N,), dt=DT)
    assert kinds(graph) == nodes
    out = load(through_a_file(graph, tmp_path / "graph.nir"), dt=DT)(x)
    # A pole that is there twice is found up to the square root of the rounding: 1e-8 of it, and of the values 1e-14.
    torch.testing.assert_close(out, module(x), rtol=1e-9, atol=1e-9)


def test_a_network_of_images(tmp_path):
    model = nn.Sequential(
        EachStep(nn.Conv2d(2, 6, 3, padding=1, groups=2), nn.AvgPool2d(2)),
        LIF(0.9, reset="zero", threshold=torch.rand(6, 1, 1) * 0.2 + 0.1),
        nn.Dropout(0.5),
        EachStep(hnn_nn.SpikeConv2d(6, 4, (1, 2), stride=(2, 1), bias=False)),
        LIF(0.8, reset="zero", threshold=0.2),
        nn.Flatten(2),
        hnn_nn.SpikeLinear(4 * 2 * 3, 10),
        LIF(0.8, reset="zero", threshold=0.2),
    ).eval()
    x = train(2, 8, 8)
    graph = export(model, x, dt=DT)
    assert kinds(graph) == ["Conv2d", "AvgPool2d", "LIF", "Conv2d", "LIF", "Flatten", "Affine", "LIF"]
    network = load(through_a_file(graph, tmp_path / "graph.nir"), dt=DT)
    assert 0.05 < model(x).mean() < 0.95
    assert torch.equal(network(x), model(x))
    assert network.input_shape == (2, 8, 8)
    assert torch.equal(torch.compile(network, backend="eager", fullgraph=True)(x), model(x))
    assert torch.equal(pickle.loads(pickle.dumps(copy.deepcopy(network)))(x), model(x))
    assert torch.equal(load(export(network, dt=DT), dt=DT)(x), model(x))


def test_signals_and_sums():
    model = nn.Sequential(
        EachStep(nn.Conv1d(3, 4, 3, padding="same", dilation=2)), LIF(0.9, reset="zero", threshold=0.5)
    )
    x = train(3, 9)
    assert torch.equal(load(export(model, x, dt=DT), dt=DT)(x), model(x))
    sums = nir.NIRGraph(
        nodes={
            "input": nir.Input({"input": np.array([2, 6, 4])}),
            "pool": nir.SumPool2d(np.array([2, 2]), np.array([1, 2]), np.array([1, 0])),
            "output": nir.Output({"output": np.array([2, 7, 2])}),
        },
        edges=[("input", "pool"), ("pool", "output")],
    )
    network = load(sums, dt=DT)
    expected = nn.functional.avg_pool2d(x := torch.rand(24, 2, 6, 4), 2, (1, 2), (1, 0)) * 4
    torch.testing.assert_close(network(x.unflatten(0, (4, 6))).flatten(0, 1), expected)
    assert kinds(export(network, dt=DT)) == ["SumPool2d"]


class Branched(nn.Module):
    """Two ways that meet, one of which is gone twice, and a convolution without EachStep."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)
        self.first = LIF(0.9, reset="zero", threshold=0.4)
        self.skip = hnn_nn.IIR((0.5,), (0.1,))
        self.rest = nn.Linear(3 * 16, 5)
        self.last = LIF(0.8, reset="zero", threshold=0.2)

    def forward(self, images):
        x = self.conv(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        spikes = self.first(x)
        both = spikes + self.skip(spikes) + spikes
        return self.last(self.rest(both.flatten(2)))


def test_a_forward_with_branches(tmp_path):
    model, x = Branched(), train(1, 4, 4)
    graph = export(model, x, dt=DT)
    assert kinds(graph) == ["Conv2d", "LIF", "LI", "Scale", "Flatten", "Affine", "LIF"]
    assert len(set(graph.edges)) == len(graph.edges)
    network = load(through_a_file(graph, tmp_path / "graph.nir"), dt=DT)
    assert 0.05 < model(x).mean() < 0.95
    assert torch.equal(network(x), model(x))
    assert torch.equal(load(export(network, dt=DT), dt=DT)(x), model(x))


def test_a_graph_inside_a_graph_is_a_part_of_it():
    inner = export(LIF(0.9, reset="zero"), (4,), dt=DT)
    outer = nir.NIRGraph(
        nodes={
            "in": nir.Input({"input": np.array([4])}), "a.b": inner, "keys": nir.Scale(np.full(4, 2.0)),
            "out": nir.Output({"output": np.array([4])}),
        },
        edges=[("in", "keys"), ("keys", "a.b"), ("a.b", "out")],
        type_check=False,
    )  # fmt: skip
    network, x = load(outer, dt=DT), train(4)
    assert torch.equal(network(x), LIF(0.9, reset="zero")(2 * x))
    out, state = network(x, return_state=True)
    assert list(state) == ["a.b.lif"]
    assert torch.equal(out, network(x))


def test_learnt_coefficients_and_low_precision_are_written():
    layer = LIF(0.5, reset="zero", learn=("decay", "threshold"), shape=(3,))
    with torch.no_grad():
        layer.decay.copy_(torch.tensor([0.25, 0.5, 0.75]))
    graph = export(nn.Sequential(nn.Linear(2, 3, dtype=torch.bfloat16), layer), (2,), dt=DT)
    np.testing.assert_allclose(graph.nodes["1"].tau, DT / np.array([0.75, 0.5, 0.25]))
    np.testing.assert_allclose(graph.nodes["1"].r, 1 / np.array([0.75, 0.5, 0.25]))
    assert graph.nodes["0"].weight.dtype == np.float32


def test_the_graph_shares_no_memory_with_the_model():
    model = nn.Linear(3, 2)
    graph = export(model, (3,), dt=DT)
    network = load(graph, dt=DT)
    before = network.layer("linear").weight.detach().clone()
    with torch.no_grad():
        model.weight.zero_()
    assert torch.equal(load(graph, dt=DT).layer("linear").weight, before)
    graph.nodes["linear"].weight[:] = 7
    assert torch.equal(network.layer("linear").weight, before)


@pytest.mark.parametrize("reset", [None, "zero", "subtract"])
def test_a_file_of_an_earlier_standard_subtracts(reset, tmp_path, monkeypatch):
    layer, x = LIF(0.9, reset=reset or "subtract", tie_fires=False), train(N)
    graph = export(LIF(0.9, reset="zero", tie_fires=False), x, dt=DT)
    path = through_a_file(graph, tmp_path / "old.nir")
    import h5py

    with h5py.File(path, "a") as file:
        del file["version"]
        file["version"] = b"1.0.4"
    if reset is None:
        with pytest.warns(UserWarning, match="written by nir before 1.0.6"):
            network = load(path, dt=DT)
    else:
        network = load(path, dt=DT, reset=reset)
    assert torch.equal(network(x), layer(x))


def test_a_filter_that_is_given_takes_off_later():
    layer, x = LIF(0.9, 0.0), train(N)
    graph = export(LIF(0.9, reset="zero"), x, dt=DT)
    assert torch.equal(load(graph, dt=DT, reset="filter", reset_decay=0.0)(x), layer(x))
