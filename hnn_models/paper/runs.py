"""The runs behind the paper's tables: train what the record lacks, cell by cell, and write it down."""

import datetime
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from .. import paths
from ..analysis.costs import total
from ..analysis.profile import profile
from ..data import datasets
from ..data.images import ImageSet
from ..data.listing import SUFFIXES
from ..network.config import NetworkConfig
from ..network.network import HybridNetwork
from ..training import checkpoint, provenance
from ..training.device import device_name
from ..training.protocol import Protocol
from . import pages, record
from .cells import Cell, Run
from .plan import Plan
from .record import Row

# Training needs Lightning and plots need matplotlib: neither is imported before it is used.
if TYPE_CHECKING:
    from ..analysis.plots import Point
    from ..training.learning import Outcome

# Arguments that were added to networks and protocols, with their defaults.
_LATER: Mapping[str, Any] = {
    **{name: getattr(NetworkConfig, name) for name in ("pool_axon", "pretrained_activation", "readout")},
    **{
        name: Protocol._field_defaults[name]
        for name in ("logit_scale", "leaked_split", "loss", "rate_penalty", "rate_target", "held_out", "erase")
    },
}
_PROFILED = 1000  # the energy is the mean over so many test images


class Source(NamedTuple):
    """The place of a data set's images.

    Attributes:
        kind: the name for :func:`hnn_models.load_images`: that of the data set, or ``"folder"`` for a copy.
        label: the data set's name; for a copy with a note, such as ``"cifar10 (JPEG copy)"``.
        folder: the folder for :func:`hnn_models.load_images`; None for a set that needs none.
    """

    kind: str
    label: str
    folder: Path | None = None

    @classmethod
    def of(cls, dataset: str, folder: Path | None) -> "Source":
        """Look into ``folder``: it holds the files of ``dataset`` that torchvision reads, or images as a copy of it."""
        if folder is not None and (folder / "train").is_dir():
            images = (path for path in folder.glob("train/*/[!.]*") if path.suffix.lower() in SUFFIXES)
            image = min(images, default=Path())  # the first by name, on every file system
            kind = image.suffix[1:].upper().replace("JPG", "JPEG")
            return cls("folder", f"{dataset} ({kind} copy)", folder)
        return cls(dataset, dataset, folder)


