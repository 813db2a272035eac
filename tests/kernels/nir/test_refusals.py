"""A graph or a model that cannot be exchanged is refused by name."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from hnn_kernels import nn as hnn_nn
from hnn_kernels.nir import EachStep, export, load
from hnn_kernels.nn import LIF
from support.nir_graphs import DT, graph

nir = pytest.importorskip("nir", reason="NIR needs the extra 'nir'")


class Loops(nn.Module):
    """A forward that torch.fx cannot follow."""

    def forward(self, x):
        return x if x.sum() > 0 else -x


class Calls(nn.Module):
    """A forward that is a function of its layers."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.layer = LIF(0.9, reset="zero")

    def forward(self, x):
        return self.function(self, x)


def ones(n=4, value=1.0):
    return np.full(n, value)


def lif(n=4, **values):
    given = {"tau": 5e-3, "r": 1.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0} | values
    return nir.LIF(
        **{name: value if isinstance(value, np.ndarray) else ones(n, value) for name, value in given.items()}
    )


EXPORTS = {
    "no module": (lambda: "net", TypeError, "model must be a torch.nn.Module; got str"),
    "max pool": (lambda: nn.Sequential(EachStep(nn.MaxPool2d(2))), TypeError, "'0.0', a MaxPool2d, has no node in NIR"),
    "relu": (lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU()), TypeError, "'1', a ReLU, has no node"),
    "subclass": (lambda: type("Mine", (LIF,), {})(0.9), TypeError, "a Mine, has no node"),
    "decay above 1": (lambda: LIF(1.5, reset="zero"), ValueError, r"a LIF: a decay must be in \[0, 1\).*got 1.5"),
    "decay below 0": (lambda: LIF(-0.5, reset="zero"), ValueError, r"a decay must be in \[0, 1\).*got -0.5"),
    "some leak": (lambda: LIF(torch.tensor([0.5, 0.5, 0.5, 1.0]), reset="zero"), ValueError, "got 0.5 to 1"),
    "smooth": (lambda: LIF(0.9, reset="zero", smooth=True), ValueError, "smooth must be False"),
    "maximum": (
        lambda: LIF(0.9, reset="none", readout="none", potential="max"),
        ValueError, "potential must be 'none'",
    ),
    "complex poles": (lambda: hnn_nn.IIR((0.5, -0.5), (1.0,)), ValueError, "a filter must have real poles; got 0.25"),
    "negative pole": (lambda: hnn_nn.IIR((-0.5,), (1.0,)), ValueError, r"poles in \[0, 1\]; got -0.5"),
    "growing pole": (lambda: hnn_nn.IIR((1.5,), (1.0,)), ValueError, r"poles in \[0, 1\]; got 1.5"),
    "nothing": (lambda: hnn_nn.IIR((0.5,), (0.0, 0.0)), ValueError, "a feedforward coefficient that is not 0"),
    "shape": (
        lambda: LIF(torch.ones(3) / 2, reset="zero"),
        ValueError, r"broadcast to the features \(4,\); got \(3,\)",
    ),
    "size": (lambda: nn.Linear(5, 4), ValueError, r"the features must be \(5,\), one axis, as in NIR; got \(4,\)"),
    "conv alone": (lambda: nn.Conv1d(4, 1, 1), ValueError, "put it into an hnn_kernels.nn.EachStep"),
    "conv channels": (lambda: EachStep(nn.Conv2d(3, 1, 1)), ValueError, r"it does not take features of shape \(4,\)"),
    "mode": (lambda: EachStep(nn.Conv1d(4, 1, 1, padding_mode="circular")), ValueError, "padding_mode must be 'zeros'"),
    "divisor": (lambda: EachStep(nn.AvgPool2d(2, divisor_override=3)), ValueError, "divisor_override None or 1"),
    "padding": (
        lambda: EachStep(nn.AvgPool2d(2, padding=1, count_include_pad=False)),
        ValueError, "count_include_pad must be True",
    ),
    "time": (lambda: nn.Sequential(nn.Flatten()), ValueError, "must flatten axes of the features, which are 2 to 2"),
    "neurons of steps": (lambda: EachStep(LIF(0.9, reset="zero")), ValueError, "neurons and filters must see the time"),
    "dropout": (lambda: nn.Dropout(), ValueError, r"evaluation mode: call eval\(\)"),
    "control flow": (Loops, ValueError, "the forward of Loops must be layers and sums"),
    "product": (lambda: Calls(lambda m, x: m.layer(x) * 2), ValueError, "'mul' has no node in NIR"),
    "a state": (lambda: Calls(lambda m, x: m.layer(x, return_state=True)[0]), ValueError, "with its input alone"),
    "two outputs": (lambda: Calls(lambda m, x: (m.layer(x), x)), ValueError, "the output must be one train.*got tuple"),
    "folded": (lambda: Calls(lambda m, x: m.layer(x).flatten(0, 1)), ValueError, "model must return a train"),
    "shapes": (
        lambda: Calls(lambda m, x: m.layer(x) + m.layer(x).flatten(0, 1)),
        ValueError, "a sum must be of trains of one shape",
    ),
    "unfolded": (lambda: Calls(lambda m, x: x.unflatten(0, (2, 2))), ValueError, r"must undo flatten\(0, 1\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPORTS)
def test_export(name):
    make, error, message = EXPORTS[name]
    with pytest.raises(error, match=message):
        export(make(), (4,), dt=DT)


def test_arguments_of_export():
    layer = LIF(0.9, reset="zero")
    with pytest.raises(TypeError, match="dt"):
        export(layer, (4,))
    with pytest.raises(ValueError, match="dt must be a finite number above 0; got 0"):
        export(layer, (4,), dt=0)
    with pytest.raises(ValueError, match="method must be one of 'euler', 'exponential'; got 'heun'"):
        export(layer, (4,), dt=DT, method="heun")
    with pytest.raises(ValueError, match=r"a decay must be in \(0, 1\)"):
        export(LIF(0.0, reset="zero"), (4,), dt=DT, method="exponential")
    with pytest.raises(TypeError, match="a LIF knows none"):
        export(layer, dt=DT)
    with pytest.raises(ValueError, match="sample_or_shape"):
        export(layer, torch.ones(3), dt=DT)


def without(kind):
    made = graph((4,), n=lif())
    made.nodes = {name: node for name, node in made.nodes.items() if type(node).__name__ != kind}
    made.edges = [edge for edge in made.edges if set(edge) <= set(made.nodes)]
    return made


CIRCLE = [("input", "n"), ("n", "w"), ("w", "n"), ("n", "output")]
LOADS = {
    "no graph": (lambda: 3, TypeError, "source must be a NIRGraph or the path of a file; got int"),
    "unknown": (
        lambda: graph((4,), n=type("Sigmoid", (), {})()),
        NotImplementedError, r"node 'n' is a Sigmoid; allowed are \['Affine'",
    ),
    "circle": (
        lambda: graph((4,), CIRCLE, n=lif(), w=nir.Linear(np.eye(4))),
        ValueError, "no cycle; got (n -> w -> n|w -> n -> w)",
    ),
    "edge": (lambda: graph((4,), [("input", "m")], n=lif()), ValueError, "edge 'input' -> 'm', and no node 'm'"),
    "no edge": (
        lambda: graph((4,), [("n", "output")], n=lif()),
        ValueError, "node 'n', a LIF, must have an edge that ends in it",
    ),
    "no input": (lambda: without("Input"), ValueError, "the graph must have one Input; got none"),
    "no output": (lambda: without("Output"), ValueError, "the graph must have one Output; got none"),
    "two inputs": (
        lambda: graph((4,), m=nir.Input({"input": np.array([4])})),
        ValueError, "must have one Input; got ['m', 'input']",
    ),
    "no shape": (lambda: graph(None, n=lif()), ValueError, "node 'input', an Input, must have a shape"),
    "neurons": (lambda: graph((5,), n=lif()), ValueError, r"node 'n', a LIF: v_threshold must have the shape \(5,\)"),
    "weights": (
        lambda: graph((5,), w=nir.Linear(np.eye(4))),
        ValueError, r"node 'w', a Linear: its input must have the shape \(4,\)",
    ),
    "axes": (lambda: graph((4,), w=nir.Linear(np.ones((2, 4, 4)))), ValueError, "weight must have two axes"),
    "sum": (
        lambda: graph(
            (4,), [("input", "w"), ("w", "n"), ("input", "n"), ("n", "output")], w=nir.Linear(np.ones((3, 4))), n=lif(3)
        ),
        ValueError, "node 'n' must have sources of one shape, which are added; got {",
    ),
    "tau": (
        lambda: graph((4,), n=lif(tau=1e-4)),
        ValueError, "node 'n', a LIF: a time constant must be at least dt = 0.001",
    ),
    "delay": (lambda: graph((4,), n=nir.Delay(ones(value=1.5 * DT))), ValueError, "a whole number of steps of dt"),
    "image": (
        lambda: graph((4,), n=nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))),
        ValueError, "node 'n', a AvgPool2d: its input must have the shape",
    ),
    "channels": (
        lambda: graph((4, 5, 5), n=nir.Conv2d(None, np.ones((2, 3, 1, 1)), 1, 0, 1, 1, np.zeros(2))),
        ValueError, "its input must have 3 channels and 2 more axes",
    ),
    "axes to flatten": (
        lambda: graph((4, 2), n=nir.Flatten({"input": np.array([4, 2])}, 2, 2)),
        ValueError, "it must flatten axes of its input",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOADS)
