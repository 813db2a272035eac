"""What the kernels are measured against: the loop over time that a PyTorch user writes by hand."""

import math

import torch
from torch import Tensor


class GaussianSpike(torch.autograd.Function):
    """The step forward, the Gaussian density backward, as a user writes them."""

    @staticmethod
    def forward(ctx, distance: Tensor, sigma: float) -> Tensor:
        ctx.save_for_backward(distance)
        ctx.sigma = sigma
        return (distance >= 0).to(distance.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (distance,) = ctx.saved_tensors
        density = torch.exp(distance.square() * (-0.5 / ctx.sigma**2)) * (1 / (math.sqrt(2 * math.pi) * ctx.sigma))
        return grad * density, None


def loop_with_axon(current, decay, reset_decay, threshold, sigma, feedback, feedforward) -> Tensor:
    """The same with a second-order axon filter behind the spikes: the paper's layer, eq. 1 complete.

    ``feedback`` is two coefficients and ``feedforward`` one, floats or tensors that broadcast against the features.
    """
    (first, second), (gain,) = feedback, feedforward
    v = r = before = last = torch.zeros_like(current[0])
    filtered = []
    for x in current.unbind(0):
        v = decay * v + x - threshold * r
        spike = GaussianSpike.apply(v - threshold, sigma)
        r = reset_decay * r + spike
        before, last = last, gain * spike + first * last + second * before
        filtered.append(last)
    return torch.stack(filtered)


def loop(current: Tensor, decay: float, reset_decay: float, threshold: float, sigma: float) -> Tensor:
    """LIF with a reset filter over ``current.unbind(0)``: linear in T, unlike a loop over ``current[t]``."""
    v = r = torch.zeros_like(current[0])
    spikes = []
    for x in current.unbind(0):
        v = decay * v + x - threshold * r
        spike = GaussianSpike.apply(v - threshold, sigma)
        r = reset_decay * r + spike
        spikes.append(spike)
    return torch.stack(spikes)
