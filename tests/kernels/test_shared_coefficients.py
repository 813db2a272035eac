"""The gradient of a coefficient that neurons share: the sum of theirs, whatever its shape and the layout.

With whole numbers for values, float32 has every sum exactly, in any order. So a value that is left out or taken twice
cannot hide in a tolerance.
"""

import math

import pytest
import torch

import hnn_kernels
from support.comparisons import equal_bits


def channels_last(x: torch.Tensor) -> torch.Tensor:
    return x.movedim(2, -1).contiguous().movedim(-1, 2)


# The shape of a step, that of the coefficient, and the layout. A kernel's block adds up at most 8192 values of a result
# for CUDA and 32768 for Triton, and fewer where results are neighbours; more is another launch.
CASES = {
    "all": ((5, 7), (), None),
    "per channel": ((2, 3, 4, 5), (3, 1, 1), None),
    "channels last": ((2, 3, 4, 5), (3, 1, 1), channels_last),
    "per neuron": ((300, 1, 40), (40,), None),
    "a batch of one": ((1, 33), (33,), None),
    "nothing is shared": ((1, 2, 3), (2, 3), None),
    "axes between": ((4, 3, 5, 2), (1, 5, 1), None),
    "axes around": ((4, 3, 5, 2), (3, 1, 2), None),
    "many": ((70, 1000), (), None),
    "many, neighbours": ((18000, 3), (3,), None),
    "many, inner": ((160, 3, 250), (3, 1), None),
    "no batch": ((0, 5), (5,), None),
}


def whole(*shape: int, device: str, most: int = 3) -> torch.Tensor:
    return torch.randint(-most, most + 1, shape, device=device).float()


@pytest.mark.parametrize("case", CASES)
def test_the_sum_is_exact(target, case):
    shape, own, layout = CASES[case]
    if target.interpreted and math.prod(shape) > 1000:
        pytest.skip("Triton's interpreter takes a minute")
    x, grad = whole(2, *shape, device=target.device), whole(2, *shape, device=target.device)
    if layout is not None:
        x = layout(x)
    a = torch.ones(1, *own, device=target.device, requires_grad=True)
    b = torch.ones(2, *(1,) * len(own), device=target.device, requires_grad=True)
    y, _ = hnn_kernels.iir(x, a, b, return_state=False, backend=target.backend)
    got = torch.autograd.grad(y, [a, b], grad)

    # y[0] = x[0], y[1] = x[1] + x[0] + y[0], each with a coefficient of 1.
    x, grad = x.double(), grad.double()
    for_a = grad[1] * x[0]
    for_b = torch.stack([(grad[0] + grad[1]) * x[0] + grad[1] * x[1], grad[1] * x[0]])
    assert torch.equal(got[0].double(), for_a.sum_to_size((1,) * (len(shape) - len(own)) + own).view(1, *own))
    assert torch.equal(got[1].double(), for_b.flatten(1).sum(1).view(b.shape))


@pytest.mark.parametrize("case", ["all", "channels last", "many, neighbours"])
def test_equal_calls_have_equal_bits(target, case):
    """Every coefficient of a layer, each of the shape of the case, in one call."""
    shape, own, layout = CASES[case]
    if target.interpreted and math.prod(shape) > 1000:
        pytest.skip("Triton's interpreter takes a minute")
    x = torch.randn(3, *shape, device=target.device)
    if layout is not None:
        x = layout(x)
    learnt = [torch.full(own, value, device=target.device, requires_grad=True) for value in (0.7, 0.6, 0.4)]
    taps = torch.full((2, *own), 0.3, device=target.device, requires_grad=True)

    def gradients():
        axon = hnn_kernels.IIR(taps, taps[:1])
        out, _ = hnn_kernels.lif(x, *learnt, axon=axon, return_state=False, backend=target.backend)
        return torch.autograd.grad(out.square().sum(), [*learnt, taps])

    first = gradients()
    for _ in range(3):  # the operator, and the direct way
        for one, other in zip(gradients(), first, strict=True):
            equal_bits(one, other, "gradient")
