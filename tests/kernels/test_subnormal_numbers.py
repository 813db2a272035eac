"""Numbers below the normal ones: backward makes zeros of its results among them, and leaves all others as they are.

An Intel processor takes some hundred cycles for an operation that has one.
"""

import pytest
import torch

import hnn_kernels
from hnn_kernels import _extensions
from support import defined
from support.targets import NEEDS_CPU

pytestmark = NEEDS_CPU
DECAY = 0.5
TINY = torch.finfo(torch.float32).tiny  # the least normal number


@pytest.fixture(params=["default", "avx2", "avx512"])
def instruction_set(request):
    module = _extensions.cpu
    if request.param not in module.instruction_sets():
        pytest.skip(f"this processor, or this build, has no {request.param}")
    before = module.build_info()["instruction_set"]
    module.use_instruction_set(request.param)
    yield request.param
    module.use_instruction_set(before)


def subnormal(x):
    return (x != 0) & (x.abs() < TINY)


def far_below():
    """A current [9, 4, 500] whose first half of neurons stays far below the threshold, and a gradient below 1."""
    current = torch.full((9, 4, 500), -2.5)
    current[..., 250:] = 0.6
    return current.requires_grad_(), torch.full((9, 4, 500), 0.1)


@pytest.mark.parametrize("surrogate", ["gaussian", "sigmoid"])
def test_a_gradient_has_none(surrogate, instruction_set):
    current, grad = far_below()
    sigma = {"gaussian": 0.4, "sigmoid": 0.07}[surrogate]
    out, _ = hnn_kernels.lif(current, DECAY, DECAY, surrogate=surrogate, sigma=sigma, backend="cpu")
    (result,) = torch.autograd.grad(out, current, grad)
    assert not subnormal(result).any()
    assert (result[:, :, 250:] > 1e-3).any()
    assert (result[4:, :, :250].abs() < 1e-30).all()


def test_a_gradient_of_a_defined_neuron_has_none(instruction_set):
    current, grad = far_below()
    spikes, _ = defined.lif("none", "gaussian")(current, decay=DECAY, backend="cpu")
    (result,) = torch.autograd.grad(spikes, current, grad)
    assert not subnormal(result).any()
    assert (result[:, :, 250:] > 1e-3).any()


def test_all_threads_compute_with_them_afterwards(instruction_set):
    current, grad = far_below()
    torch.autograd.grad(hnn_kernels.lif(current, DECAY, DECAY, backend="cpu")[0], current, grad)
    assert (torch.full((1 << 20,), TINY) * 0.25 > 0).all()


@pytest.mark.parametrize("reset", ["zero", "subtract", "none"])
def test_a_potential_below_a_threshold_of_zero_stays_there(reset, instruction_set):
    """Forward and backward agree on the spike of a potential that is no normal number."""
    states = torch.tensor([-1e-40, -TINY / 2, 1e-40, -1e-30]).repeat(4, 16)
    grads = {}
    for backend in ("reference", "cpu"):
        v = states.clone().requires_grad_()
        out, after = hnn_kernels.lif(
            torch.zeros(5, 4, 64),
            DECAY,
            threshold=0.0,
            reset=reset,
            state=hnn_kernels.state.LIFState(v, torch.zeros(4, 64), None, None),
            backend=backend,
        )
        assert subnormal(after.v).any()
        grads[backend] = (out.detach(), after.v.detach(), *torch.autograd.grad((out.sum() + after.v.sum()), v))
    out, after, grad = grads["cpu"]
    expected_out, expected_after, expected_grad = grads["reference"]
    assert torch.equal(out, expected_out)
    assert torch.equal(after, expected_after)
    assert torch.allclose(grad, expected_grad, rtol=1e-6, atol=1e-30)
