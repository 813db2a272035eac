"""The gradients of every kernel backend against autograd through the plain loop, and against finite differences."""

import pytest
import torch

from hnn_kernels._layer import COEFFICIENTS, RESET_GRADS
from support.comparisons import equal_bits, hold_derivative, hold_gradients
from support.layers import DTYPES, KINDS, LOW, THROUGH, gradients, inputs, replace, reset_of, run, tensors
from support.targets import dtype_id


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reset_grad", RESET_GRADS)
def test_every_gradient(target, dtype, kind, reset_grad):
    arguments = inputs((9, 2, 3, 5), dtype=dtype, device=target.device, kind=kind, state=True)
    found = hold_gradients(target, arguments, reset_grad=reset_grad)
    assert all(g.abs().max() > 0 for g in found.values()), "a gradient that is all zero proves nothing"


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
@pytest.mark.parametrize("steps", [None, 9], ids=["train", "constant"])
@pytest.mark.parametrize("readout", ["spikes", "count"])
@pytest.mark.parametrize("state", [False, True], ids=["zero", "state"])
@pytest.mark.parametrize("smooth", [False, True], ids=["hard", "smooth"])
def test_every_form_of_call(target, dtype, steps, readout, state, smooth):
    shape = (2, 3, 5) if steps else (9, 2, 3, 5)
    arguments = inputs(shape, dtype=dtype, device=target.device, kind="mixed", state=state, steps=steps)
    hold_gradients(target, arguments, readout=readout, smooth=smooth)


@pytest.mark.parametrize("through", THROUGH, ids="+".join)
@pytest.mark.parametrize("reset_grad", RESET_GRADS)
@pytest.mark.parametrize("readout", ["spikes", "count"])
def test_gradients_coming_in_through(target, through, reset_grad, readout):
    arguments = inputs((7, 2, 3, 5), device=target.device, kind="neuron", state=True)
    hold_gradients(target, arguments, through=through, reset_grad=reset_grad, readout=readout)


@pytest.mark.parametrize("wanted", ["current", *COEFFICIENTS, "v", "r"])
@pytest.mark.parametrize("kind", ["scalar", "channel", "neuron"])
def test_one_gradient_alone_is_the_one_among_all(target, wanted, kind):
    """A gradient has the same bits, whichever others are asked for."""
    arguments = inputs((7, 2, 3, 5), device=target.device, kind=kind, state=True, reset=reset_of(wanted))
    together = gradients(arguments, target.backend)
    alone = gradients(arguments, target.backend, wanted=[wanted])
    equal_bits(alone[wanted], together[wanted], wanted)


@pytest.mark.parametrize("sigma", [0.05, 0.4, 3.0])
def test_widths_of_the_surrogate(target, sigma):
    arguments = inputs((9, 2, 3, 5), device=target.device, kind="mixed", state=True)
    hold_gradients(target, arguments, sigma=sigma)
    hold_gradients(target, arguments, sigma=sigma, smooth=True)


@pytest.mark.parametrize("neurons", [1, 17, 63, 64, 65, 127, 500])
def test_odd_numbers_of_neurons(target, neurons):
    hold_gradients(target, inputs((4, 3, neurons), device=target.device, kind="neuron", state=True))
    hold_gradients(target, inputs((3, neurons, 2), device=target.device, kind="scalar"))


@pytest.mark.parametrize("steps", [1, 2, 31, 64, 101])
@pytest.mark.parametrize("constant", [False, True], ids=["train", "constant"])
def test_odd_numbers_of_steps(target, steps, constant):
    """The first and the last step, and lengths around those in which a kernel might stage or checkpoint time."""
    shape = (2, 7) if constant else (steps, 2, 7)
    arguments = inputs(shape, device=target.device, kind="neuron", state=True, steps=steps if constant else None)
    hold_gradients(target, arguments)


@pytest.mark.parametrize(
    "shape", [(), (1,), (5,), (3, 1), (1, 5), (4, 1, 1), (1, 3, 1), (4, 1, 5), (1, 1, 1), (4, 3, 5)], ids=str
)
def test_every_way_to_broadcast_a_coefficient(target, shape):
    arguments = inputs((6, 2, 4, 3, 5), device=target.device)
    for i, name in enumerate(("decay", "reset_decay", "threshold")):
        arguments[name] = torch.rand(shape, generator=torch.Generator().manual_seed(i)).add(0.2).to(target.device)
    hold_gradients(target, arguments)


