"""The activity inside a network: the spikes of every layer, and its membrane potentials."""

import copy
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hnn_kernels import LIFState
from hnn_kernels.nn import LIF

from .layers import Signal, SpikingLayer
from .network import HybridNetwork
from .wrappers import unwrapped


class Activity(NamedTuple):
    """The activity of one spiking layer.

    Attributes:
        layer: the layer.
        sent: the output of the layer before, before any axon: spikes ``[T, B, *in]``, or a coded value.
        received: the same behind the axon of the layer before: the layer's input, before its pools.
        current: the current I, ``[T, B, *out]``; ``[B, *out]`` if ``received`` has ``steps``.
        spikes: the spikes O, ``[T, B, *out]``; none for a last layer that is read by its membrane potential.
    """

    layer: SpikingLayer
    sent: Signal
    received: Signal
    current: Tensor
    spikes: Tensor


@torch.no_grad()
def activity(network: nn.Module, images: Tensor) -> Iterator[Activity]:
    """The activity of every spiking layer on ``images`` ``[B, *input_shape]``, input side first.

    The activity of one layer is computed at a time, so only one has to be in memory.
    """
    inner = unwrapped(network)
    yield from activity_of_features(inner, inner.encode_features(images))


@torch.no_grad()
def activity_of_features(network: HybridNetwork, features: Tensor) -> Iterator[Activity]:
    """As :func:`activity`, on ``features`` ``[B, *features_shape]`` from ``network.encode_features``."""
    if network.code is None:
        return
    sent = network.code.encode(features)
    received = network.code.behind_axon(sent)
    for layer in network.spiking:
        current = layer.current(received)
        spikes = spikes_of(layer.neurons, current, received.steps)
        yield Activity(layer, sent, received, current, spikes)
        sent = received = Signal(spikes)
        if layer.neurons.axon is not None:
            received = Signal(layer.neurons.axon(spikes))


@torch.no_grad()
def membrane(work: Activity) -> Tensor:
    """The membrane potential V of a layer, ``[T, B, *out]``, after an immediate reset (``"subtract"``, ``"zero"``).

    The kernels do not return potentials. This function calls them for one step at a time, and reads the state after
    each step.
    """
    neurons = _without_axon(work.layer.neurons)
    state, found = None, []
    for t in range(len(work.spikes)):
        current = work.current[None] if work.received.steps else work.current[t : t + 1]
        _, state = neurons(current, state=state, return_state=True)
        found.append(state.v)
    return torch.stack(found)


def fires(neurons: LIF) -> bool:
    """True if the neurons send spikes, False if only their membrane potential is read."""
    return neurons.readout != "none"


def spikes_of(neurons: LIF, current: Tensor, steps: int | None, state: LIFState | None = None) -> Tensor:
    """The spikes ``[T, B, *out]`` of ``neurons``; none if they do not fire. The other arguments are those of a call."""
    if not fires(neurons):
        return torch.zeros_like(current) if steps is None else current.new_zeros(steps, *current.shape)
    return _without_axon(neurons)(current, steps=steps, state=None if state is None else state._replace(axon=None))


def _without_axon(neurons: LIF) -> LIF:
    """A copy of the neurons whose output is their spikes."""
    twin = copy.deepcopy(neurons)
    twin.axon = None
    twin.readout, twin.potential = "spikes", "none"
    return twin
