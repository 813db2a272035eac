"""What a network costs per image: operations, memory traffic, and an estimate of the energy of both.

The operations are those of an event-driven implementation, which adds a weight when a spike arrives. With an axon, F
is not binary and W F is not a sum over spikes. But the filter is linear, so W F = filter(W O): where all neurons of a
layer share one axon and no pool stands behind it, each spike's weights are accumulated as ever, and the filter works on
the sums, once per neuron of the receiving layer. Elsewhere (an axon for each neuron or channel; a max-pool of F, which
is not linear) F has to be multiplied: such a layer costs a multiply-accumulate for every weight of an F that is not
zero. Artificial layers, and weights on a coded analogue value, cost every multiply-accumulate, zero or not. Biases are
left out.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hnn_kernels.nn import IIR, LIF

from ..network.layers import SpikingLayer, shared
from ..network.network import HybridNetwork
from ..network.notation import Shape
from .activity import Activity, activity

FLOAT = 4  # bytes


class Costs(NamedTuple):
    """Energies in picojoules, of 32-bit floating point in 45 nm at 0.9 V.

    The defaults are of M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014, figure
    1.1.9: an addition takes 0.9 pJ and a multiplication 3.7 pJ; 8 bytes from a memory of 1 MiB on the chip take 100 pJ
    (10 pJ from 8 KiB, 1300 to 2600 pJ from DRAM).
    """

    mac: float = 3.7 + 0.9
    accumulate: float = 0.9
    byte: float = 100 / 8


HOROWITZ = Costs()


class LayerCost(NamedTuple):
    """One layer's cost, means over images.

    Attributes:
        name, shape: of the layer.
        spikes: number of its spikes; None for an artificial layer.
        updates: neuron updates, neurons times steps; neurons for an artificial layer.
        macs: multiply-accumulates of its weights.
        accumulates: additions of a weight on arrival of a spike, the synaptic operations (SOPs).
        inner_macs, inner_accumulates: of its neuron updates, and of the axon in front of it.
        traffic: bytes moved, with no reuse between operations: each multiply-accumulate reads a weight and an input,
            each accumulate reads a weight and reads and writes the sum, each update reads and writes the state, each
            artificial value and each spike's address is written once, 4 bytes each.
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
        """Picojoules of the arithmetic."""
        macs, accumulates = self.macs + self.inner_macs, self.accumulates + self.inner_accumulates
        return costs.mac * macs + costs.accumulate * accumulates

    def memory_energy(self, costs: Costs = HOROWITZ) -> float:
        """Picojoules of the memory traffic."""
        return costs.byte * self.traffic


def profile(network: HybridNetwork, batches: Iterable[Tensor]) -> list[LayerCost]:
    """Every layer of ``network`` with its cost per image, input side first; pools are free.

    Args:
        network: the network.
        batches: images ``[B, *input_shape]``, on the device of the network.

    Raises:
        ValueError: there are no images.
    """
    sums: list[LayerCost] = []
    count = 0
    for images in batches:
        count += len(images)
        batch = _batch(network, images)
        sums = [_sum(pair) for pair in zip(sums, batch, strict=True)] if sums else batch
    if count == 0:
        raise ValueError("batches must hold at least one image; got none")
    return [LayerCost(cost.name, cost.shape, *(None if n is None else n / count for n in cost[2:])) for cost in sums]


def total(costs: Iterable[LayerCost]) -> LayerCost:
    """All layers together; ``updates`` are those of the spiking layers where there are any, as :attr:`rate` needs."""
    costs = list(costs)
    spiking = [cost for cost in costs if cost.spikes is not None]
    updates = sum(cost.updates for cost in spiking or costs)
    return _sum(costs)._replace(name="total", shape=(), updates=updates)


def all_artificial(network: HybridNetwork) -> LayerCost:
    """What the same layers cost if all of them are artificial, to compare :func:`total` with."""
    twin = HybridNetwork(**network.pretraining_config)
    return total(_batch(twin, torch.empty(1, *twin.input_shape)))._replace(name="if artificial")