@dataclass
class Reproduction:
    """The record of ``cells`` in a CSV file, and the runs that fill it.

    The name of a run's folder depends on its network and protocol alone. So cells that share a run find it, and an
    interrupted run is continued.

    Attributes:
        cells: every cell that the record may have.
        plan: the plan of all runs.
        record: the CSV file.
        runs: folder of all runs.
        sources: the place of the images, by the data set's name.
        device, progress: as for :func:`hnn_models.train`.
        backend: of the network's kernels, as for :func:`hnn_kernels.lif`.
        alike: plans whose finished cells count as finished in ``plan``.
    """

    cells: Sequence[Cell]
    plan: Plan
    record: Path
    runs: Path
    sources: Mapping[str, Source]
    device: torch.device
    backend: str | None = None
    progress: bool = True
    alike: Sequence[Plan] = ()
    _outcomes: dict[tuple[Run, int], "Outcome"] = field(default_factory=dict)
    _images: dict[str, ImageSet] = field(default_factory=dict)

    def left(self, cells: Iterable[Cell], seeds: Iterable[int]) -> list[tuple[Cell, int]]:
        """The cells and seeds that have no row of this plan.

        Raises:
            hnn_models.records.RecordError: the file is not a record.
        """
        rows = record.read(self.record, self.cells)
        return [(cell, seed) for seed in seeds for cell in cells if self.finished(rows, cell, seed) is None]

    def finished(self, rows: Iterable[Row], cell: Cell, seed: int) -> Row | None:
        """The row of this plan, or of one that counts as this, for ``cell`` and ``seed``; None if there is none."""
        plans = {plan.label(cell.run.dataset) for plan in (self.plan, *self.alike)}
        source = self.sources.get(cell.run.dataset)
        for row in rows:
            same_images = source is None or source.label == row.dataset
            if row.is_of(cell) and row.seed == seed and row.recipe in plans and same_images:
                return row
        return None

    def fill(self, cells: Sequence[Cell], seeds: Sequence[int]) -> None:
        """Train the cells that are left. Write the record, and the pages beside it, after each of them.

        Raises:
            ValueError: images that are missing, or a run that cannot be continued.
            hnn_models.records.RecordError: the file is not a record; it is not changed.
            FloatingPointError: the weights of a run are no longer finite.
        """
        commit = provenance.commit()
        left = self.left(cells, seeds)
        for cell, _ in left:
            self._source(cell.run.dataset)
        for number, (cell, seed) in enumerate(left, start=1):
            _say(f"[{number}/{len(left)}] {cell.name}, seed {seed}")
            rows = record.read(self.record, self.cells)
            row = self._shared(rows, cell, seed)
            if row is None:
                self._load(cell.run.dataset)
                paths.ready(self.record.parent)  # a record that cannot be written must not cost a run
                row = self._row(cell, seed, commit)
            with paths.locked(self.record.parent, wait=True):
                # The file is read again, because another process may have written it meanwhile.
                pages.write(self.record, record.put(record.read(self.record, self.cells), row), self.cells)
            _say(f"{row.test_accuracy:.2f} %, the paper's {row.paper_accuracy:.2f} %")

    def run_of(self, cell: Cell) -> Run:
        """The run that gives the figure of ``cell`` in this plan."""
        return cell.run_of(self.plan.recipe)

    def run_dir(self, run: Run, seed: int) -> Path:
        """The folder of ``run``."""
        return self._prepare(run, seed)[2]

    def point(self, run: Run, seed: int, accuracy: float) -> "Point | None":
        """The energy of the network of ``run``, beside its ``accuracy`` in percent; None if its checkpoint is gone."""
        from ..analysis.plots import Point
        from ..training import learning

        path = self.run_dir(run, seed) / "best.ckpt"
        if not path.exists():
            return None
        found, images = checkpoint.load(path, backend=self.backend), self._load(run.dataset)
        index = learning.parts(found.network, images, found.protocol)[2][:_PROFILED]
        cost = total(profile(found, images, index, self.device))
        name = ", ".join((run.architecture, run.coding, *([run.input] if run.input != "direct" else []), run.learning))
        if run.coding == "none":
            name = f"{run.architecture}, {run.activation}"
        return Point(name, accuracy / 100, cost.energy(), cost.memory_energy())

    def _source(self, dataset: str) -> Source:
        if dataset not in self.sources:
            raise ValueError(f"--{dataset}-dir is missing, the folder that holds {datasets.DATASETS[dataset].holds}")
        return self.sources[dataset]

    def _shared(self, rows: Sequence[Row], cell: Cell, seed: int) -> Row | None:
        """The row of another cell with the same run."""
        for other in self.cells:
            row = self.finished(rows, other, seed) if self.run_of(other) == self.run_of(cell) else None
            if row is not None:
                return row._replace(table=cell.table, paper_accuracy=cell.accuracy)
        return None

    def _row(self, cell: Cell, seed: int, commit: str) -> Row:
        outcome = self._train(self.run_of(cell), seed)
        run = cell.run
        return Row(
            table=cell.table,
            architecture=run.architecture,
            dataset=self._source(run.dataset).label,
            coding=run.coding,
            input=run.input,
            learning=run.learning,
            recipe=self.plan.label(run.dataset),
            seed=seed,
            split_seed=self.plan.protocol(self._source(run.dataset).kind, seed).split_seed,
            epochs=outcome.epochs,
            best_epoch=outcome.best_epoch,
            val_accuracy=round(100 * outcome.validation_accuracy, 3),
            test_accuracy=round(100 * outcome.test_accuracy, 3),
            paper_accuracy=cell.accuracy,
            seconds_per_epoch=round(outcome.seconds / outcome.epochs, 3),
            device=device_name(self.device),
            torch=torch.__version__,
            commit=commit,
            date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        )

    def _train(self, run: Run, seed: int) -> "Outcome":
        from ..training import learning

        if (run, seed) not in self._outcomes:
            artificial = run.artificial
            pretrained = None if artificial is None else self._train(artificial, seed).checkpoint
            network, protocol, run_dir = self._prepare(run, seed)
            _say(f"{run.architecture}, {run.learning}: {run_dir}")
            self._outcomes[run, seed] = learning.train(
                network,
                self._load(run.dataset),
                protocol,
                run_dir=run_dir,
                device=self.device,
                pretrained=pretrained,
                resume=True,
                progress=self.progress,
            )
        return self._outcomes[run, seed]

    def _prepare(self, run: Run, seed: int) -> tuple[HybridNetwork, Protocol, Path]:
        protocol = self.plan.protocol(self._source(run.dataset).kind, seed, run)
        config = run.config(datasets.SHAPES[run.dataset], self.plan.recipe)
        torch.manual_seed(seed)
        network = HybridNetwork.of(config, self.backend)
        identity = json.dumps([_identity(config.arguments()), _identity(protocol._asdict())], sort_keys=True)
        digest = hashlib.blake2b(identity.encode(), digest_size=6).hexdigest()
        return network, protocol, self.runs / f"{run.dataset}-{run.architecture}-{run.coding}-{seed}-{digest}"

    def _load(self, dataset: str) -> ImageSet:
        if dataset not in self._images:
            source = self._source(dataset)
            self._images[dataset] = datasets.load_images(source.kind, source.folder)
        return self._images[dataset]


def _identity(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tells a run from others. What came later is left out at its default: earlier runs are found again."""
    return {name: value for name, value in values.items() if name not in _LATER or value != _LATER[name]}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
