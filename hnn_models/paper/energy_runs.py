"""The runs behind the record of accuracy and energy: one network, trained at each number of steps, and its rival."""

import datetime
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from .. import paths
from ..analysis.costs import LayerCost, bits_of, total
from ..analysis.profile import profile
from ..analysis.quantise import quantised_accuracy
from ..data.images import ImageSet
from ..network.config import NetworkConfig
from ..network.network import HybridNetwork
from ..network.notation import artificial_twin, parse
from ..training import checkpoint, provenance
from ..training.device import device_name
from ..training.protocol import Protocol
from . import energy_record
from .energy_record import COUNTS, EnergyRow

_PROFILED = 1000  # the counts are means over so many test images
_INT8 = 8
# A schedule that reaches the accuracy of the paper's in a tenth of its epochs.
_SHORT = {"batch_size": 128, "lr": 1e-3, "schedule": "one-cycle"}


class Entry(NamedTuple):
    """A network of the series.

    Attributes:
        architecture: in the paper's notation.
        steps: the number of time steps.
        rate_penalty: as in :class:`hnn_models.Protocol`.
    """

    architecture: str
    steps: int = NetworkConfig.steps
    rate_penalty: float = 0.0

    @property
    def spiking(self) -> bool:
        """True unless all layers are artificial."""
        return any(token.spiking for token in parse(self.architecture))


