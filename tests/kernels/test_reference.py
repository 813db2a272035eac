"""The reference against the paper's equations, written out number by number."""

import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from support.comparisons import hold_derivative, potentials
from support.layers import KINDS, THROUGH, gradients, in_double, inputs, run

SIGMA = 0.4


def as_array(value, shape) -> np.ndarray:
    return np.broadcast_to(value.detach().numpy() if isinstance(value, torch.Tensor) else np.float64(value), shape)


def written_out(arguments: dict) -> dict[str, np.ndarray]:
    """Equation (1), one number at a time: V, R and O of every step, and the R after the last one."""
    current = arguments["current"].numpy()
    if arguments["steps"] is not None:
        current = np.stack([current] * arguments["steps"])
    shape = current.shape
    decay, reset_decay, threshold = (as_array(arguments[n], shape[1:]) for n in ("decay", "reset_decay", "threshold"))
    v, r, o = (np.zeros(shape) for _ in "VRO")
    carried = np.zeros(shape[1:])
    for where in np.ndindex(shape[1:]):
        state = arguments.get("state")
        before, reset = (0.0, 0.0) if state is None else (state.v[where].item(), state.r[where].item())
        for t in range(shape[0]):
            at = (t, *where)
            r[at] = reset
            v[at] = decay[where] * before + current[at] - threshold[where] * r[at]
            o[at] = 1.0 if v[at] >= threshold[where] else 0.0
            before = v[at]
            reset = reset_decay[where] * r[at] + o[at]
        carried[where] = reset
    return {"v": v, "r": r, "o": o, "carried": carried}


def density(v: np.ndarray, threshold) -> np.ndarray:
    """Equation (6)."""
    return np.exp(-((v - threshold) ** 2) / (2 * SIGMA**2)) / (math.sqrt(2 * math.pi) * SIGMA)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("state", [False, True], ids=["zero", "state"])
@pytest.mark.parametrize("steps", [None, 7], ids=["train", "constant"])
def test_forward_is_equation_1(kind, state, steps):
    arguments = inputs((2, 3, 4) if steps else (7, 2, 3, 4), dtype=torch.float64, kind=kind, state=state, steps=steps)
    expected = written_out(arguments)
    assert 0.1 < expected["o"].mean() < 0.6, "the inputs must exercise both branches"

    out, carried = run(arguments, "reference")
    v, _ = potentials(arguments)

    np.testing.assert_array_equal(out.numpy(), expected["o"])
    # Same operations in the same order in the same precision: equal, not close.
    np.testing.assert_array_equal(v.numpy(), expected["v"])
    np.testing.assert_array_equal(carried.v.numpy(), expected["v"][-1])
    np.testing.assert_array_equal(carried.r.numpy(), expected["carried"])
    count, _ = run(arguments, "reference", readout="count")
    np.testing.assert_array_equal(count.numpy(), expected["o"].sum(0))


def test_one_step_gradient_is_equations_3_and_4b():
    arguments = inputs((8, 2, 5), dtype=torch.float64, kind="neuron")
    layer = written_out(arguments)
    decay, threshold = (as_array(arguments[n], (2, 5)) for n in ("decay", "threshold"))
    epsilon = density(layer["v"], threshold)
    kappa = decay - threshold * epsilon
    delta = np.random.default_rng(0).standard_normal(layer["o"].shape)
    expected = np.zeros_like(delta)
    for i in range(8):
        for t in range(i, 8):
            expected[i] += delta[t] * epsilon[t] * np.prod(kappa[i:t], axis=0)

    current = arguments["current"].requires_grad_()
    out, _ = run(arguments, "reference", reset_grad="one_step", sigma=SIGMA)
    (found,) = torch.autograd.grad(out, current, torch.from_numpy(delta))

    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-13)