def _sum(costs: Sequence[LayerCost]) -> LayerCost:
    columns = zip(*(cost[2:] for cost in costs), strict=True)
    numbers = ([n for n in column if n is not None] for column in columns)
    return LayerCost(costs[0].name, costs[0].shape, *(sum(column) if column else None for column in numbers))


def _batch(network: HybridNetwork, images: Tensor) -> list[LayerCost]:
    """Costs of a batch, not yet means."""
    found: list[LayerCost] = []
    axon = network.code and network.code.axon
    works = activity(network, images)
    first = True
    for layer, shape, module in network.modules_by_layer():
        if isinstance(module, SpikingLayer):
            analogue = first and network.coding != "poisson"
            found.append(_spiking(layer.token, shape, next(works), axon, analogue))
            axon, first = module.neurons.axon, False
        elif module is not None:
            macs = len(images) * _dense(module, shape)
            outputs = len(images) * module.weight.shape[0] * math.prod(shape[1:])  # Gaussian coding has two per neuron
            found.append(LayerCost(layer.token, shape, None, outputs, macs, 0, 0, 0, FLOAT * (2 * macs + outputs)))
    return found


def _spiking(name: str, shape: Shape, work: Activity, axon: IIR | None, analogue: bool) -> LayerCost:
    """The cost of one spiking layer; ``axon`` stands in front of it, ``analogue`` says that no spikes reach it."""
    layer = work.layer
    steps, images = work.spikes.shape[:2]
    updates = work.spikes.numel()
    pooled = any(isinstance(module, nn.MaxPool2d) for module in layer.before)
    macs = accumulates = filtered = 0  # filtered: values that go through the axon
    if analogue:
        constant = work.received.constant
        macs = (1 if constant else steps) * images * _dense(layer.weights, shape)
        filtered = 0 if constant else work.received.value.numel()
    elif axon is None or (shared(axon) and not pooled):
        accumulates = _arrivals(layer.weights, layer.before(work.sent.value.flatten(0, 1)))
        filtered = updates
    else:
        macs = _arrivals(layer.weights, layer.before(work.received.value.flatten(0, 1)) != 0)
        filtered = work.received.value.numel()
    inner_macs, numbers = _update(layer.neurons)
    inner_macs *= updates
    traffic = FLOAT * (2 * macs + 3 * accumulates + (1 + 2 * numbers) * updates)
    if axon is not None:
        taps = [c for part in (axon.feedback, axon.feedforward) for c in part]
        inner_macs += filtered * sum(isinstance(c, Tensor) or c != 0 for c in taps)
        traffic += FLOAT * 2 * filtered * (len(taps) - 1)
        if work.received.constant:  # the value times the axon's response
            inner_macs += updates
    spikes = work.spikes.sum(dtype=torch.float64).item()
    return LayerCost(name, shape, spikes, updates, macs, accumulates, inner_macs, 2 * updates, traffic + FLOAT * spikes)


def _dense(weights: nn.Module, shape: Shape) -> int:
    """Multiply-accumulates of Linear or Conv2d with an output of ``shape``, which has no doubled channels."""
    return weights.weight.numel() * math.prod(shape[1:])


def _arrivals(weights: nn.Module, train: Tensor) -> float:
    """How many weights the ones of a train ``[T * B, *in]`` meet: each as many as its place has outputs."""
    per_place = train.sum(0, dtype=torch.float64)
    if isinstance(weights, nn.Linear):
        return per_place.sum().item() * weights.out_features
    kernel = torch.ones_like(weights.weight, dtype=torch.float64)
    return nn.functional.conv2d(per_place[None], kernel).sum().item()


def _update(neurons: LIF) -> tuple[int, int]:
    """Multiply-accumulates of one neuron update, and how many numbers its state has; the axon apart.

    An update also adds the current and compares with the threshold: two accumulates.
    """
    leak = isinstance(neurons.decay, Tensor) or neurons.decay != 0
    reset = {"filter": 2, "subtract": 1}.get(neurons.reset, 0)  # R's decay and its subtraction; the subtraction
    macs, numbers = leak + reset, 1 + (neurons.reset == "filter")
    if neurons.synapse is not None:
        order = len(neurons.synapse.feedback) + len(neurons.synapse.feedforward)
        macs, numbers = macs + order, numbers + order - 1
    return macs, numbers
