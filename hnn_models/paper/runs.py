"""``hnn tables``: train what the paper's tables hold, cell by cell, and keep a record."""

import datetime
import hashlib
import json
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import torch
import typer

from ..analysis import energy
from ..cli.inspect import profiled
from ..cli.output import BAD_RUN, Backend, Device, Json, Progress, print_table, short_errors
from ..data import datasets
from ..data.images import ImageSet
from ..network.network import HybridNetwork
from ..training import checkpoint, provenance
from ..training.device import device_name, resolve_device
from ..training.protocol import PRECISIONS, RECIPES, Protocol
from . import record as results
from .cells import CELLS, Cell, Plan, Run, select
from .record import Row

if TYPE_CHECKING:
    from ..analysis.plots import Point
    from ..training.learning import Outcome

_PROFILED = 1000  # test images of which the energy is the mean


class Source(NamedTuple):
    """Where the images of a data set are: ``kind`` and ``folder`` are for :func:`hnn_models.data.datasets.load`.

    ``label`` is the data set's name, and what its images are where they are a copy.
    """

    kind: str
    label: str
    folder: Path | None = None

    @classmethod
    def of(cls, dataset: str, folder: Path | None) -> "Source":
        """The images in ``folder``: the files of ``dataset`` that torchvision reads, or else a folder of images."""
        if folder is not None and (folder / "train").is_dir():
            image = next((path for path in folder.glob("train/*/[!.]*")), Path())
            kind = image.suffix[1:].upper().replace("JPG", "JPEG")
            return cls("folder", f"{dataset} ({kind} copy)", folder)
        return cls(dataset, dataset, folder)