def test_load(name):
    make, error, message = LOADS[name]
    with pytest.raises(error, match=message.replace("['m'", r"\['m'").replace("'input']", r"'input'\]")):
        load(make(), dt=DT)


def test_arguments_of_load(tmp_path):
    made = graph((4,), n=lif())
    with pytest.raises(TypeError, match="dt"):
        load(made)
    with pytest.raises(ValueError, match=r"options must be one of 'sigma'.*got 'readout'"):
        load(made, dt=DT, readout="count")
    with pytest.raises(ValueError, match="reset must be one of 'zero', 'subtract', 'filter'; got 'none'"):
        load(made, dt=DT, reset="none")
    for wrong in ({"reset": "filter"}, {"reset": "zero", "reset_decay": 0.5}, {"reset_decay": 0.5}):
        with pytest.raises(ValueError, match="reset_decay must be a number with reset='filter' alone"):
            load(made, dt=DT, **wrong)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.nir", dt=DT)
    for away in ({"v_reset": -0.2}, {"v_leak": 0.1}):
        with pytest.raises(ValueError, match=r"node 'n', a LIF: v_reset and v_leak must be 0 with reset='subtract'"):
            load(graph((4,), n=lif(**away)), dt=DT, reset="subtract")


def test_a_reset_filter_counts_steps():
    with pytest.warns(UserWarning, match="reset='filter'"):
        made = export(LIF(0.9, 0.5), (4,), dt=DT)
    with pytest.raises(ValueError, match=r"node 'lif', a LIF: dt must be 0.001.*got 0.0005"):
        load(made, dt=DT / 2)
    made.nodes["lif"].metadata["hnn_kernels"]["reset"] = "upwards"
    with pytest.raises(ValueError, match="its reset must be 'zero', 'subtract' or 'filter'; got 'upwards'"):
        load(made, dt=DT)


def test_calls_of_a_network():
    network = load(graph((4,), n=lif()), dt=DT)
    with pytest.raises(ValueError, match=r"input must be \[T, B, 4\]; got shape \(3, 2, 5\)"):
        network(torch.ones(3, 2, 5))
    with pytest.raises(TypeError, match="input"):
        network(torch.ones(3, 2, 4, dtype=torch.int))
    with pytest.raises(ValueError, match=r"state must have the states of the nodes \['n'\]; got \['m'\]"):
        network(torch.ones(3, 2, 4), state={"m": None})


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "nir", None)
    for call in (lambda: load("x", dt=DT), lambda: export(nn.Linear(2, 2), (2,), dt=DT)):
        with pytest.raises(ModuleNotFoundError, match=r"the extra 'nir': pip install 'hnn-kernels\[nir\]'"):
            call()


@pytest.mark.parametrize("version", ["1.0.4", "1.0.6.dev2"])
def test_an_old_package(version, monkeypatch):
    monkeypatch.setattr(nir, "__version__", version)
    with pytest.raises(ImportError, match=rf"needs nir >= 1.0.7; got {version}"):
        load("x", dt=DT)
