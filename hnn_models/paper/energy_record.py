"""The record of accuracy and energy by the number of steps: a CSV file, and the page that is made from it."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from .. import paths
from ..analysis.costs import AUTHORS, HOROWITZ, INT8, Costs, LayerCost, bits_of, break_even, quantised
from ..records import parsed, typed, words, write_words
from .comparison import mean_of
from .record import line

# The columns that are counts of LayerCost. A row lists them again: they are columns, in the file's order and each a
# number, where a cost may have no count of spikes.
COUNTS = tuple(name for name in LayerCost._fields if name not in ("name", "shape"))


class EnergyRow(NamedTuple):
    """A trained network, and what it costs per image.

    Attributes:
        architecture, dataset, steps: of the network; ``steps`` is 0 for a purely artificial one.
        rate_penalty: of the protocol.
        bits: of the values of a purely artificial network with 8-bit weights; 0 where nothing is quantised.
        seed: of the run.
        schedule: the protocol in a few words.
        epochs, best_epoch: the number of epochs, and the one that was tested, from 1.
        val_accuracy, test_accuracy: in percent.
        test_images: the number that the accuracy was measured on.
        hidden_rate: spikes per neuron and step of the spiking layers with weights behind them, in percent.
        spikes, ..., nonzero: the counts of :class:`hnn_models.analysis.costs.LayerCost`, of all layers.
        seconds_per_epoch: with validation.
        device, torch, commit, date: of the run.
    """

    architecture: str
    dataset: str
    steps: int
    rate_penalty: float
    bits: int
    seed: int
    schedule: str
    epochs: int
    best_epoch: int
    val_accuracy: float
    test_accuracy: float
    test_images: int
    hidden_rate: float
    spikes: float
    updates: float
    firing: float
    macs: float
    accumulates: float
    inner_macs: float
    inner_accumulates: float
    states: float
    values: float
    nonzero: float
    seconds_per_epoch: float
    device: str
    torch: str
    commit: str
    date: str

    @property
    def key(self) -> tuple[str | int | float, ...]:
        """The columns that no two rows share."""
        return (*self.network, self.seed)

    @property
    def network(self) -> tuple[str | int | float, ...]:
        """The columns that rows have in common that differ in the seed alone. Their order is that of the page."""
        return (self.dataset, self.architecture, self.bits, self.rate_penalty > 0, self.steps, self.rate_penalty)

    @property
    def cost(self) -> LayerCost:
        """The counts."""
        return LayerCost(self.architecture, (), *(getattr(self, name) for name in COUNTS))


def read(path: Path) -> list[EnergyRow]:
    """Read the rows of the record at ``path``; no rows if there is no file.

    Raises:
        RecordError: the file is not such a record, or is damaged; the message names the line.
    """
    _, lines = words(path, "energies", EnergyRow._fields)
    return parsed(path, lines, lambda line: typed(EnergyRow, line), lambda row: row.key, "network")


def write(path: Path, rows: Iterable[EnergyRow]) -> None:
    """Write the record, and beside it the page with the suffix ``.md``, each in one step."""
    rows = sorted(rows, key=lambda row: row.key)
    write_words(path, [EnergyRow._fields, *rows])
    paths.write(path.with_suffix(".md"), markdown(rows))


def markdown(rows: Iterable[EnergyRow]) -> str:
    """Make the page: accuracy and energy by the number of steps, by the rate, and of the quantised rival."""
    several = [_Mean.of(list(group)) for _, group in groupby(sorted(rows, key=lambda r: r.key), lambda r: r.network)]
    spiking, rivals = ([one for one in several if bool(one.row.steps) is kind] for kind in (True, False))
    lines = ["# Accuracy and energy", "", _LEGEND]
    for name, of_one in groupby(spiking, key=lambda one: (one.row.architecture, one.row.dataset)):
        found = list(of_one)
        lines += ["", f"## {name[0]}, {name[1]}", "", *_energies(found)]
        own = [one for one in rivals if one.row.dataset == name[1]]
        if own:
            lines += ["", _RIVAL, "", *_rivals(own)]
            lines += ["", _BREAK_EVEN, "", *_limits(found, own)]
    return "\n".join(lines) + "\n"


class _Mean(NamedTuple):
    """The runs of a network that differ in the seed alone: the mean accuracy, its error, and the first one's row."""

    accuracy: float
    error: float
    runs: int
    row: EnergyRow

    @classmethod
    def of(cls, rows: Sequence[EnergyRow]) -> "_Mean":
        mean, spread, images = mean_of([row.test_accuracy for row in rows], rows[0].test_images)
        return cls(mean, max(spread or 0.0, images), len(rows), rows[0])

    @property
    def text(self) -> str:
        return f"{self.accuracy:.2f} ± {self.error:.2f}"


