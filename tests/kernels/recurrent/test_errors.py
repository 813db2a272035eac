"""The errors of recurrent layers: the message names the argument, what was given, and what is allowed."""

import pytest
import torch
from torch import nn

import hnn_kernels
from hnn_kernels import RecurrentState
from hnn_kernels.nn import LIF, Neuron, Recurrent, SpikeLinear
from support.recurrent import current


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((nn.Linear(3, 3), 0.1), TypeError, "neurons must be .* got Linear"),
        ((LIF(0.5), "0.1"), TypeError, "weight must be a finite number; got '0.1'"),
        ((LIF(0.5), float("nan")), ValueError, "weight must be a finite number; got nan"),
        ((LIF(0.5), torch.ones(3, dtype=torch.int64)), TypeError, "weight must have one of the dtypes"),
    ],
)
def test_arguments_of_the_module(arguments, error, message):
    with pytest.raises(error, match=message):
        Recurrent(*arguments)


@pytest.mark.parametrize(
    ("weight", "options", "error", "message"),
    [
        (nn.Linear(5, 5), {}, ValueError, r"weight must be a matrix of the last axis .* \(7,\) .* got shape \(5, 5\)"),
        (nn.Linear(7, 7).double(), {}, TypeError, "weight must be float32, as current is; got float64"),
        (nn.Sequential(nn.Linear(7, 5)), {}, ValueError, r"weight must turn .* \(3, 7\).* got shape \(3, 5\)"),
        (torch.ones(5), {}, ValueError, r"weight must broadcast against the features \(7,\)"),
        (torch.ones(7).double(), {}, TypeError, "weight must be float32 for this current"),
        (0.1, {"state": torch.ones(3, 7)}, TypeError, "state must be a RecurrentState .* got Tensor"),
        (0.1, {"state": RecurrentState(torch.ones(3, 5), None)}, ValueError, r"state.out must have the shape \(3, 7\)"),
        (0.1, {"state": RecurrentState(torch.ones(3, 7), 1)}, TypeError, "state must be a LIFState"),
        (0.1, {"steps": -1}, ValueError, "steps must be at least 0"),
    ],
)
def test_arguments_of_a_call(weight, options, error, message):
    x = current() if "steps" not in options else current()[0]
    with pytest.raises(error, match=message):
        Recurrent(LIF(0.5), weight)(x, **options)


def test_a_current_without_features_has_no_matrix():
    with pytest.raises(ValueError, match="weight must be a matrix of the last axis of the features"):
        Recurrent(LIF(0.5), nn.Linear(3, 3))(torch.ones(4, 3))


@pytest.mark.parametrize("weight", [0.1, nn.Linear(7, 7)], ids=["number", "matrix"])
def test_a_filter_takes_a_train(weight):
    made = Recurrent(hnn_kernels.nn.IIR((0.5,), (1.0,)), weight)
    with pytest.raises(TypeError, match=r"steps must be None over an nn\.IIR, which takes a train; got 5"):
        made(current()[0], steps=5)


def test_products_with_spikes_refuse_what_is_none():
    """The kernel of products takes 64 rows and more."""
    made = Recurrent(LIF(0.5, smooth=True), SpikeLinear(128, 128))
    with pytest.raises(ValueError, match="must hold 0 and 1 only"):
        made(current((3, 70, 128)))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"gain": 2.0}, TypeError, r"has the coefficients \('w', 'threshold'\); got \['gain'\]"),
        ({"learn": ("v",)}, ValueError, "learn must be one of 'w', 'threshold'"),
        ({"learn": "w"}, TypeError, "learn must be a sequence of names"),
        ({"w": "2"}, TypeError, "w must be a finite number"),
        ({"learn": ("w",), "w": torch.ones(3), "shape": (2,)}, ValueError, r"w must broadcast to the shape \(2,\)"),
        ({"checkpoint_every": 0}, ValueError, "checkpoint_every must be at least 1"),
    ],
)
def test_arguments_of_a_neuron(options, error, message):
    with pytest.raises(error, match=message):
        Neuron(hnn_kernels.neurons.plif, **options)


def test_a_neuron_is_a_definition():
    with pytest.raises(TypeError, match=r"definition must be what hnn_kernels\.neuron returned; got function"):
        Neuron(lambda x: x)


def test_without_a_compiler_each_step_is_a_kernel(monkeypatch):
    """The built-in layer needs none: the loop over its steps gives the bits of the one kernel."""
    from hnn_kernels._define import compiled, recurrent

    x, made = current(), Recurrent(LIF(0.8), 0.3)
    expected = made(x)

    def none():
        raise compiled.CompilerError("no compiler")

    monkeypatch.setattr(recurrent, "_compiler_of_the_machine", none)
    assert torch.equal(made(x), expected)
