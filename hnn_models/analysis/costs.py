"""The cost of a layer in operations and numbers that are moved, and models of the energy of both."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..network.tokens import Shape

FLOAT = 4  # bytes


class Costs(NamedTuple):
    """A model of energy: picojoules for each operation and each byte, and the bytes of each number.

    The defaults are of 32-bit floating point in 45 nm at 0.9 V, from M. Horowitz, "Computing's energy problem (and what
    we can do about it)", ISSCC 2014, figure 1.1.9. An addition takes 0.9 pJ and a multiplication 3.7 pJ. Reading 8
    bytes takes 100 pJ from a memory of 1 MiB on the chip (10 pJ from 8 KiB, 1300 to 2600 pJ from DRAM).

    Attributes:
        mac: of a multiply-accumulate of a weight.
        accumulate: of an addition of a weight.
        byte: of a byte of memory traffic.
        inner_mac, inner_accumulate: of the operations inside neurons and axons.
        update: of a neuron update as a whole, artificial neurons too; None where its operations are counted.
        weight, value, state: bytes of a weight, of a value that is multiplied, and of a sum or a state.
        skips_zeros: True for artificial layers that skip values of zero, as those behind a ReLU.
    """

    mac: float = 3.7 + 0.9
    accumulate: float = 0.9
    byte: float = 100 / 8
    inner_mac: float = 3.7 + 0.9
    inner_accumulate: float = 0.9
    update: float | None = None
    weight: float = FLOAT
    value: float = FLOAT
    state: float = FLOAT
    skips_zeros: bool = False


HOROWITZ = Costs()
# Weights of 8 bits that are added to sums of 32 bits. An addition of 32 bits takes 0.1 pJ, multiplications of 8 and of
# 32 bits 0.2 and 3.1 pJ (the same figure). Neurons and their states have 32 bits.
INT8 = Costs(0.2 + 0.1, 0.1, inner_mac=3.1 + 0.1, inner_accumulate=0.1, weight=1, value=1)
# The constants of the program of the paper's authors (notebooks/energy_estimation.jl): an operation, whether of a
# multiplication or of a spike, takes 27.11 pJ, and the update of a neuron 81 pJ. Memory is part of both.
AUTHORS = Costs(27.11, 27.11, 0.0, 0.0, 0.0, update=81.0)

MODELS = {"horowitz": HOROWITZ, "int8": INT8, "authors": AUTHORS}


def quantised(bits: int) -> Costs:
    """The model of an artificial network with weights of 8 bits and values of ``bits``, which skips zeros.

    The energy of a multiplier is taken to grow with the product of its operands' widths.
    """
    return INT8._replace(mac=0.2 * bits / 8 + 0.1, value=bits / 8, skips_zeros=True)


def bits_of(steps: int) -> int:
    """The bits that a value needs to have as many levels as a count of spikes in ``steps`` steps, 0 among them."""
    return math.ceil(math.log2(steps + 1))


class LayerCost(NamedTuple):
    """The cost of one layer, mean over images.

    Attributes:
        name: the layer's token, or the name of its module.
        shape: of the layer's output.
        spikes: number of spikes; None for an artificial layer, and for a last layer whose membrane potential is read.
        updates: neuron updates: neurons times steps, or values for an artificial layer.
        firing: of ``updates``, those of neurons that can fire.
        macs: multiply-accumulates of the weights.
        accumulates: additions of a weight when a spike arrives, the synaptic operations (SOPs).
        inner_macs, inner_accumulates: of the neuron updates, and of the axon in front of the layer.
        states: numbers of the neurons' and axons' states that are read or written, and addresses of spikes that are
            written.
        values: numbers that an artificial layer writes.
        nonzero: of ``macs``, those of values that are not zero.
    """

    name: str
    shape: Shape
    spikes: float | None
    updates: float
    firing: float
    macs: float
    accumulates: float
    inner_macs: float
    inner_accumulates: float
    states: float
    values: float
    nonzero: float

    @property
    def rate(self) -> float | None:
        """Spikes per neuron that can fire, and step."""
        return None if self.spikes is None else self.spikes / self.firing

    @property
    def traffic(self) -> float:
        """Bytes moved in 32-bit floating point; see :meth:`bytes`."""
        return self.bytes(HOROWITZ)

    def energy(self, costs: Costs = HOROWITZ) -> float:
        """Energy of the arithmetic, in picojoules."""
        own = costs.mac * self._multiplied(costs) + costs.accumulate * self.accumulates
        if costs.update is not None:
            return own + costs.update * self.updates
        return own + costs.inner_mac * self.inner_macs + costs.inner_accumulate * self.inner_accumulates

    def bytes(self, costs: Costs) -> float:
        """Bytes moved, if no operation reuses numbers of another one.

        Each multiply-accumulate reads a weight and a value. Each accumulate reads a weight, and reads and writes the
        sum.
        """
        per_accumulate = costs.weight + 2 * costs.state
        moved = self._multiplied(costs) * (costs.weight + costs.value) + self.accumulates * per_accumulate
        return moved + self.states * costs.state + self.values * costs.value

    def memory_energy(self, costs: Costs = HOROWITZ) -> float:
        """Energy of the memory traffic, in picojoules."""
        return costs.byte * self.bytes(costs)

    def _multiplied(self, costs: Costs) -> float:
        return self.nonzero if costs.skips_zeros else self.macs


class BreakEven(NamedTuple):
    """Spikes per neuron in all steps together, rate times T, below which a layer behind spikes takes less energy.

    Attributes:
        arithmetic: counting operations of the weights alone.
        traffic: counting the bytes that they move alone.
    """

    arithmetic: float
    traffic: float


def break_even(costs: Costs = HOROWITZ, rival: Costs = HOROWITZ, nonzero: float = 1.0) -> BreakEven:
    """The spikes at which a layer behind them breaks even with an artificial layer of the same weights.

    A neuron that sends n spikes costs each weight behind it n additions. The artificial one costs it a multiplication,
    in a fraction ``nonzero`` of all cases if the rival skips zeros. Neurons' own updates are left out, so these are
    upper bounds.

    Args:
        costs: the model of the spiking layer.
        rival: the model of the artificial layer.
        nonzero: the fraction of the artificial layer's inputs that is not zero.
    """
    share = nonzero if rival.skips_zeros else 1.0
    moved = (rival.weight + rival.value) / (costs.weight + 2 * costs.state)
    return BreakEven(share * rival.mac / costs.accumulate, share * moved)


def total(costs: Iterable[LayerCost]) -> LayerCost:
    """The sum of ``costs``; its rate is that of all neurons that can fire."""
    return added(list(costs))._replace(name="total", shape=())


def added(costs: Sequence[LayerCost]) -> LayerCost:
    """The sums of the numbers of ``costs``, with the name and the shape of the first."""
    columns = zip(*(cost[2:] for cost in costs), strict=True)
    numbers = ([n for n in column if n is not None] for column in columns)
    return LayerCost._make([*costs[0][:2], *(sum(column) if column else None for column in numbers)])


def per_image(sums: Iterable[LayerCost], images: int) -> list[LayerCost]:
    """Means over ``images`` of sums over them."""
    return [LayerCost._make([*cost[:2], *(None if n is None else n / images for n in cost[2:])]) for cost in sums]