_LEGEND = """\
Test accuracies in percent, ± the standard error: that of the test images, or that of the spread between runs with
several seeds where it is larger. Energies are in nJ per image, means over 1,000 test images of the first seed;
*traffic* is the energy of the memory traffic. `hnn_models/analysis/energy.py` says what is counted. The prices are in
`hnn_models/analysis/costs.py`: of 32-bit numbers, of 8-bit weights, and those of the program of the paper's authors.
*Rate* is that of the spiking layers with weights behind them, in spikes per neuron and step.

Each network was trained at its number of steps T. `hnn energy` trains what the record lacks, and writes this page from
the CSV file beside it, which has every run with its schedule, device and commit."""

_RIVAL = """\
The rival is the same network with artificial layers alone. Quantised, it has 8-bit weights and values of few levels,
pixels among them, rounded after training; zeros are then skipped. As many levels as a count of spikes in T steps take
⌈log₂(T + 1)⌉ bits."""

_BREAK_EVEN = """\
A layer behind spikes takes less energy than the rival's layer if its neurons send fewer spikes in all T steps together,
rate times T, than the limits in arithmetic and in traffic. They follow from the prices, and from the share of the
rival's values that is not zero."""


def _energies(found: Sequence[_Mean]) -> list[str]:
    lines = [
        line(
            (
                "T", "penalty of rates", "test accuracy", "runs", "rate (%)", "MACs", "additions",
                "32 bits: arithmetic", "traffic", "8-bit weights: arithmetic", "traffic", "authors' prices",
            )
        ),
        "|" + " ---: |" * 12,
    ]  # fmt: skip
    for one in found:
        row, cost = one.row, one.row.cost
        lines.append(
            line(
                (
                    str(row.steps),
                    f"{row.rate_penalty:g}" if row.rate_penalty else "none",
                    one.text,
                    str(one.runs),
                    f"{row.hidden_rate:.1f}",
                    f"{row.macs:,.0f}",
                    f"{row.accumulates:,.0f}",
                    *_nanojoules(cost, HOROWITZ),
                    *_nanojoules(cost, INT8),
                    _nanojoules(cost, AUTHORS)[0],
                )
            )
        )
    return lines


def _rivals(found: Sequence[_Mean]) -> list[str]:
    lines = [
        line(
            ("values", "as many levels as T", "test accuracy", "runs", "values not zero (%)", "arithmetic", "traffic")
        ),
        "|" + " --- |" * 2 + " ---: |" * 5,
    ]
    for one in found:
        bits, row = one.row.bits, one.row
        costs, share = (quantised(bits), 100 * row.nonzero / row.macs) if bits else (HOROWITZ, 100.0)
        lines.append(
            line(
                (
                    f"{bits} bits" if bits else "32 bits, weights too, zeros multiplied",
                    f"up to {2**bits - 1}" if bits else "",
                    one.text,
                    str(one.runs),
                    f"{share:.0f}",
                    *_nanojoules(row.cost, costs),
                )
            )
        )
    return lines


def _limits(found: Sequence[_Mean], rivals: Sequence[_Mean]) -> list[str]:
    by_bits = {one.row.bits: one.row for one in rivals}
    lines = [
        line(("T", "penalty", "rate times T", "limits, 32 bits", "against 8 bits", "against as many levels as T")),
        "|" + " ---: |" * 6,
    ]
    for one in found:
        row = one.row
        cells = [str(row.steps), f"{row.rate_penalty:g}" if row.rate_penalty else "none"]
        cells += [f"{row.hidden_rate * row.steps / 100:.2f}", _limit(HOROWITZ, HOROWITZ, 1.0)]
        for bits in (8, bits_of(row.steps)):
            other = by_bits.get(bits)
            cells.append("" if other is None else _limit(INT8, quantised(bits), other.nonzero / other.macs))
        lines.append(line(cells))
    return lines


def _limit(costs: Costs, rival: Costs, nonzero: float) -> str:
    return ", ".join(f"{limit:.2g}" for limit in break_even(costs, rival, nonzero))


def _nanojoules(cost: LayerCost, costs: Costs) -> tuple[str, str]:
    return f"{cost.energy(costs) / 1e3:,.0f}", f"{cost.memory_energy(costs) / 1e3:,.0f}"
