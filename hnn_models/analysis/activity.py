"""What goes on inside a network: the spikes of every layer, and its membrane potentials."""

import copy
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from hnn_kernels.nn import LIF

from ..network.layers import SpikingLayer, Train
from ..network.network import HybridNetwork


class Activity(NamedTuple):
    """One spiking layer at work.

    Attributes:
        layer: the layer.
        sent: what was sent to it, before any axon: spikes ``[T, B, *in]``, or a coded value.
        received: the same behind its axon, before pools: what the layer takes.
        current: I, ``[T, B, *out]``; ``[B, *out]`` where ``received`` has ``steps``.
        spikes: O, ``[T, B, *out]``.
    """

    layer: SpikingLayer
    sent: Train
    received: Train
    current: Tensor
    spikes: Tensor


@torch.no_grad()
def activity(network: HybridNetwork, images: Tensor) -> Iterator[Activity]:
    """Every spiking layer at work on ``images`` ``[B, *input_shape]``, input side first; one is in memory at a time."""
    features = network.encode_features(images)
    if network.code is None:
        return
    sent = network.code.encode(features)
    received = network.code.behind_axon(sent)
    for layer in network.spiking:
        current = layer.current(received)
        spikes = _without_axon(layer.neurons)(current, steps=received.steps)
        yield Activity(layer, sent, received, current, spikes)
        sent = received = Train(spikes)
        if layer.neurons.axon is not None:
            received = Train(layer.neurons.axon(spikes))


@torch.no_grad()
def membrane(work: Activity) -> Tensor:
    """V of a layer, ``[T, B, *out]``; with an immediate reset (``"subtract"``, ``"zero"``) as it is after that.

    The kernels keep no potentials. This runs them one step at a time and looks at the state between.
    """
    neurons = _without_axon(work.layer.neurons)
    state, found = None, []
    for t in range(len(work.spikes)):
        current = work.current[None] if work.received.steps else work.current[t : t + 1]
        _, state = neurons(current, state=state, return_state=True)
        found.append(state.v)
    return torch.stack(found)


def _without_axon(neurons: LIF) -> LIF:
    """The same neurons, whose output is their spikes."""
    twin = copy.deepcopy(neurons)
    twin.axon = None
    twin.readout = "spikes"
    return twin
