"""Strides: a view gives the same numbers as its contiguous copy."""

import re

import pytest
import torch

from hnn_kernels import LIFState
from support.comparisons import equal_bits, same_spikes
from support.layers import PARAMETERS, inputs, replace, results, run, tensors
from support.layouts import LAYOUTS, SHAPE
from support.targets import dtype_id


def differentiate(arguments, backend, incoming, **options):
    leaves = {name: value.detach().requires_grad_() for name, value in tensors(arguments).items()}
    out, state = run(replace(arguments, **leaves), backend, **options)
    return dict(
        zip(
            leaves,
            torch.autograd.grad(list(results(out, state).values()), list(leaves.values()), incoming),
            strict=True,
        )
    )


def random_like(*results):
    return [torch.randn_like(t, memory_format=torch.contiguous_format) for t in results]


def same_gradients(got, expected):
    """Check for equal bits per neuron. A sum over neurons may add them in another order."""
    for name, gradient in got.items():
        if name in PARAMETERS:
            rounding = 16 * torch.finfo(gradient.dtype).eps
            # Relative to the largest value, because a sum may cancel. Measured: 3.4 eps.
            scale = expected[name].abs().max().item()
            torch.testing.assert_close(gradient, expected[name], rtol=0, atol=rounding * scale, msg=name)
        else:
            equal_bits(gradient, expected[name], f"gradient of {name}")


def layer(target, current, steps=None):
    """The state and the per-channel and per-neuron coefficients for a current of the module's shape."""
    other = inputs(SHAPE, dtype=current.dtype, device=target.device, kind="mixed", state=True)
    return {**other, "current": current, "steps": steps}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=dtype_id)
@pytest.mark.parametrize("readout", ["spikes", "count"])
def test_current(target, layout, dtype, readout):
    numbers = inputs(SHAPE, dtype=dtype, device=target.device)["current"]
    arguments = layer(target, LAYOUTS[layout](numbers))
    contiguous = {**arguments, "current": arguments["current"].contiguous()}

    out, state = run(arguments, target.backend, readout=readout)
    expected, expected_state = run(contiguous, target.backend, readout=readout)

    equal_bits(out, expected, "out")
    equal_bits(state.v, expected_state.v, "state.v")
    equal_bits(state.r, expected_state.r, "state.r")
    if readout == "spikes":
        assert out.stride() == torch.empty_like(arguments["current"]).stride()
        same_spikes(target, out, arguments)
    incoming = random_like(*results(out, state).values())
    same_gradients(
        differentiate(arguments, target.backend, incoming, readout=readout),
        differentiate(contiguous, target.backend, incoming, readout=readout),
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_constant_current(target, layout):
    current = LAYOUTS[layout](inputs(SHAPE, device=target.device)["current"])[1]
    arguments = layer(target, current, steps=SHAPE[0])
    contiguous = {**arguments, "current": current.contiguous()}
    out, state = run(arguments, target.backend)
    same_spikes(target, out, arguments)
    assert out.stride()[1:] == torch.empty_like(current).stride()
    incoming = random_like(*results(out, state).values())
    same_gradients(
        differentiate(arguments, target.backend, incoming), differentiate(contiguous, target.backend, incoming)
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_state(target, layout):
    arguments = layer(target, inputs(SHAPE, device=target.device)["current"])
    # Two different steps of the view, so that v and r have the strides but not each other's numbers.
    steps = LAYOUTS[layout](inputs(SHAPE, device=target.device, seed=1)["current"])
    strided = {**arguments, "state": LIFState(steps[0], steps[2])}
    contiguous = {**arguments, "state": LIFState(steps[0].contiguous(), steps[2].contiguous())}
    out, state = run(strided, target.backend)
    same_spikes(target, out, contiguous)
    incoming = random_like(*results(out, state).values())
    same_gradients(
        differentiate(strided, target.backend, incoming), differentiate(contiguous, target.backend, incoming)
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("current_layout", ["contiguous", "channels last"])
@pytest.mark.parametrize("readout", ["spikes", "count"])
def test_incoming_gradient(target, layout, current_layout, readout):
    """Gradients arrive in any layout, such as expanded from one number by ``.sum()``."""
    numbers = inputs(SHAPE, device=target.device)["current"]
    arguments = layer(target, LAYOUTS[current_layout](numbers))
    view = LAYOUTS[layout](inputs(SHAPE, device=target.device, seed=2)["current"])
    incoming = [view if readout == "spikes" else view[3], view[0], view[1]]
    same_gradients(
        differentiate(arguments, target.backend, incoming, readout=readout),
        differentiate(arguments, target.backend, [g.contiguous() for g in incoming], readout=readout),
    )


def test_sum_as_loss(target):
    """``.sum()`` gives the expanded gradient that is the most common."""
    arguments = layer(target, inputs(SHAPE, device=target.device)["current"])
    for backward in (lambda out: out.sum(), lambda out: out.mean((0, 2)).sum(), lambda out: out[-1].sum()):
        found = []
        for backend in (target.backend, "reference"):
            current = arguments["current"].detach().requires_grad_()
            out, _ = run({**arguments, "current": current}, backend)
            found += torch.autograd.grad(backward(out), current)
        # Measured: 1.2e-7, or 1.6 eps of the largest.
        torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-6)


def test_axes_of_size_one_with_strange_strides(target):
    """An axis of size 1 may have any stride, and torch still calls the tensor contiguous."""
    numbers = inputs((5, 1, 6), device=target.device)["current"]
    odd = numbers.as_strided((5, 1, 6), (6, 99991, 1))
    arguments = {**inputs((5, 1, 6), device=target.device, kind="neuron"), "current": odd}
    same_spikes(target, run(arguments, target.backend)[0], arguments)
    one_step = numbers[:1].as_strided((1, 1, 6), (7, 3, 1))
    arguments = {**arguments, "current": one_step}
    same_spikes(target, run(arguments, target.backend)[0], arguments)


@pytest.mark.parametrize("axes", [7, 8, 12])
def test_many_axes(target, axes):
    """A tensor with more axes than a kernel has room for gives correct numbers, or an error that says so."""
    sizes = [2 if i % 3 else 1 for i in range(axes)]
    arguments = inputs((3, 2, *sizes), device=target.device)
    current = arguments["current"].permute(0, *reversed(range(1, axes + 2))).contiguous()
    current = current.permute(0, *reversed(range(1, axes + 2)))
    message = ""
    try:
        same_spikes(target, run({**arguments, "current": current}, target.backend)[0], arguments)
    except RuntimeError as error:
        message = str(error)
    assert not message or re.search(r"axes per step; at most \d+", message), message
    # Eight axes per step, the batch among them, are within every backend's reach.
    assert not message or axes > 7
