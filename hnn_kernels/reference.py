"""The truth: the spiking layer and the filter as plain PyTorch loops, and the codings, differentiated by autograd.

Every kernel is proved against this file, so it favours being obviously right over being fast. The order of the
operations is part of the definition: the C++ kernel reproduces it bit for bit in float32.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from . import _checks, _noise
from .surrogates import SURROGATES


class LIFState(NamedTuple):
    """What a LIF layer carries from one call to the next, in the state dtype; ``[B, *features]`` but for the filters'.

    ``v`` is what decays into the next step's membrane potential (V[t-1], after an immediate reset) and ``r`` the reset
    variable R[t] that the next step subtracts (zeros with another reset than ``"filter"``). ``synapse`` and ``axon``
    are the filters' states as :func:`hnn_kernels.iir` returns them, or None where the call has no such filter.
    """

    v: Tensor
    r: Tensor
    synapse: Tensor | None = None
    axon: Tensor | None = None


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of state and arithmetic for an input ``dtype``: float64 for float64, float32 otherwise."""
    return torch.float64 if dtype == torch.float64 else torch.float32


class _Spike(torch.autograd.Function):
    """Heaviside step forward (a tie fires), the surrogate's density backward."""

    @staticmethod
    def forward(distance: Tensor, fires: Tensor, width: float, surrogate: str) -> Tensor:
        return fires.to(distance.dtype)

    @staticmethod
    def setup_context(ctx, inputs, output):
        distance, _, ctx.width, ctx.surrogate = inputs
        ctx.save_for_backward(distance)

    @staticmethod
    def backward(ctx, grad):
        (distance,) = ctx.saved_tensors
        return grad * SURROGATES[ctx.surrogate].density(distance, ctx.width), None, None, None


class Filter:
    """``y[t] = sum_q b[q] x[t-q] + sum_p a[p] y[t-1-p]``, one step per call, with its history newest first."""

    def __init__(self, feedback: Sequence[Tensor], feedforward: Sequence[Tensor], state: Tensor | None, zero: Tensor):
        self.feedback, self.feedforward = feedback, feedforward
        depth = len(feedback) + len(feedforward) - 1
        history = [zero] * depth if state is None else list(state.unbind(0))
        self.y, self.x = history[: len(feedback)], history[len(feedback) :]

    def __call__(self, x: Tensor) -> Tensor:
        """y[t]."""
        y = self.feedforward[0] * x
        for b, past in zip(self.feedforward[1:], self.x, strict=True):
            y = y + b * past
        for a, past in zip(self.feedback, self.y, strict=True):
            y = y + a * past
        self.y = [y, *self.y][: len(self.feedback)]
        self.x = [x, *self.x][: len(self.feedforward) - 1]
        return y

    def state(self, zero: Tensor) -> Tensor:
        """``[P + Q, B, *features]``: y[t-1..t-P], then x[t-1..t-Q]."""
        history = [*self.y, *self.x]
        return torch.stack(history) if history else zero.new_empty((0, *zero.shape))


def _prepare(coefficients, current: Tensor) -> list[Tensor]:
    dtype = state_dtype(current.dtype)
    return [torch.as_tensor(c, dtype=dtype, device=current.device) for c in coefficients]


def _stack(train: list[Tensor], like: Tensor, shape: Sequence[int]) -> Tensor:
    return torch.stack([x.to(like.dtype) for x in train]) if train else like.new_empty((0, *shape))


def iir(x: Tensor, feedback: Sequence, feedforward: Sequence, state: Tensor | None) -> tuple[Tensor, Tensor]:
    """:func:`hnn_kernels.iir` with every argument checked and given; see there for shapes and meaning."""
    zero = x.new_zeros(x.shape[1:], dtype=state_dtype(x.dtype))
    run = Filter(_prepare(feedback, x), _prepare(feedforward, x), state, zero)
    # unbind, not x[t]: the backward of an index fills a whole [T, ...] tensor for every step.
    y = _stack([run(step.to(zero.dtype)) for step in x.unbind(0)], x, x.shape[1:])
    return y, run.state(zero)