@pytest.mark.parametrize("dtype", LOW, ids=dtype_id)
def test_coefficients_in_the_dtype_of_a_narrow_current(target, dtype):
    """A layer moved to bfloat16 as a whole: its coefficients are widened, and their gradients come back narrow."""
    arguments = inputs((9, 2, 3, 5), dtype=dtype, device=target.device, kind="neuron")
    for name in ("decay", "reset_decay", "threshold"):
        arguments[name] = arguments[name].to(dtype)
    found = hold_gradients(target, arguments)
    assert all(g.dtype == dtype for g in found.values())


@pytest.mark.parametrize(
    ("shape", "steps"),
    [((0, 2, 3), None), ((2, 3), 0), ((5, 0, 3), None), ((0, 3), 5), ((5, 2, 0), None)],
    ids=["T=0", "T=0 constant", "B=0", "B=0 constant", "no features"],
)
@pytest.mark.parametrize("kind", ["scalar", "neuron"])
@pytest.mark.parametrize("readout", ["spikes", "count"])
def test_empty(target, shape, steps, kind, readout):
    """Sums over nothing are zero, and with no step the state's gradient passes through."""
    arguments = inputs(shape, device=target.device, kind=kind, steps=steps, state=True)
    got = gradients(arguments, target.backend, readout=readout)
    expected = gradients(arguments, "reference", readout=readout)
    for name in got:
        equal_bits(got[name], expected[name], name)


@pytest.mark.parametrize("kind", ["scalar", "channel", "neuron"])
@pytest.mark.parametrize("readout", ["spikes", "count"])
@pytest.mark.parametrize("steps", [None, 4], ids=["train", "constant"])
def test_smooth_mode_is_a_function_with_its_derivative(target, kind, readout, steps):
    """Every differentiable input at once, through all three results, against finite differences in float64."""
    arguments = inputs(
        (2, 2, 2) if steps else (4, 2, 2, 2), dtype=torch.float64, device=target.device, kind=kind, state=True,
        steps=steps,
    )  # fmt: skip
    hold_derivative(target.backend, arguments, fast=target.interpreted, smooth=True, readout=readout)


def test_a_layer_that_never_fires_is_linear_and_differentiable(target):
    """Far below the threshold the density is zero and V is the leaky sum: gradcheck holds in the hard mode too."""
    arguments = inputs((4, 2, 3), dtype=torch.float64, device=target.device, kind="scalar", state=True)
    arguments["threshold"] = torch.tensor(100.0, dtype=torch.float64, device=target.device)
    arguments["state"].r.zero_()
    current, v = arguments["current"].requires_grad_(), arguments["state"].v.requires_grad_()

    def potential(x, v0):
        return run(replace(arguments, current=x, v=v0), target.backend)[1].v

    assert torch.autograd.gradcheck(potential, (current, v))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=dtype_id)
def test_sums_over_many_neurons_and_steps(target, dtype):
    """One threshold for 15,000 neuron-steps: a sum kept in a narrow type, or in one long chain, drifts from truth."""
    shape = (30, 20, 25) if not target.interpreted else (30, 4, 25)
    arguments = inputs(shape, dtype=dtype, device=target.device, kind="scalar", state=True)
    hold_gradients(target, arguments)


@pytest.mark.parametrize("position", [0, 3, 6])
def test_a_nan_gradient_stays_in_its_neuron_and_its_past(target, position):
    arguments = inputs((7, 2, 40), device=target.device, state=True, kind="neuron")
    leaves = {name: value.requires_grad_() for name, value in tensors(arguments).items()}

    def grads(backend):
        out, _ = run(replace(arguments, **leaves), backend)
        incoming = torch.ones_like(out)
        incoming[position, 1, 11] = torch.nan
        return dict(zip(leaves, torch.autograd.grad(out, list(leaves.values()), incoming), strict=True))

    got, expected = grads(target.backend), grads("reference")
    for name in got:
        assert torch.equal(got[name].isnan(), expected[name].isnan()), name


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf], ids=str)
def test_a_current_that_is_not_finite(target, value):
    """Gradients are not finite where the loop's are not, and nowhere else."""
    arguments = inputs((6, 2, 40), device=target.device, state=True, kind="neuron")
    arguments["current"][2, 1, 7] = value
    got, expected = gradients(arguments, target.backend), gradients(arguments, "reference")
    for name in got:
        # Measured: 1e-6, or 1.8 eps of the largest.
        torch.testing.assert_close(got[name], expected[name], equal_nan=True, rtol=1e-5, atol=1e-5, msg=name)
