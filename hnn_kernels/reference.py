"""The truth: one spiking layer as a plain PyTorch loop, differentiated by autograd.

Every kernel is proved against this file, so it favours being obviously right over being fast. The order of the
operations is part of the definition: the C++ kernel reproduces it bit for bit in float32.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .surrogates import SURROGATES


class LIFState(NamedTuple):
    """What a LIF layer carries from one call to the next, each ``[B, *features]`` in the state dtype.

    ``v`` is the membrane potential V[t-1] and ``r`` the reset variable R[t] that the next step subtracts.
    """

    v: Tensor
    r: Tensor


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of state and arithmetic for an input ``dtype``: float64 for float64, float32 otherwise."""
    return torch.float64 if dtype == torch.float64 else torch.float32


class _Spike(torch.autograd.Function):
    """Heaviside step forward (a tie fires), the surrogate's density backward."""

    @staticmethod
    def forward(distance: Tensor, fires: Tensor, sigma: float, surrogate: str) -> Tensor:
        return fires.to(distance.dtype)

    @staticmethod
    def setup_context(ctx, inputs, output):
        distance, _, ctx.sigma, ctx.surrogate = inputs
        ctx.save_for_backward(distance)

    @staticmethod
    def backward(ctx, grad):
        (distance,) = ctx.saved_tensors
        return grad * SURROGATES[ctx.surrogate].density(distance, ctx.sigma), None, None, None


def lif(
    current: Tensor,
    decay: float | Tensor,
    reset_decay: float | Tensor,
    threshold: float | Tensor,
    *,
    sigma: float,
    steps: int | None,
    state: LIFState | None,
    reset_grad: str,
    surrogate: str,
    readout: str,
    smooth: bool,
) -> tuple[Tensor, LIFState]:
    """:func:`hnn_kernels.lif` with every argument checked and given; see there for shapes and meaning."""
    dtype = state_dtype(current.dtype)
    decay, reset_decay, threshold = (
        torch.as_tensor(c, dtype=dtype, device=current.device) for c in (decay, reset_decay, threshold)
    )
    # unbind, not current[t]: the backward of an index fills a whole [T, ...] tensor for every step.
    inputs = current.unbind(0) if steps is None else [current] * steps
    shape = current.shape[1:] if steps is None else current.shape
    v, r = state if state is not None else (current.new_zeros(shape, dtype=dtype),) * 2

    def step(v: Tensor) -> Tensor:
        if smooth:
            return SURROGATES[surrogate].primitive(v - threshold, sigma)
        return _Spike.apply(v - threshold, v >= threshold, sigma, surrogate)

    train = []
    count = current.new_zeros(shape, dtype=dtype)
    for x in inputs:
        v = decay * v + x.to(dtype) - threshold * r
        spike = step(v)
        into_reset = spike.detach() if reset_grad == "detach" else spike
        carried = r.detach() if reset_grad == "one_step" else r
        # One-step gradients drop the path R[t] -> R[t+1], but the coefficient on that path is still learnt.
        r = reset_decay * carried + into_reset
        if readout == "count":
            count = count + spike
        else:
            train.append(spike.to(current.dtype))
    if readout == "count":
        out = count.to(current.dtype)
    elif train:
        out = torch.stack(train)
    else:
        out = current.new_empty((0, *shape))
    # A copy, so that with no steps the state handed back is not the caller's own tensor.
    return out, LIFState(v.clone(), r.clone())
