"""The spiking layer, and the signal that goes from one spiking layer to the next, all time steps at once."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hnn_kernels.nn import IIR, LIF

from .weights import affine


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


class SpikingLayer(nn.Module):
    """Weights and spiking neurons (eq. 1): ``I[t] = W F[t] + b`` for all steps in one call, then the neurons.

    F is the signal from the layer before. That layer's kernel has already applied its axon; in the same way this
    layer's neurons apply their axon for the layer behind.

    The weights are called as a module, once for each call of the layer. Hooks, pruning, parametrisations and any other
    module in their place (a low-rank adapter, a quantised layer) thus have their effect. Such a module is called with

    - ``[B, *in]`` where the signal repeats one value (duplicate coding with direct input);
    - ``[B, *in]`` where the signal is ``x * response[t]`` and the module is known to be ``W x + b``
      (:func:`hnn_models.network.weights.affine`): then ``I[t] = response[t] (W x + b) + (1 - response[t]) b``, which
      equals the current of the whole signal up to rounding;
    - ``[T * B, *in]`` otherwise.

    Args:
        weights: ``nn.Linear``, ``nn.Conv2d``, or a module with the same input and output.
        neurons: the neurons.
        before: modules that F goes through first, each step by itself, such as pooling and flattening.

    Shape:
        :class:`Signal` of ``[T, B, *in]``, or of ``[B, *in]`` if it is constant in time, to ``[T, B, *out]``;
        ``[B, *out]`` if the neurons' read-out is a count.
    """

    def __init__(self, weights: nn.Module, neurons: LIF, before: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.before = nn.Sequential(*before)
        self.weights = weights
        self.neurons = neurons

    def forward(self, signal: Signal) -> Tensor:
        """The neurons' read-out."""
        return self.neurons(self.current(signal), steps=signal.steps)

    def current(self, signal: Signal) -> Tensor:
        """The current I: ``[B, *out]`` if the signal has ``steps``, else ``[T, B, *out]``."""
        x, response = signal.value, signal.response
        if not self.once(signal):
            if response is not None:
                x = response.view(-1, *(1,) * x.dim()) * x
            return self.weights(self.before(x.flatten(0, 1))).unflatten(0, x.shape[:2])
        value = self.weights(self.before(x))
        if response is None:
            return value
        ones = (1,) * (value.dim() - 2)
        response = response.view(-1, 1, 1, *ones)
        bias: Any = self.weights.bias  # read behind the call, in which a hook may have set it
        if bias is None:
            return response * value
        return torch.addcmul((1 - response) * bias.view(-1, *ones), response, value)

    def once(self, signal: Signal) -> bool:
        """True if the weights are applied to one value of ``signal`` for all steps."""
        return signal.steps is not None or (signal.response is not None and affine(self.weights, self.before))


def shared(axon: IIR) -> bool:
    """True if all neurons of a layer have the same axon, so that the filter and the weights can change places."""
    return all(not isinstance(c, Tensor) or c.dim() == 1 for c in (axon.feedback, axon.feedforward))