@dataclass
class Reproduction:
    """The record of ``cells`` in the file ``record``, and the runs that fill it.

    A run's folder under ``runs`` is a function of its network and protocol, so that cells that share a run find it, and
    an interrupted one goes on.

    Attributes:
        cells: every cell that the record may have.
        plan: how to train.
        record: the CSV file.
        runs: folder of all runs.
        sources: images by the data set's name.
        device, backend, progress: as for :func:`hnn_models.training.learning.train`.
    """

    cells: Sequence[Cell]
    plan: Plan
    record: Path
    runs: Path
    sources: Mapping[str, Source]
    device: torch.device
    backend: str | None = None
    progress: bool = True
    _outcomes: dict[tuple[Run, int], "Outcome"] = field(default_factory=dict)
    _images: dict[str, ImageSet] = field(default_factory=dict)

    def left(self, cells: Iterable[Cell], seeds: Iterable[int]) -> list[tuple[Cell, int]]:
        """What of ``cells`` has no row of this plan.

        Raises:
            hnn_models.paper.record.RecordError: the file is not a record.
        """
        rows = results.read(self.record, self.cells)
        return [(cell, seed) for seed in seeds for cell in cells if self.finished(rows, cell, seed) is None]

    def finished(self, rows: Iterable[Row], cell: Cell, seed: int) -> Row | None:
        """The row of this plan for ``cell``."""
        plan = self.plan.label(cell.run.dataset)
        source = self.sources.get(cell.run.dataset)
        for row in rows:
            same_images = source is None or source.label == row.dataset
            if row.is_of(cell) and (row.seed, row.recipe) == (seed, plan) and same_images:
                return row
        return None

    def fill(self, cells: Sequence[Cell], seeds: Sequence[int]) -> None:
        """Train what is left of ``cells``; write the record, and the page beside it, after each.

        Raises:
            ValueError: images that are not there, or a run that cannot be continued.
            hnn_models.paper.record.RecordError: the file is not a record; it is left alone.
            FloatingPointError: the weights of a run are no longer finite.
        """
        commit = provenance.commit()
        left = self.left(cells, seeds)
        for cell, _ in left:
            self._source(cell.run.dataset)
        for number, (cell, seed) in enumerate(left, start=1):
            typer.echo(f"[{number}/{len(left)}] {cell.name}, seed {seed}", err=True)
            rows = results.read(self.record, self.cells)
            row = self._shared(rows, cell, seed) or self._row(cell, seed, commit)
            # Read again: another process may have written meanwhile.
            results.write(self.record, results.put(results.read(self.record, self.cells), row), self.cells)
            typer.echo(f"{row.test_accuracy:.2f} %, the paper's {row.paper_accuracy:.2f} %", err=True)

    def run_dir(self, run: Run, seed: int) -> Path:
        """The folder of ``run``."""
        return self._prepare(run, seed)[2]

    def point(self, run: Run, seed: int, accuracy: float) -> "Point | None":
        """The energy that the network of ``run`` takes, beside its ``accuracy`` in percent; None where it is gone."""
        from ..analysis import plots
        from ..training import learning

        path = self.run_dir(run, seed) / "best.ckpt"
        if not path.exists():
            return None
        found, images = checkpoint.load(path, backend=self.backend), self._load(run.dataset)
        index = learning.parts(found.network, images, found.protocol)[2][:_PROFILED]
        cost = energy.total(profiled(found, images, index, self.device))
        name = ", ".join((run.architecture, run.coding, *([run.input] if run.input != "direct" else []), run.learning))
        if run.coding == "none":
            name = f"{run.architecture}, {run.activation}"
        return plots.Point(name, accuracy / 100, cost.energy(), cost.memory_energy())

    def _source(self, dataset: str) -> Source:
        if dataset not in self.sources:
            raise ValueError(f"--{dataset}-dir is missing, the folder that holds {datasets.DATASETS[dataset]}")
        return self.sources[dataset]

    def _shared(self, rows: Sequence[Row], cell: Cell, seed: int) -> Row | None:
        """The row of another cell with the same run."""
        for other in self.cells:
            row = self.finished(rows, other, seed) if other.run == cell.run else None
            if row is not None:
                return row._replace(table=cell.table, paper_accuracy=cell.accuracy)
        return None

    def _row(self, cell: Cell, seed: int, commit: str) -> Row:
        outcome = self._train(cell.run, seed)
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
            typer.echo(f"{run.architecture}, {run.learning}: {run_dir}", err=True)
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
        protocol = self.plan.protocol(self._source(run.dataset).kind, seed)
        torch.manual_seed(seed)
        network = run.network(datasets.SHAPES[run.dataset], self.plan.recipe, self.backend)
        identity = json.dumps([network.config, protocol._asdict()], sort_keys=True)
        digest = hashlib.blake2b(identity.encode(), digest_size=6).hexdigest()
        return network, protocol, self.runs / f"{run.dataset}-{run.architecture}-{run.coding}-{seed}-{digest}"

    def _load(self, dataset: str) -> ImageSet:
        if dataset not in self._images:
            source = self._source(dataset)
            self._images[dataset] = datasets.load(source.kind, source.folder)
        return self._images[dataset]


def tables(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CELL]...", help="Such as 1a, 2b/A784-A500-S10, 4.2/S784-S500-S10/axon; all without."),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds of the runs, such as 0,1,2.")] = "0",
    recipe: Annotated[str, typer.Option(help=f"One of {', '.join(RECIPES)}.")] = RECIPES[0],
    epochs: Annotated[int | None, typer.Option(min=1, help="Number of epochs; the recipe's by default.")] = None,
    patience: Annotated[
        int | None, typer.Option(min=0, help="End a run once validation has been flat for so many epochs; 0: never.")
    ] = None,
    min_epochs: Annotated[int | None, typer.Option(min=1, help="The fewest epochs before --patience ends it.")] = None,
    precision: Annotated[
        str | None, typer.Option(help=f"One of {', '.join(PRECISIONS)}; the recipe's by default.")
    ] = None,
    mnist_dir: Annotated[Path | None, typer.Option(help="Folder that holds MNIST/raw.")] = None,
    cifar10_dir: Annotated[
        Path | None, typer.Option(help="Folder that holds cifar-10-batches-py, or images as train/<class>/....")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs/tables"),
    out: Annotated[Path, typer.Option(help="The record, a CSV file; a page with the suffix .md is beside it.")] = Path(
        "benchmarks/results/tables.csv"
    ),
    plots: Annotated[Path | None, typer.Option(help="Folder for plots of what there is.")] = None,
    only_list: Annotated[bool, typer.Option("--list", help="Train nothing: show the cells and what is left.")] = False,
    device: Device = "auto",
    backend: Backend = None,
    progress: Progress = True,
    as_json: Json = False,
) -> None:
    """Train the cells of the paper's tables, and put the figures beside the paper's.

    A cell in the record is kept, and an interrupted run goes on; another plan trains anew, and replaces the record's
    row of the same recipe and seed. With the recipe 'paper' a run ends once validation has been flat for 20 epochs,
    not before 30.
    """
    with short_errors():
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise ValueError("tables is for one process; hnn train is for several")
        chosen = select(names or (), CELLS)
        numbers = _numbers(seeds)
        plan = Plan(recipe, epochs, patience, min_epochs, precision)
        folders = {"mnist": mnist_dir, "cifar10": cifar10_dir}
        sources = {name: Source.of(name, folder) for name, folder in folders.items() if folder is not None}
        where = resolve_device(device)
        work = Reproduction(CELLS, plan, out, runs, sources, where, backend, progress)
        work.left(chosen, numbers)  # checks the plan and the record
    if not only_list:
        with short_errors((*BAD_RUN, datasets.DataError)):
            try:
                work.fill(chosen, numbers)
            except SystemExit:  # Lightning's on Ctrl-C
                typer.echo("interrupted; the same command goes on after the last full epoch", err=True)
                raise
    with short_errors():
        print_table(f"recipe {recipe}, accuracy in percent", _lines(work, chosen, numbers), as_json)
        if plots is not None:
            _plot(work, chosen, numbers, plots)


