"""The cost of a network per image: operations, memory traffic, and an estimate of the energy of both.

The operations are those of an event-driven implementation, which adds a weight to a sum when a spike arrives. Biases
are not counted.

A layer behind an axon receives F, which is not binary, so W F is not a sum over spikes. But the filter is linear:
W F = W filter(O) = filter(W O). This holds where all neurons of the layer before share one axon, and nothing between
the axon and the weights is non-linear, as a max-pool is. There each spike's weights are added as before, and the filter
works on the sums, once per neuron of the receiving layer. Elsewhere F has to be multiplied: the layer costs one
multiply-accumulate for every weight of every value of F that is not zero.

An average pool of spikes is part of the weights behind it: each spike adds its share of a weight. Batch norm is part of
the weights before it (:meth:`hnn_models.HybridNetwork.folded`), and dropout is at work in training alone.

Artificial layers, and weights of a coded analogue value, cost every multiply-accumulate, for values that are zero too.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import cast

import torch
from torch import Tensor, nn

from hnn_kernels.nn import IIR, LIF

from ..network.activity import Activity, activity_of_features, fires
from ..network.codings import KINDS
from ..network.layers import SpikingLayer, shared
from ..network.network import HybridNetwork
from ..network.state import evaluating
from ..network.tokens import Shape, Token
from ..network.weights import Look
from ..network.wrappers import unwrapped
from .costs import LayerCost, added, per_image, total


def profile(network: nn.Module, batches: Iterable[Tensor]) -> list[LayerCost]:
    """The cost per image of every layer of ``network`` with weights, input side first. Pools cost nothing.

    Args:
        network: the network.
        batches: images ``[B, *input_shape]``, on the device of the network.

    Raises:
        ValueError: there are no images.
    """
    network = unwrapped(network)
    sums: list[LayerCost] = []
    count = 0
    for images in batches:
        count += len(images)
        with evaluating(network):
            batch = _batch(network, images)
        sums = [added(pair) for pair in zip(sums, batch, strict=True)] if sums else batch
    if count == 0:
        raise ValueError("batches must hold at least one image; got none")
    return per_image(sums, count)


def all_artificial(network: nn.Module) -> LayerCost:
    """The cost of the same layers if all of them are artificial, to compare with :func:`total`."""
    config = unwrapped(network).settings.pretraining()
    before = [tuple(config.input_shape), *config.shapes]
    costs = [
        _artificial(token, shape, 1) for token, shape in zip(config.tokens, before, strict=False) if token.weighted
    ]
    return total(costs)._replace(name="if artificial")


def _batch(network: HybridNetwork, images: Tensor) -> list[LayerCost]:
    """The sums over the images of a batch."""
    found: list[LayerCost] = []
    axon = None if network.code is None else network.code.axon
    features, nonzero = _features(network, images)
    works = activity_of_features(network, features)
    analogue = not KINDS[network.coding].spikes  # the coded signal, which the first spiking layer receives
    linear = True  # False if a non-linear token stands between the axon and the weights
    gathered = 1  # spikes that one value in front of the weights stands for
    before = network.input_shape
    for token, shape, module in network.modules_by_token():
        if not token.weighted:
            linear = linear and (token.linear or not token.spiking)
            gathered *= token.gathered(before) if token.spiking else 1
        elif token.spiking:
            found.append(_spiking(token, before, next(works), axon, analogue, linear, gathered))
            axon, analogue, linear, gathered = cast("SpikingLayer", module).neurons.axon, False, True, 1
        else:
            found.append(_artificial(token, before, len(images), network.settings.outputs(token), next(nonzero)))
        before = shape
    return found


def _features(network: HybridNetwork, images: Tensor) -> tuple[Tensor, Iterator[float]]:
    """The features of ``images``; and each artificial layer's multiply-accumulates of inputs that are not zero."""
    counts: dict[nn.Module, float] = {}
    outputs = network.settings.outputs
    with ExitStack() as stack, torch.no_grad():
        for token, _, module in network.modules_by_token():
            if token.weighted and not token.spiking:

                def look(values: Tensor, token: Token = token, module: nn.Module = module) -> None:
                    counts[module] = outputs(token) * token.arrivals(values != 0)

                stack.callback(module.register_forward_pre_hook(Look(look)).remove)
        features = network.encode_features(images)
    return features, iter(counts.values())