@dataclass
class EnergySeries:
    """The record of accuracy and energy in a CSV file, and the runs that fill it.

    Attributes:
        architecture: a network with spiking layers, in the paper's notation. Its rival is the same network with
            artificial layers alone.
        dataset: the name of the data set.
        images: its images.
        steps: the numbers of time steps to train it at.
        penalties: the penalties of rates to train it with, each at ``penalised`` steps.
        penalised: a number of time steps.
        epochs: of each run.
        precision: as in :class:`hnn_models.Protocol`.
        record: the CSV file.
        runs: the folder of the runs.
        device: the device to train on.
        backend: of the spiking layers; None for the best there is.
        progress: show progress bars on stderr.
    """

    architecture: str
    dataset: str
    images: ImageSet
    steps: Sequence[int]
    penalties: Sequence[float]
    penalised: int
    epochs: int
    precision: str
    record: Path
    runs: Path
    device: torch.device
    backend: str | None = None
    progress: bool = True

    def entries(self) -> list[Entry]:
        """The networks of the series, the rival first."""
        spiking = [Entry(self.architecture, steps) for steps in self.steps]
        penalised = [Entry(self.architecture, self.penalised, penalty) for penalty in self.penalties]
        return [Entry(artificial_twin(parse(self.architecture))), *spiking, *penalised]

    def left(self, seeds: Sequence[int]) -> list[tuple[Entry, int]]:
        """The networks and seeds that lack a row of this series.

        Raises:
            hnn_models.records.RecordError: the file is not a record of energies.
        """
        found = {row.key: row.schedule for row in energy_record.read(self.record)}
        schedule = self._schedule()
        keys = {(entry, seed): self._keys(entry, seed) for seed in seeds for entry in self.entries()}
        return [of for of, needed in keys.items() if any(found.get(key) != schedule for key in needed)]

    def fill(self, seeds: Sequence[int]) -> None:
        """Train what is left. Write the record, and the page beside it, after each network.

        Raises:
            ValueError: a run that cannot be continued.
            hnn_models.records.RecordError: the file is not a record of energies; it is not changed.
            FloatingPointError: the weights of a run are no longer finite.
        """
        commit = provenance.commit()
        left = self.left(seeds)
        for number, (entry, seed) in enumerate(left, start=1):
            print(f"[{number}/{len(left)}] {self.run_dir(entry, seed).name}", file=sys.stderr, flush=True)
            paths.ready(self.record.parent)
            rows = self._rows(entry, seed, commit)
            keys = {row.key for row in rows}
            with paths.locked(self.record.parent, wait=True):
                kept = [row for row in energy_record.read(self.record) if row.key not in keys]
                energy_record.write(self.record, [*kept, *rows])

    def run_dir(self, entry: Entry, seed: int) -> Path:
        """The folder of a run."""
        name = f"{self.dataset}-{entry.architecture}-{entry.steps}-{entry.rate_penalty:g}-{seed}"
        return self.runs / f"{name}-{self._schedule().replace(', ', '-').replace(' ', '')}"

    def protocol(self, entry: Entry, seed: int) -> Protocol:
        """The protocol of a run."""
        return Protocol.of(
            self.dataset, "paper", epochs=self.epochs, precision=self.precision, seed=seed,
            rate_penalty=entry.rate_penalty, **_SHORT,
        )  # fmt: skip

    def _schedule(self) -> str:
        return f"{self.epochs} epochs, {self.precision}"

    def _keys(self, entry: Entry, seed: int) -> list[tuple[str | int | float, ...]]:
        return [self._row(entry, seed, bits, {}).key for bits in self._bits(entry)]

    def _bits(self, entry: Entry) -> list[int]:
        """The precisions of the values that the rival is tested in, 0 for its own; a spiking network has that alone."""
        return [0] if entry.spiking else sorted({0, _INT8, *(bits_of(steps) for steps in self.steps)})

    def _rows(self, entry: Entry, seed: int, commit: str) -> list[EnergyRow]:
        from ..training import learning

        protocol = self.protocol(entry, seed)
        torch.manual_seed(seed)
        network = HybridNetwork(entry.architecture, self.images.shape, steps=entry.steps, backend=self.backend)
        outcome = learning.train(
            network, self.images, protocol, run_dir=self.run_dir(entry, seed), device=self.device, resume=True,
            progress=self.progress,
        )  # fmt: skip
        _, validation, test = learning.parts(network, self.images, protocol)
        costs = profile(checkpoint.load(outcome.checkpoint), self.images, test[:_PROFILED], self.device)
        shared = {
            "epochs": outcome.epochs,
            "best_epoch": outcome.best_epoch,
            "val_accuracy": round(100 * outcome.validation_accuracy, 3),
            "test_accuracy": round(100 * outcome.test_accuracy, 3),
            "test_images": len(test),
            "hidden_rate": round(100 * (hidden_rate(costs) or 0.0), 3),
            **{name: round(number or 0, 1) for name, number in total(costs)._asdict().items() if name in COUNTS},
            "seconds_per_epoch": round(outcome.seconds / outcome.epochs, 3),
            "device": device_name(self.device),
            "torch": torch.__version__,
            "commit": commit,
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        }
        rows = []
        found_before = {row.key for row in energy_record.read(self.record) if row.schedule == self._schedule()}
        for bits in self._bits(entry):
            if self._row(entry, seed, bits, {}).key in found_before:
                continue  # the rival, which lacks another number of bits
            if bits:
                found = quantised_accuracy(network.cpu(), self.images, validation, test, bits)
                names = ("val_accuracy", "test_accuracy")
                shared |= {name: round(100 * value, 3) for name, value in zip(names, found, strict=True)}
            rows.append(self._row(entry, seed, bits, shared))
        return rows

    def _row(self, entry: Entry, seed: int, bits: int, measured: dict) -> EnergyRow:
        known = {
            "architecture": entry.architecture,
            "dataset": self.dataset,
            "steps": entry.steps if entry.spiking else 0,
            "rate_penalty": entry.rate_penalty,
            "bits": bits,
            "seed": seed,
            "schedule": self._schedule(),
        }
        return EnergyRow(**{**dict.fromkeys(EnergyRow._fields, 0), **known, **measured})


def hidden_rate(costs: Sequence[LayerCost]) -> float | None:
    """The rate of the spiking layers with weights behind them: all but the last. None if there is no such layer."""
    hidden = [cost for cost in costs[:-1] if cost.spikes is not None]
    return total(hidden).rate if hidden else None
