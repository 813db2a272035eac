"""Recurrent layers against the plain loop that defines them: outputs, states and gradients."""

import pytest
import torch
from torch import nn

from hnn_kernels.nn import LIF, Recurrent, SpikeLinear
from support.comparisons import as_good_as_the_loop, equal_bits
from support.recurrent import DEFINED, MODULES, NEURONS, WEIGHTS, current, gradients, layer, loop, tensors
from support.targets import NEEDS_CPU

LAYERS = [(n, w) for n in NEURONS for w in WEIGHTS if w != "spikes" or n not in ("axon", "iir")]
DEFINITIONS = [(n, w) for n in DEFINED for w in WEIGHTS]


def hold(neuron: str, weight: str, backend: str, dtype: torch.dtype, device: str, exact: bool) -> None:
    """Check a layer against the loop over the reference's steps, and its gradients against those in float64."""
    x = current(dtype=dtype).to(device)
    made, reference = (layer(neuron, weight, name, dtype).to(device) for name in (backend, "reference"))
    got, expected = made(x, return_state=True), loop(reference, x)
    for mine, plain in zip(tensors(got), tensors(expected), strict=True):
        if exact:
            equal_bits(mine, plain, f"{neuron}, {weight}")
        else:
            torch.testing.assert_close(mine, plain)
    options = {"return_state": True}
    truth = gradients(layer(neuron, weight, "reference", dtype).double().to(device), x.double(), loop)
    plain = gradients(reference, x, loop)
    as_good_as_the_loop(gradients(made, x, **options), plain, truth)


# A number or a vector is a part of the step, for which each neuron and dtype is compiled: float64 for one of them.
CASES = [(n, w, torch.float32) for n, w in LAYERS]
CASES += [(n, w, torch.float64) for n, w in LAYERS if w in MODULES or n == "filter"]


@pytest.mark.parametrize(("neuron", "weight", "dtype"), CASES)
def test_a_layer_is_the_plain_loop(any_target, neuron, weight, dtype):
    hold(neuron, weight, any_target.backend, dtype, any_target.device, any_target.exact)


@NEEDS_CPU
@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize(("neuron", "weight"), DEFINITIONS)
def test_a_neuron_by_definition_is_the_plain_loop(neuron, weight, backend):
    # A sigmoid in its step: two libraries may round it apart (docs/neurons.md).
    hold(neuron, weight, backend, torch.float32, "cpu", exact=neuron != "plif")


@pytest.mark.parametrize("weight", ["matrix", "module", "number"])
def test_a_count_is_the_sum_of_the_spikes(any_target, weight):
    x = current().to(any_target.device)
    made = layer("filter", weight, any_target.backend).to(any_target.device)
    counted = layer("filter", weight, any_target.backend, readout="count").to(any_target.device)
    spikes, count = made(x, return_state=True), counted(x, return_state=True)
    equal_bits(count[0], spikes[0].sum(0), "count")
    for a, b in zip(tensors(count[1]), tensors(spikes[1]), strict=True):
        equal_bits(a, b, "state")
    x.requires_grad_()
    g = torch.randn(x.shape[1:], device=x.device)
    parameters = [x, *made.parameters()]
    expected = torch.autograd.grad(made(x), parameters, g.expand(x.shape))
    for got, want in zip(torch.autograd.grad(counted(x), [x, *counted.parameters()], g), expected, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("weight", ["matrix", "module", "vector"])
def test_a_constant_current(any_target, weight):
    x = current().to(any_target.device)[0]
    made = layer("synapse", weight, any_target.backend).to(any_target.device)
    spread = x.expand(5, *x.shape)
    equal_bits(made(x, steps=5), made(spread), "constant in time")
    got = gradients(made, x, steps=5)
    want = gradients(made, spread)
    torch.testing.assert_close(got.pop("current"), want.pop("current").sum(0))
    for name, gradient in got.items():
        torch.testing.assert_close(gradient, want[name])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("weight", ["matrix", "module", "vector"])
def test_sixteen_bits(weight, dtype):
    x = current(dtype=dtype)
    made, plain = (layer("filter", weight, backend, dtype) for backend in (None, "reference"))
    equal_bits(made(x), plain(x), "spikes")
    expected = gradients(plain, x)
    for name, got in gradients(made, x).items():
        # Both sum over 6 steps and 7 neurons in the dtype, each in an order of its own: some ten roundings.
        tolerance = 10 * torch.finfo(dtype).eps
        scale = expected[name].abs().max().item()
        torch.testing.assert_close(got, expected[name], rtol=tolerance, atol=tolerance * scale, msg=name)


@NEEDS_CPU
@pytest.mark.parametrize("features", [64, 200])
@pytest.mark.parametrize("bias", [True, False])
def test_few_spikes_of_many_neurons(features, bias):
    """At this size the gradient of the matrix goes over the spikes, and with SpikeLinear forward does too."""
    torch.manual_seed(1)
    x = torch.randn(9, 66, features) * 0.5
    dense, sparse = nn.Linear(features, features, bias), SpikeLinear(features, features, bias)
    sparse.load_state_dict(dense.state_dict())
    for weight in (dense, sparse):
        made, plain = (Recurrent(LIF(0.7, backend=b), weight) for b in ("cpu", "reference"))
        out = made(x)
        assert 0 < out.mean() < 0.2
        if weight is dense:
            equal_bits(out, loop(plain, x)[0], "spikes")
        got, want = gradients(made, x), gradients(plain, x, lambda made, x: loop(made, x)[0])
        for name, gradient in got.items():
            torch.testing.assert_close(gradient, want[name], rtol=1e-4, atol=1e-4 * want[name].abs().max().item())


@pytest.mark.parametrize("weight", MODULES[:3])
def test_equal_calls_give_equal_bits(weight):
    x, made = current(), layer("filter", weight, None)
    first, second = gradients(made, x), gradients(made, x)
    for name, gradient in first.items():
        equal_bits(gradient, second[name], name)


def test_a_convolution():
    torch.manual_seed(0)
    made = Recurrent(LIF(0.8), nn.Conv2d(2, 2, 3, padding=1))
    x = current((5, 3, 2, 6, 6))
    equal_bits(made(x), loop(made, x)[0], "spikes")
    as_loop = gradients(made, x, lambda made, x: loop(made, x)[0])
    for name, gradient in gradients(made, x).items():
        torch.testing.assert_close(gradient, as_loop[name])


def test_a_matrix_is_of_the_last_axis_of_the_features():
    torch.manual_seed(0)
    made = Recurrent(LIF(0.8), nn.Linear(6, 6))
    x = current((5, 3, 2, 6))
    equal_bits(made(x), loop(made, x)[0], "spikes")
    as_loop = gradients(made, x, lambda made, x: loop(made, x)[0])
    for name, gradient in gradients(made, x).items():
        torch.testing.assert_close(gradient, as_loop[name])
