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
from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from hnn_kernels.nn import IIR, LIF

from ..network.activity import Activity, activity, fires
from ..network.codings import KINDS
from ..network.layers import SpikingLayer, shared
from ..network.network import HybridNetwork
from ..network.state import evaluating
from ..network.tokens import Shape, Token
from ..network.wrappers import unwrapped

FLOAT = 4  # bytes


class Costs(NamedTuple):
    """Energies in picojoules, of 32-bit floating point in 45 nm at 0.9 V.

    The defaults are from M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014, figure
    1.1.9. An addition takes 0.9 pJ and a multiplication 3.7 pJ. Reading 8 bytes takes 100 pJ from a memory of 1 MiB on
    the chip (10 pJ from 8 KiB, 1300 to 2600 pJ from DRAM).

    Attributes:
        mac: of a multiply-accumulate.
        accumulate: of an addition.
        byte: of a byte of memory traffic.
    """

    mac: float = 3.7 + 0.9
    accumulate: float = 0.9
    byte: float = 100 / 8


HOROWITZ = Costs()


class LayerCost(NamedTuple):
    """The cost of one layer, mean over images.

    Attributes:
        name: the layer's token.
        shape: of the layer's output.
        spikes: number of spikes; None for an artificial layer, and for a last layer whose membrane potential is read.
        updates: neuron updates: neurons times steps, or neurons for an artificial layer.
        macs: multiply-accumulates of the weights.
        accumulates: additions of a weight when a spike arrives, the synaptic operations (SOPs).
        inner_macs, inner_accumulates: of the neuron updates, and of the axon in front of the layer.
        traffic: bytes moved, 4 for each value, if no operation reuses values of another one. Each multiply-accumulate
            reads a weight and an input. Each accumulate reads a weight, and reads and writes the sum. Each update reads
            and writes the state. Each artificial value, and the address of each spike, is written once.
    """

    name: str
    shape: Shape
    spikes: float | None
    updates: float
    macs: float
    accumulates: float
    inner_macs: float
    inner_accumulates: float
    traffic: float

    @property
    def rate(self) -> float | None:
        """Spikes per neuron and step."""
        return None if self.spikes is None else self.spikes / self.updates

    def energy(self, costs: Costs = HOROWITZ) -> float:
        """Energy of the arithmetic, in picojoules."""
        macs, accumulates = self.macs + self.inner_macs, self.accumulates + self.inner_accumulates
        return costs.mac * macs + costs.accumulate * accumulates

    def memory_energy(self, costs: Costs = HOROWITZ) -> float:
        """Energy of the memory traffic, in picojoules."""
        return costs.byte * self.traffic


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
        sums = [_sum(pair) for pair in zip(sums, batch, strict=True)] if sums else batch
    if count == 0:
        raise ValueError("batches must hold at least one image; got none")
    return [LayerCost._make([*cost[:2], *(None if n is None else n / count for n in cost[2:])]) for cost in sums]


def total(costs: Iterable[LayerCost]) -> LayerCost:
    """The sum of ``costs``. If there are spiking layers, ``updates`` are theirs alone, so that the rate is theirs."""
    costs = list(costs)
    spiking = [cost for cost in costs if cost.spikes is not None]
    updates = sum(cost.updates for cost in spiking or costs)
    return _sum(costs)._replace(name="total", shape=(), updates=updates)


def all_artificial(network: nn.Module) -> LayerCost:
    """The cost of the same layers if all of them are artificial, to compare with :func:`total`."""
    config = unwrapped(network).settings.pretraining()
    before = [tuple(config.input_shape), *config.shapes]
    costs = [
        _artificial(token, shape, 1) for token, shape in zip(config.tokens, before, strict=False) if token.weighted
    ]
    return total(costs)._replace(name="if artificial")


def _sum(costs: Sequence[LayerCost]) -> LayerCost:
    columns = zip(*(cost[2:] for cost in costs), strict=True)
    numbers = ([n for n in column if n is not None] for column in columns)
    return LayerCost._make([*costs[0][:2], *(sum(column) if column else None for column in numbers)])


def _batch(network: HybridNetwork, images: Tensor) -> list[LayerCost]:
    """The sums over the images of a batch."""
    found: list[LayerCost] = []
    axon = None if network.code is None else network.code.axon
    works = activity(network, images)
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
            found.append(_artificial(token, before, len(images), network.settings.outputs(token)))
        before = shape
    return found


def _artificial(token: Token, before: Shape, images: int, outputs: int = 1) -> LayerCost:
    """The cost of one artificial layer behind a layer of shape ``before``, with ``outputs`` values per neuron."""
    shape = token.shape(before)
    macs = images * token.operations(before, outputs)
    values = images * outputs * math.prod(shape)
    return LayerCost(token.text, shape, None, values, macs, 0, 0, 0, FLOAT * (2 * macs + values))


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
    accumulates: float = 0
    filtered = 0  # values that go through the axon
    if analogue:
        once = layer.once(work.received)
        macs = (1 if once else steps) * images * token.operations(before)
        filtered = 0 if once else steps * images * math.prod(token.takes(before))
    elif axon is None or (shared(axon) and linear):
        accumulates = gathered * token.arrivals(layer.before(work.sent.value.flatten(0, 1)))
        filtered = updates
    else:
        met = layer.at_weights(work.received.value)
        macs = token.arrivals(met != 0)
        filtered = work.received.value.numel() + (0 if layer.axon is None else met.numel())
    per_update, numbers = _update(layer.neurons)
    inner_macs = per_update * updates
    traffic = FLOAT * (2 * macs + 3 * accumulates + (1 + 2 * numbers) * updates)
    if axon is not None:
        taps = [c for part in (axon.feedback, axon.feedforward) for c in part]
        inner_macs += filtered * sum(isinstance(c, Tensor) or c != 0 for c in taps)
        traffic += FLOAT * 2 * filtered * (len(taps) - 1)
        if layer.once(work.received):  # the value times the axon's response
            inner_macs += updates
    spikes = work.spikes.sum(dtype=torch.float64).item() if fires(layer.neurons) else None
    traffic += FLOAT * (spikes or 0)
    return LayerCost(
        token.text, token.shape(before), spikes, updates, macs, accumulates, inner_macs, 2 * updates, traffic
    )


def _update(neurons: LIF) -> tuple[int, int]:
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