def _artificial(token: Token, before: Shape, images: int, outputs: int = 1, nonzero: float | None = None) -> LayerCost:
    """The cost of one artificial layer behind a layer of shape ``before``, with ``outputs`` values per neuron.

    ``nonzero`` are its multiply-accumulates of inputs that are not zero; None for all.
    """
    shape = token.shape(before)
    macs = images * token.operations(before, outputs)
    values = images * outputs * math.prod(shape)
    nonzero = macs if nonzero is None else nonzero
    return LayerCost(token.text, shape, None, values, 0, macs, 0, 0, 0, 0, values, nonzero)


def _spiking(
    token: Token, before: Shape, work: Activity, axon: IIR | None, analogue: bool, linear: bool, gathered: int
) -> LayerCost:
    """The cost of one spiking layer.

    Args:
        token: the layer's token.
        before: the shape of the layer before.
        work: its activity.
        axon: the axon in front of it.
        analogue: True if it receives coded analogue values and not spikes.
        linear: True if nothing non-linear stands between the axon and the weights.
        gathered: the number of spikes that a value in front of the weights stands for.
    """
    layer = work.layer
    steps, images = work.spikes.shape[:2]
    updates = work.spikes.numel()
    macs: float = 0
    nonzero: float = 0
    accumulates: float = 0
    filtered = 0  # values that go through the axon
    if analogue:
        once = layer.once(work.received)
        macs = (1 if once else steps) * images * token.operations(before)
        met = layer.before(work.received.value) if once else layer.at_weights(work.received.train())
        nonzero = token.arrivals(met != 0)
        filtered = 0 if once else steps * images * math.prod(token.takes(before))
    elif axon is None or (shared(axon) and linear):
        accumulates = gathered * token.arrivals(layer.before(work.sent.value.flatten(0, 1)))
        filtered = updates
    else:
        met = layer.at_weights(work.received.value)
        macs = nonzero = token.arrivals(met != 0)
        filtered = work.received.value.numel() + (0 if layer.axon is None else met.numel())
    per_update, numbers = update_of(layer.neurons)
    inner_macs = per_update * updates
    states = (1 + 2 * numbers) * updates
    if axon is not None:
        coefficients, order = taps(axon)
        inner_macs += filtered * coefficients
        states += 2 * filtered * order
        if layer.once(work.received):  # the value times the axon's response
            inner_macs += updates
    spikes = work.spikes.sum(dtype=torch.float64).item() if fires(layer.neurons) else None
    return LayerCost(
        token.text, token.shape(before), spikes, updates, 0 if spikes is None else updates, macs, accumulates,
        inner_macs, 2 * updates, states + (spikes or 0), 0, nonzero,
    )  # fmt: skip


def taps(axon: IIR) -> tuple[int, int]:
    """The multiply-accumulates of one step of a filter, and the count of numbers in its state."""
    coefficients = [c for part in (axon.feedback, axon.feedforward) for c in part]
    return sum(isinstance(c, Tensor) or c != 0 for c in coefficients), len(coefficients) - 1


def update_of(neurons: LIF) -> tuple[int, int]:
    """Multiply-accumulates of one neuron update without its axon, and the count of numbers in its state.

    An update also adds the current and compares with the threshold: two accumulates. (A membrane potential that is read
    is added to its mean instead.)
    """
    leak = isinstance(neurons.decay, Tensor) or neurons.decay != 0
    reset = {"filter": 2, "subtract": 1}.get(neurons.reset, 0)  # with R: its decay and its subtraction
    macs, numbers = leak + reset, 1 + (neurons.reset == "filter")
    if neurons.synapse is not None:
        order = len(neurons.synapse.feedback) + len(neurons.synapse.feedforward)
        macs, numbers = macs + order, numbers + order - 1
    return macs, numbers