def lif(
    current: Tensor,
    decay: float | Tensor,
    reset_decay: float | Tensor | None,
    threshold: float | Tensor,
    *,
    sigma: float,
    steps: int | None,
    synapse: tuple[Sequence, Sequence] | None,
    axon: tuple[Sequence, Sequence] | None,
    state: LIFState | None,
    reset: str,
    reset_grad: str,
    surrogate: str,
    readout: str,
    smooth: bool,
) -> tuple[Tensor, LIFState]:
    """:func:`hnn_kernels.lif` with every argument checked and given; see there for shapes and meaning."""
    dtype = state_dtype(current.dtype)
    decay, threshold = _prepare((decay, threshold), current)
    if reset == "filter":
        (reset_decay,) = _prepare((reset_decay,), current)
    inputs = current.unbind(0) if steps is None else [current] * steps
    shape = current.shape[1:] if steps is None else current.shape
    zero = current.new_zeros(shape, dtype=dtype)
    v, r, synapse_state, axon_state = (zero, zero, None, None) if state is None else state
    no_filter = ((), (1.0,))
    synapse_filter, axon_filter = (
        Filter(*(_prepare(c, current) for c in given or no_filter), history, zero)
        for given, history in ((synapse, synapse_state), (axon, axon_state))
    )

    def step(v: Tensor) -> Tensor:
        if smooth:
            return SURROGATES[surrogate].primitive(v - threshold, sigma)
        return _Spike.apply(v - threshold, v >= threshold, sigma, surrogate)

    train = []
    count = zero
    for x in inputs:
        x = x.to(dtype)
        if synapse:
            x = synapse_filter(x)
        potential = decay * v + x
        if reset == "filter":
            potential = potential - threshold * r
        spike = step(potential)
        into_reset = spike.detach() if reset_grad == "detach" else spike
        if reset == "filter":
            # One-step gradients drop the path R[t] -> R[t+1], but the coefficient on that path is still learnt.
            r = reset_decay * (r.detach() if reset_grad == "one_step" else r) + into_reset
            v = potential
        elif reset == "subtract":
            v = potential - threshold * into_reset
        elif reset == "zero":
            v = potential * (1 - into_reset)
        else:
            v = potential
        if readout == "count":
            count = count + spike
        else:
            train.append(axon_filter(spike) if axon else spike)
    out = count.to(current.dtype) if readout == "count" else _stack(train, current, shape)
    # Copies, so that with no steps the state handed back is not the caller's own tensor.
    return out, LIFState(
        v.clone(), r.clone(), synapse_filter.state(zero) if synapse else None, axon_filter.state(zero) if axon else None
    )


def gaussian(mean: Tensor, log_std: Tensor, seed: Tensor, steps: int, first_step: int, first_element: int) -> Tensor:
    """:func:`hnn_kernels.encode_gaussian` with every argument checked and given."""
    dtype = state_dtype(mean.dtype)
    eps = _noise.normal(seed, mean.numel(), steps, first_step=first_step, first_element=first_element)
    eps = eps.to(dtype).reshape(steps, *mean.shape)
    return (mean.to(dtype) + _noise.exp(log_std.to(dtype)) * eps).to(mean.dtype)


def poisson(probability: Tensor, seed: Tensor, steps: int, first_step: int, first_element: int) -> Tensor:
    """:func:`hnn_kernels.encode_poisson` with every argument but the values of ``probability`` checked and given."""
    _checks.probabilities("probability", probability)
    u = _noise.uniform(seed, probability.numel(), steps, first_step=first_step, first_element=first_element)
    return (u.reshape(steps, *probability.shape) < probability.to(state_dtype(probability.dtype))).to(probability.dtype)