def test_full_and_detached_gradients_are_the_adjoint_recurrence():
    arguments = inputs((8, 2, 5), dtype=torch.float64, kind="neuron")
    layer = written_out(arguments)
    decay, reset_decay, threshold = (as_array(arguments[n], (2, 5)) for n in ("decay", "reset_decay", "threshold"))
    epsilon = density(layer["v"], threshold)
    delta = np.random.default_rng(0).standard_normal(layer["o"].shape)
    for reset_grad in ("full", "detach"):
        a_v, a_r = np.zeros((9, 2, 5)), np.zeros((9, 2, 5))
        for t in reversed(range(8)):
            through_reset = a_r[t + 1] if reset_grad == "full" else 0
            a_v[t] = decay * a_v[t + 1] + epsilon[t] * (delta[t] + through_reset)
            a_r[t] = -threshold * a_v[t] + reset_decay * a_r[t + 1]
        current = arguments["current"].detach().requires_grad_()
        out, _ = run({**arguments, "current": current}, "reference", reset_grad=reset_grad, sigma=SIGMA)
        (found,) = torch.autograd.grad(out, current, torch.from_numpy(delta))
        np.testing.assert_allclose(found.numpy(), a_v[:8], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kind", ["scalar", "channel", "neuron"])
@pytest.mark.parametrize("readout", ["spikes", "count"])
@pytest.mark.parametrize("steps", [None, 4], ids=["train", "constant"])
def test_smooth_mode_is_a_function_with_its_derivative(kind, readout, steps):
    arguments = inputs((2, 2, 2) if steps else (4, 2, 2, 2), dtype=torch.float64, kind=kind, state=True, steps=steps)
    hold_derivative("reference", arguments, smooth=True, readout=readout)


def test_hard_mode_is_no_function_with_its_derivative():
    """The check above can fail: the surrogate is not the derivative of the step."""
    current = inputs((4, 2, 2), dtype=torch.float64)["current"].requires_grad_()
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        torch.autograd.gradcheck(lambda x: run({**inputs(), "current": x}, "reference")[0], (current,))


@pytest.mark.parametrize("through", THROUGH, ids="+".join)
def test_gradients_add_up_over_the_results_they_come_through(through):
    arguments = inputs((5, 2, 3), dtype=torch.float64, kind="neuron", state=True)
    together = gradients(arguments, "reference", through=through)
    alone = [gradients(arguments, "reference", through=(name,)) for name in through]
    for name, value in together.items():
        torch.testing.assert_close(value, sum(part[name] for part in alone), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=lambda d: str(d)[6:])
def test_arithmetic_is_float32_whatever_the_input(dtype):
    """A low-precision current gives the float32 run of the same numbers: only what is stored is rounded."""
    arguments = inputs((20, 2, 3, 5), dtype=dtype, kind="mixed")
    wide = {**arguments, "current": arguments["current"].float()}
    out, state = run(arguments, "reference")
    expected, expected_state = run(wide, "reference")
    assert out.dtype == dtype
    assert torch.equal(out.float(), expected)
    assert state.v.dtype == state.r.dtype == torch.float32
    assert torch.equal(state.v, expected_state.v)
    assert torch.equal(state.r, expected_state.r)
    in_float64, _ = run(in_double(wide), "reference")
    assert (in_float64 == expected).float().mean() > 0.99


def test_it_can_be_differentiated_twice():
    """The kernels cannot be. In hard mode only the gradient of a single step is smooth, so that one is checked."""
    current = inputs((3, 2, 2), dtype=torch.float64)["current"].requires_grad_()
    layer = {name: value for name, value in inputs().items() if name != "current"}
    assert torch.autograd.gradgradcheck(lambda x: run({**layer, "current": x}, "reference", smooth=True)[0], (current,))
    first = current.detach()[:1].requires_grad_()

    def gradient(x):
        return torch.autograd.grad(run({**layer, "current": x}, "reference")[0].sum(), x, create_graph=True)[0]

    assert torch.autograd.gradcheck(gradient, (first,))


class Traffic(TorchDispatchMode):
    """Counts the elements of everything that operators return inside."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.elements += sum(t.numel() for t in torch.utils._pytree.tree_leaves(result) if isinstance(t, torch.Tensor))
        return result


def test_backward_is_linear_in_time():
    def traffic(steps: int) -> int:
        arguments = inputs((steps, 2, 3))
        out, _ = run({**arguments, "current": arguments["current"].requires_grad_()}, "reference")
        loss = out.sum()
        with Traffic() as counted:
            loss.backward()
        return counted.elements

    # Four times the steps: four times the work. Indexing current[t] in the loop made this sixteen.
    assert traffic(200) <= 4.05 * traffic(50)


def test_saved_bytes_are_linear_in_time():
    def saved(steps: int) -> int:
        arguments = inputs((steps, 2, 3))
        total = 0

        def pack(tensor):
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            run({**arguments, "current": arguments["current"].requires_grad_()}, "reference")
        return total

    assert saved(200) <= 4.05 * saved(50)
