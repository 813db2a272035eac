"""The reference: spiking layer and filter as plain PyTorch loops, and the codings, differentiated by autograd.

Every kernel is proved against this file, so it is written to be obviously right, not to be fast. The order of the
operations is part of the definition: the C++ kernel reproduces it bit for bit in float32.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from . import _checks, _noise
from ._layer import (
    COEFFICIENTS,
    FILTER_SIDES,
    FILTERS,
    MEMBRANE,
    MEMBRANE_STATES,
    POTENTIALS,
    RESET_GRADS,
    RESETS,
    Layer,
    name_of,
)
from ._ops import pointwise
from .state import state_dtype
from .surrogates import SURROGATES


def _density(
    _, distance: Tensor, fires: Tensor, period: Tensor, width: float, scale: float, varying: Tensor | None,
    number: int,
) -> Tensor:  # fmt: skip
    if varying is not None:
        return _SURROGATES[number].density(distance, varying[0], varying[1], period)
    return _SURROGATES[number].density(distance, width, scale, period)


_SURROGATES = list(SURROGATES.values())
# The Heaviside step forward, and the surrogate's density backward.
_spike = pointwise.define(
    "spike",
    "(Tensor distance, Tensor fires, Tensor period, float width, float scale, Tensor? varying, int number) -> Tensor",
    lambda distance, fires, *_: fires.to(distance.dtype),
    _density,
)


class Filter:
    """A filter, one step per call: ``y[t] = sum_q b[q] x[t-q] + sum_p a[p] y[t-1-p]``. Its history is newest first."""

    def __init__(self, feedback: Sequence[Tensor], feedforward: Sequence[Tensor], state: Tensor | None, zero: Tensor):
        self.feedback, self.feedforward = feedback, feedforward
        depth = len(feedback) + len(feedforward) - 1
        history = [zero] * depth if state is None else list(state.unbind(0))
        self.y, self.x = history[: len(feedback)], history[len(feedback) :]

    def __call__(self, x: Tensor) -> Tensor:
        """Return y[t]."""
        y = self.feedforward[0] * x
        for b, past in zip(self.feedforward[1:], self.x, strict=True):
            y = y + b * past
        for a, past in zip(self.feedback, self.y, strict=True):
            y = y + a * past
        self.y = [y, *self.y][: len(self.feedback)]
        self.x = [x, *self.x][: len(self.feedforward) - 1]
        return y

    def state(self, zero: Tensor) -> Tensor:
        """Return the state ``[P + Q, B, *features]``: y[t-1..t-P], then x[t-1..t-Q]."""
        history = [*self.y, *self.x]
        return torch.stack(history) if history else zero.new_empty((0, *zero.shape))


def _prepare(coefficients, current: Tensor) -> list[Tensor]:
    dtype = state_dtype(current.dtype)
    return [torch.as_tensor(c, dtype=dtype, device=current.device) for c in coefficients]


def _filter(call: Layer, part: str, zero: Tensor) -> Filter | None:
    if not call.has(part):
        return None
    feedback, feedforward = (_taps(call, f"{part}_{side}") for side in FILTER_SIDES)
    return Filter(feedback, feedforward, getattr(call, f"{part}_state"), zero)


def _taps(call: Layer, name: str) -> list[Tensor]:
    given = getattr(call, name)
    return _prepare(getattr(call, f"{name}_values") if given is None else given.unbind(0), call.current)


class _Membrane:
    """The membrane, one step per call, with its state: V[t-1] after its reset, and R[t]."""

    decay: Tensor
    reset_decay: Tensor
    threshold: Tensor
    reset_potential: Tensor
    v: Tensor
    r: Tensor

    def __init__(self, call: Layer, zero: Tensor):
        for name in COEFFICIENTS:
            given = getattr(call, name)
            (value,) = _prepare([getattr(call, f"{name}_value") if given is None else given], call.current)
            setattr(self, name, value)
        for name in MEMBRANE_STATES:
            given = getattr(call, name)
            setattr(self, name, zero if given is None else given)
        self.smooth, self.tie_fires = call.smooth, call.tie_fires
        self.shape, self.shapes = call.surrogate_shape(), (call.width, call.scale, call.varying_surrogate)
        self.surrogate = call.surrogate
        self.reset, self.reset_grad = name_of(RESETS, call.reset), name_of(RESET_GRADS, call.reset_grad)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return O[t], and V[t] before its reset."""
        potential = self.decay * self.v + x
        if self.reset == "filter":
            potential = potential - self.threshold * self.r
        spike = self.spike(potential)
        into_reset = spike.detach() if self.reset_grad == "detach" else spike
        if self.reset == "filter":
            # One-step gradients drop the path R[t] -> R[t+1], but the coefficient on that path is still learnt.
            r = self.r.detach() if self.reset_grad == "one_step" else self.r
            self.r = self.reset_decay * r + into_reset
            self.v = potential
        elif self.reset == "subtract":
            self.v = potential - self.threshold * into_reset
        elif self.reset == "zero":
            self.v = self.set_to(potential, into_reset)
        else:
            self.v = potential
        return spike, potential

    def set_to(self, potential: Tensor, spike: Tensor) -> Tensor:
        """Return ``V (1 - O) + reset_potential O``, of an infinite V too."""
        if self.smooth:
            return potential * (1 - spike) + self.reset_potential * spike
        after = torch.where(spike > 0, self.reset_potential, potential)
        # A choice has no derivative by the spike. This adds it, to a value of 0.
        by_spike = torch.where(potential.isfinite(), self.reset_potential - potential, 0)
        return after + by_spike * (spike - spike.detach())

    def spike(self, potential: Tensor) -> Tensor:
        """Return the step at the threshold, or its smooth replacement."""
        distance, period = potential - self.threshold, self.threshold.detach()
        if self.smooth:
            return _SURROGATES[self.surrogate].primitive(distance, *self.shape, period)
        fires = potential >= self.threshold if self.tie_fires else potential > self.threshold
        # As a view of the potential's shape: an operator that works element by element has operands of one shape.
        return _spike(distance, fires, period.expand_as(distance), *self.shapes, self.surrogate)