def _numbers(text: str) -> list[int]:
    """``"0,1,2"`` as numbers."""
    try:
        numbers = [int(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise ValueError(f"--seeds must be different numbers from 0 on, such as 0,1,2; got {text!r}")
    return numbers


def _lines(work: Reproduction, cells: Sequence[Cell], seeds: Sequence[int]) -> list[dict[str, Any]]:
    rows, left = results.read(work.record, work.cells), work.left(cells, seeds)
    lines = []
    for cell in cells:
        own = [row for row in rows if row.is_of(cell) and row.base_recipe == work.plan.recipe]
        lines.append(
            {
                "cell": cell.name,
                "paper": cell.accuracy,
                "ours": statistics.mean(row.test_accuracy for row in own) if own else None,
                "plan": "; ".join(dict.fromkeys(row.recipe for row in own)),
                "seeds": ",".join(str(row.seed) for row in own),
                "left": ",".join(str(seed) for other, seed in left if other == cell),
            }
        )
    return lines


def _plot(work: Reproduction, cells: Sequence[Cell], seeds: Sequence[int], folder: Path) -> None:
    try:
        from ..analysis import plots as network_plots
        from . import plots as table_plots
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("--plots needs matplotlib, part of the extra 'models'") from error
    from ..training import learning

    rows = [r for r in results.read(work.record, work.cells) if r.base_recipe == work.plan.recipe]
    figures = {}
    for dataset in dict.fromkeys(cell.run.dataset for cell in cells):
        shown = [cell for cell in cells if cell.run.dataset == dataset and cell.table != "4.2"]
        if shown:
            figures[f"accuracy-{dataset}"] = table_plots.accuracy_by_share(shown, rows)
        if dataset in work.sources:
            finished = {cell.run: work.finished(rows, cell, seeds[0]) for cell in cells if cell.run.dataset == dataset}
            points = [work.point(run, seeds[0], row.test_accuracy) for run, row in finished.items() if row is not None]
            found = [point for point in points if point is not None]
            if found:
                figures[f"energy-{dataset}"] = network_plots.accuracy_against_energy(found)
    for table in dict.fromkeys(cell.table for cell in cells):
        histories = {
            cell: [learning.history(work.run_dir(cell.run, seed)) for seed in seeds]
            for cell in cells
            if cell.table == table and cell.run.dataset in work.sources
        }
        if any(any(several) for several in histories.values()):
            dataset = next(iter(histories)).run.dataset
            how = results.conditions(work.plan.label(dataset), work.sources[dataset].label)
            figures[f"learning-{table}"] = table_plots.learning_curves(histories, how)
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=120)
        typer.echo(f"wrote {folder / name}.png", err=True)
