"""Every reset with every surrogate: the reference against equations, and the kernels against the reference."""

import math

import numpy as np
import pytest
import torch

import hnn_kernels
from hnn_kernels import SURROGATES, LIFState
from hnn_kernels._layer import RESETS
from support.comparisons import equal_bits, hold_derivative, hold_forward, hold_gradients, hold_smooth, potentials
from support.errors import refuses
from support.layers import DTYPES, KINDS, RESETS_AND_GRADS, WIDTHS, gradients, in_pieces, inputs, replace, run, tensors
from support.targets import dtype_id

# -- the resets, written out -------------------------------------------------------------------------------------------

# Decay 1/2, threshold 1; every number is exact in binary.
#   subtract:  V = 1.5 (leaves 0.5), 0.75, 1.375 (0.375), 0.1875, 2.09375 (1.09375), 1.046875 (0.046875)
#   zero:      V = 1.5 (leaves 0),   0.5,  1.25 (0),      0,      2 (0),             0.5
#   none:      V = 1.5,              1.25, 1.625,         0.8125, 2.40625,           1.703125
X = [1.5, 0.5, 1.0, 0.0, 2.0, 0.5]
EXAMPLES = {
    "subtract": ([1, 0, 1, 0, 1, 1], 0.046875),
    "zero": ([1, 0, 1, 0, 1, 0], 0.5),
    "none": ([1, 1, 1, 0, 1, 1], 1.703125),
}


@pytest.mark.parametrize("reset", EXAMPLES)
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
def test_example(any_target, reset, dtype):
    current = torch.tensor(X, dtype=dtype, device=any_target.device)[:, None, None]
    out, state = hnn_kernels.lif(current, 0.5, None, 1.0, reset=reset, backend=any_target.backend)
    spikes, v = EXAMPLES[reset]
    assert out.flatten().tolist() == spikes
    assert state.v.item() == v
    assert state.r.item() == 0


@pytest.mark.parametrize("reset", EXAMPLES)
def test_the_reset_variable_passes_through(any_target, reset):
    """A reset without a reset variable returns the state's r unchanged, and its gradient too."""
    arguments = inputs((5, 2, 3), device=any_target.device, reset=reset, state=True)
    _, state = run(arguments, any_target.backend)
    equal_bits(state.r, arguments["state"].r, "r")
    found = gradients(arguments, any_target.backend, through=("r",))
    assert found["r"].all()
    assert not found["current"].any()
    other = replace(arguments, r=torch.zeros_like(state.r))
    equal_bits(run(other, any_target.backend)[0], run(arguments, any_target.backend)[0], "spikes")


@pytest.mark.parametrize("reset", EXAMPLES)
@pytest.mark.parametrize("reset_grad", ["full", "detach"])
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_the_gradient_is_the_adjoint_recurrence(reset, reset_grad, surrogate):
    arguments = inputs((8, 2, 5), dtype=torch.float64, kind="neuron", reset=reset)
    decay, threshold = (arguments[name].numpy() for name in ("decay", "threshold"))
    v = potentials(arguments)[0]
    spikes = run(arguments, "reference")[0].numpy()
    epsilon = SURROGATES[surrogate].density(v - arguments["threshold"], 0.4, period=arguments["threshold"]).numpy()
    v, delta = v.numpy(), np.random.default_rng(0).standard_normal(v.shape)
    # V after the reset, from V before it and the spike.
    by_v = {"subtract": 1.0, "zero": 1 - spikes, "none": 1.0}[reset] * np.ones_like(v)
    reset_potential = arguments["reset_potential"].numpy() if reset == "zero" else 0.0
    by_spike = {"subtract": -threshold, "zero": reset_potential - v, "none": 0.0}[reset] * np.ones_like(v)
    after, expected = np.zeros((2, 5)), np.zeros_like(v)
    for t in reversed(range(8)):
        through_reset = by_spike[t] * after if reset_grad == "full" else 0
        expected[t] = by_v[t] * after + epsilon[t] * (delta[t] + through_reset)
        after = decay * expected[t]
    current = arguments["current"].requires_grad_()
    out, _ = run(arguments, "reference", reset_grad=reset_grad, surrogate=surrogate)
    (found,) = torch.autograd.grad(out, current, torch.from_numpy(delta))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-11, atol=1e-12)


# -- the kernels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["train", "count", "constant", "constant count"])
def test_results(target, reset, dtype, kind, form):
    steps = 9 if "constant" in form else None
    arguments = inputs(
        (2, 3, 5) if steps else (9, 2, 3, 5), dtype=dtype, device=target.device, kind=kind, reset=reset, state=True,
        steps=steps,
    )  # fmt: skip
    out, _ = hold_forward(target, arguments, readout="count" if "count" in form else "spikes")
    assert out.any()