def _stack(train: list[Tensor], like: Tensor, shape: Sequence[int]) -> Tensor:
    return torch.stack([x.to(like.dtype) for x in train]) if train else like.new_empty((0, *shape))


def _read_out(potentials: list[Tensor], call: Layer) -> Tensor:
    """Return what the call reads of V[t]: the train, or one value per neuron."""
    if call.timed("potential"):
        return _stack(potentials, call.current, call.shape)
    read = name_of(POTENTIALS, call.potential)
    if read == "last":
        found = potentials[-1]
    elif read == "max":
        found = torch.stack(potentials).max(0).values
    else:
        found = sum(potentials[1:], potentials[0]) / len(potentials)
    return found.to(call.current.dtype)


def _attached(found: list[Tensor], call: Layer) -> tuple[Tensor, ...]:
    """Return the outputs as those of one node of autograd's graph, which the operators' outputs are.

    Each has a gradient with respect to every tensor of the call: zeros where it does not depend on the tensor, which
    without a time step may be every one.
    """
    recorded = torch.jit.is_tracing()  # one trace serves calls with and without gradients
    learns = torch.is_grad_enabled()
    learnt = [t for t in call if isinstance(t, Tensor) and (recorded or (learns and t.requires_grad))]
    if not learnt:
        return tuple(found)
    nothing = [t.flatten()[:0].sum().to(found[0].device, torch.float64) for t in learnt]
    one = 1 + torch.stack(nothing).sum()
    return tuple(value * one.to(value.dtype) for value in found)


def layer(call: Layer) -> tuple[Tensor, ...]:
    """Run a call of :func:`hnn_kernels.lif` or :func:`hnn_kernels.iir`.

    Return its outputs in the order of ``call.outputs()``, without checkpoints, which are of no use here.
    """
    current, dtype = call.current, state_dtype(call.current.dtype)
    # unbind, not current[t]: the backward of an index fills a whole [T, ...] tensor for every step.
    inputs = current.unbind(0) if call.steps is None else [current] * call.steps
    zero = current.new_zeros(call.shape, dtype=dtype)
    synapse, axon = (_filter(call, part, zero) for part in FILTERS)
    membrane = _Membrane(call, zero) if call.has(MEMBRANE) else None
    train, potentials, count = [], [], zero
    for x in inputs:
        x = x.to(dtype)
        if synapse is not None:
            x = synapse(x)
        if membrane is not None:
            x, potential = membrane(x)
            potentials.append(potential)
        if call.count:
            count = count + x
        else:
            train.append(x if axon is None else axon(x))
    results = []
    if "out" in call.outputs():
        results.append(count.to(current.dtype) if call.count else _stack(train, current, call.shape))
    if "potential" in call.outputs():
        results.append(_read_out(potentials, call))
    if call.return_state:
        if membrane is not None:
            # Copies, so that with no steps the returned state is not the caller's own tensor.
            results += [getattr(membrane, name).clone() for name in MEMBRANE_STATES]
        results += [run.state(zero) for run in (synapse, axon) if run is not None]
    return _attached(results, call)


def gaussian(mean: Tensor, log_std: Tensor, seed: Tensor, steps: int, first_step: int, first_element: int) -> Tensor:
    """Run :func:`hnn_kernels.encode_gaussian` with all arguments checked and given."""
    dtype = state_dtype(mean.dtype)
    eps = _noise.normal(seed, mean.numel(), steps, first_step=first_step, first_element=first_element)
    eps = eps.to(dtype).reshape(steps, *mean.shape)
    return (mean.to(dtype) + _noise.exp(log_std.to(dtype)) * eps).to(mean.dtype)


def poisson(probability: Tensor, seed: Tensor, steps: int, first_step: int, first_element: int) -> Tensor:
    """Run :func:`hnn_kernels.encode_poisson`; all arguments are checked but the values of ``probability``."""
    _checks.probabilities("probability", probability)
    u = _noise.uniform(seed, probability.numel(), steps, first_step=first_step, first_element=first_element)
    return (u.reshape(steps, *probability.shape) < probability.to(state_dtype(probability.dtype))).to(probability.dtype)
