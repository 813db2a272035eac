"""The spiking layer, and the signal that goes from one spiking layer to the next, all time steps at once."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hnn_kernels.nn import IIR, LIF


class Signal(NamedTuple):
    """The input of a spiking layer over T time steps: spikes, spikes behind an axon, or coded values.

    Attributes:
        value: ``[T, B, *features]``; or ``[B, *features]`` for a signal that is constant in time.
        steps: T for a signal that is constant in time, else None.
        response: ``[T]`` for a signal that is ``value * response[t]``, such as a constant value behind an axon;
            else None.
    """

    value: Tensor
    steps: int | None = None
    response: Tensor | None = None

    @property
    def constant(self) -> bool:
        """True if weights have to be applied to one value only, not to one per step."""
        return self.steps is not None or self.response is not None


class SpikingLayer(nn.Module):
    """Weights and spiking neurons (eq. 1): ``I[t] = W F[t] + b`` for all steps in one call, then the neurons.

    F is the signal from the layer before. That layer's kernel has already applied its axon; in the same way this
    layer's neurons apply their axon for the layer behind.

    Args:
        weights: ``nn.Linear`` or ``nn.Conv2d``.
        neurons: the neurons.
        before: modules that F goes through first, each step by itself, such as pooling and flattening.

    Shape:
        :class:`Signal` of ``[T, B, *in]``, or of ``[B, *in]`` if it is constant in time, to ``[T, B, *out]``;
        ``[B, *out]`` if the neurons' read-out is a count.
    """

    def __init__(self, weights: nn.Linear | nn.Conv2d, neurons: LIF, before: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.before = nn.Sequential(*before)
        self.weights = weights
        self.neurons = neurons

    def forward(self, signal: Signal) -> Tensor:
        """The neurons' read-out."""
        return self.neurons(self.current(signal), steps=signal.steps)

    def current(self, signal: Signal) -> Tensor:
        """The current I: ``[B, *out]`` if the signal has ``steps``, else ``[T, B, *out]``."""
        x, steps, response = signal
        if steps is not None:
            return self.weights(self.before(x))
        if response is None:
            return self.weights(self.before(x.flatten(0, 1))).unflatten(0, x.shape[:2])
        value = _without_bias(self.weights, self.before(x))
        ones = (1,) * (value.dim() - 2)
        return torch.addcmul(self.weights.bias.view(-1, *ones), response.view(-1, 1, 1, *ones), value)


def shared(axon: IIR) -> bool:
    """True if all neurons of a layer have the same axon, so that the filter and the weights can change places."""
    return all(not isinstance(c, Tensor) or c.dim() == 1 for c in (axon.feedback, axon.feedforward))


def _without_bias(weights: nn.Linear | nn.Conv2d, value: Tensor) -> Tensor:
    if isinstance(weights, nn.Linear):
        return nn.functional.linear(value, weights.weight)
    return nn.functional.conv2d(
        value, weights.weight, None, weights.stride, weights.padding, weights.dilation, weights.groups
    )