@pytest.mark.parametrize(("reset", "reset_grad"), RESETS_AND_GRADS)
@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("smooth", [False, True], ids=["hard", "smooth"])
def test_every_gradient(target, reset, reset_grad, surrogate, smooth):
    arguments = inputs((9, 2, 3, 5), device=target.device, kind="neuron", reset=reset, state=True)
    options = {"reset_grad": reset_grad, "surrogate": surrogate, "smooth": smooth}
    if smooth:
        hold_smooth(target, arguments, **options)
    found = hold_gradients(target, arguments, **options)
    assert all(g.any() for g in found.values()), "a gradient that is all zero proves nothing"


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
@pytest.mark.parametrize("kind", ["float", "scalar", "mixed"])
@pytest.mark.parametrize("readout", ["spikes", "count"])
def test_gradients_of_every_form(target, reset, dtype, kind, readout):
    arguments = inputs((9, 2, 3, 5), dtype=dtype, device=target.device, kind=kind, reset=reset, state=True)
    hold_gradients(target, arguments, readout=readout)


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
@pytest.mark.parametrize("smooth", [False, True], ids=["hard", "smooth"])
def test_surrogates_in_every_dtype_and_width(target, surrogate, dtype, smooth):
    arguments = inputs((6, 2, 3, 5), dtype=dtype, device=target.device, kind="mixed", state=True)
    for width in WIDTHS:
        hold_gradients(target, arguments, surrogate=surrogate, sigma=width, smooth=smooth)


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("dtype", DTYPES[:2], ids=dtype_id)
@pytest.mark.parametrize("scale", [40.0, 1e6, 1e30], ids=str)
def test_far_from_the_threshold(target, surrogate, dtype, scale):
    """Nothing overflows on the way to a density of nearly 0 or a primitive of 0 or 1."""
    arguments = inputs((2, 2, 40), dtype=dtype, device=target.device, state=True, reset="none")
    arguments["current"] *= scale
    for smooth in (False, True):
        options = {"surrogate": surrogate, "smooth": smooth}
        out, _ = run(arguments, target.backend, **options)
        expected, _ = run(arguments, "reference", **options)
        torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-6)
        assert out.isfinite().all()
        got, wanted = (gradients(arguments, b, through=("out",), **options) for b in (target.backend, "reference"))
        assert got["current"].isfinite().all()
        torch.testing.assert_close(got["current"], wanted["current"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_smooth_mode_is_a_function_with_its_derivative(target, reset, surrogate):
    """No potential here falls on a kink, which the triangle and the rectangle have."""
    arguments = inputs((4, 2, 2), dtype=torch.float64, device=target.device, kind="neuron", state=True, reset=reset)
    if SURROGATES[surrogate].periodic:  # no gradient goes through the period
        arguments["threshold"] = 0.9
    hold_derivative(target.backend, arguments, fast=target.interpreted, smooth=True, surrogate=surrogate)


@pytest.mark.parametrize("reset", EXAMPLES)
@pytest.mark.parametrize("reset_grad", ["full", "detach"])
def test_in_pieces(any_target, reset, reset_grad):
    arguments = inputs((9, 2, 3, 5), device=any_target.device, kind="neuron", state=True, reset=reset)
    leaves = {name: value.requires_grad_() for name, value in tensors(arguments).items()}
    arguments = replace(arguments, **leaves)
    whole, last = run(arguments, any_target.backend, reset_grad=reset_grad)
    trains, state = in_pieces(arguments, any_target.backend, (2, 3, 3, 7), reset_grad=reset_grad)
    equal_bits(torch.cat(trains), whole, "spikes")
    equal_bits(state.v, last.v, "state.v")
    incoming = torch.randn_like(whole), torch.randn_like(last.v)
    expected = torch.autograd.grad((whole, last.v), [leaves["current"], leaves["v"]], incoming)
    got = torch.autograd.grad((torch.cat(trains), state.v), [leaves["current"], leaves["v"]], incoming)
    for found, wanted in zip(got, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("neurons", [1, 64, 130])
def test_odd_numbers_of_neurons(target, reset, neurons):
    arguments = inputs((4, 2, neurons), device=target.device, kind="neuron", state=True, reset=reset)
    hold_forward(target, arguments)
    hold_gradients(target, arguments)


@pytest.mark.parametrize("reset", EXAMPLES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
def test_a_current_that_is_not_finite(target, reset, value):
    """A reset takes an infinite potential to a number; otherwise the rules of IEEE 754 hold."""
    arguments = inputs((6, 2, 40), device=target.device, reset=reset)
    arguments["current"][2, 1, 7] = value
    hold_forward(target, arguments)


# -- what is refused ---------------------------------------------------------------------------------------------------

LAYER = {"current": torch.zeros(4, 2, 3), "decay": 0.9}


@pytest.mark.parametrize("reset", EXAMPLES)
@pytest.mark.parametrize("reset_decay", [0.5, 0.0, torch.tensor(0.5)], ids=str)
def test_a_reset_decay_without_a_reset_variable(reset, reset_decay):
    refuses(hnn_kernels.lif, {**LAYER, "reset_decay": reset_decay, "reset": reset}, ValueError, "reset_decay", "None",
            f"reset={reset!r}")  # fmt: skip


@pytest.mark.parametrize("reset", EXAMPLES)
def test_one_step_gradients_without_a_reset_variable(reset):
    refuses(hnn_kernels.lif, {**LAYER, "reset": reset, "reset_grad": "one_step"}, ValueError, "reset_grad",
            "'one_step'", f"reset={reset!r}", "'full'", "'detach'")  # fmt: skip


def test_the_filter_reset_needs_its_decay():
    refuses(hnn_kernels.lif, LAYER, TypeError, "reset_decay", "number", "reset='filter'", "None")


def test_the_names_that_there_are():
    refuses(hnn_kernels.lif, {**LAYER, "reset": "hard"}, ValueError, "reset", *map(repr, RESETS))
    refuses(hnn_kernels.lif, {**LAYER, "reset_decay": 0.5, "surrogate": "step"}, ValueError, "surrogate",
            *map(repr, SURROGATES))  # fmt: skip


@pytest.mark.parametrize("reset", EXAMPLES)
def test_the_state_is_whole_with_every_reset(reset):
    v = torch.zeros(2, 3)
    refuses(hnn_kernels.lif, {**LAYER, "reset": reset, "state": LIFState(v, None)}, TypeError, "state.r", "NoneType")
    refuses(hnn_kernels.lif, {**LAYER, "reset": reset, "state": (v,)}, TypeError, "state", "LIFState")


# -- the tie, and the potential of the reset ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
@pytest.mark.parametrize("reset", RESETS)
def test_a_tie_that_does_not_fire(any_target, dtype, reset):
    """Currents in eighths with decay 1/2 tie often, and are exact in every dtype."""
    eighths = torch.randint(-8, 20, (12, 4, 64), generator=torch.Generator().manual_seed(3))
    current = (eighths / 8).to(any_target.device, dtype)
    reset_decay = 0.25 if reset == "filter" else None
    v = torch.zeros(4, 64, dtype=torch.float64)
    r, ties, expected = v.clone(), 0, []
    for x in current.double().cpu():
        v = 0.5 * v + x - r
        ties += int((v == 1).sum())
        spike = (v > 1).double()
        expected.append(spike)
        r = 0.25 * r + spike if reset == "filter" else r
        v = {"subtract": v - spike, "zero": v * (1 - spike)}.get(reset, v)
    assert ties >= 20
    out, _ = hnn_kernels.lif(current, 0.5, reset_decay, 1.0, reset=reset, tie_fires=False, backend=any_target.backend)
    assert torch.equal(out.double().cpu(), torch.stack(expected))


@pytest.mark.parametrize("smooth", [False, True], ids=["hard", "smooth"])
@pytest.mark.parametrize("kind", KINDS)
def test_ties_and_scales_in_every_gradient(target, kind, smooth):
    arguments = inputs((9, 2, 3, 5), device=target.device, kind=kind, state=True)
    hold_gradients(target, arguments, tie_fires=False, surrogate_scale=1.7, smooth=smooth)


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
def test_a_reset_potential(any_target, dtype):
    """Decay 1/2, threshold 1, to -1/2: V = 1.5 (leaves -0.5), 0.25, 1.125 (-0.5), -0.25, 1.875 (-0.5), 0.25."""
    current = torch.tensor(X, dtype=dtype, device=any_target.device)[:, None, None]
    out, state = hnn_kernels.lif(
        current, 0.5, None, 1.0, reset="zero", reset_potential=-0.5, backend=any_target.backend
    )
    assert out.flatten().tolist() == [1, 0, 1, 0, 1, 0]
    assert state.v.item() == 0.25


@pytest.mark.parametrize("reset", ["filter", "subtract", "none"])
@pytest.mark.parametrize("value", [0.1, torch.tensor(0.0)], ids=str)
def test_a_reset_potential_without_such_a_reset(reset, value):
    layer = {**LAYER, "reset": reset, "reset_decay": 0.5 if reset == "filter" else None, "reset_potential": value}
    refuses(hnn_kernels.lif, layer, ValueError, "reset_potential", "0", f"reset={reset!r}", "'zero'")


@pytest.mark.parametrize("threshold", [0.0, -1.0])
def test_a_periodic_surrogate_needs_a_period(threshold):
    layer = {**LAYER, "reset_decay": 0.5, "surrogate": "periodic_exponential", "threshold": threshold}
    refuses(hnn_kernels.lif, layer, ValueError, "threshold", "periodic_exponential", "above 0")
