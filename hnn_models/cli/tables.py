"""``hnn tables``: the paper's tables, cell by cell."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from .. import paths
from ..data.datasets import DATASETS
from ..errors import DataError
from ..paper import pages, record
from ..paper.cells import CELLS, Cell, select
from ..paper.comparison import Comparison
from ..paper.plan import Plan
from ..paper.runs import Reproduction, Source
from ..training.device import FAST_PRECISIONS, fast_precision, resolve_device
from ..training.launch import launch
from ..training.protocol import PRECISIONS, RECIPES
from .options import Backend, Device, Json, Progress, SplitSeed, numbers
from .output import BAD_RUN, interruptible, print_table, save_figures, short_errors


def tables(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CELL]...", help="Such as 1a, 2b/A784-A500-S10, 4.2/S784-S500-S10/axon; else all."),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds of the runs, such as 0,1,2: of split, weights and noise.")] = "0",
    split_seed: SplitSeed = None,
    recipe: Annotated[str, typer.Option(help=f"One of {', '.join(RECIPES)}.")] = RECIPES[0],
    epochs: Annotated[int | None, typer.Option(min=1, help="Number of epochs; the recipe's by default.")] = None,
    patience: Annotated[
        int | None, typer.Option(min=0, help="End a run once validation has been flat for so many epochs; 0 for never.")
    ] = None,
    min_epochs: Annotated[int | None, typer.Option(min=1, help="The fewest epochs before --patience ends it.")] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help=f"One of {', '.join(PRECISIONS)}. By default what is fast here: bf16-mixed on a processor or GPU that "
            "multiplies faster in bfloat16, else 32-true; finished cells in either are kept."
        ),
    ] = None,
    mnist_dir: Annotated[str | None, typer.Option(metavar="FOLDER", help="Folder that holds MNIST/raw.")] = None,
    cifar10_dir: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER", help=f"Folder that holds {DATASETS['cifar10'].holds}, or images as train/<class>/...."
        ),
    ] = None,
    runs: Annotated[str, typer.Option(metavar="FOLDER", help="Folder of the runs.")] = "runs/tables",
    out: Annotated[
        str, typer.Option(metavar="FILE", help="The record, a CSV file; its page has the suffix .md.")
    ] = "benchmarks/results/tables.csv",
    plots: Annotated[str | None, typer.Option(metavar="FOLDER", help="Folder for plots of all finished runs.")] = None,
    only_list: Annotated[bool, typer.Option("--list", help="Train nothing; show the cells and what is left.")] = False,
    only_pages: Annotated[
        bool, typer.Option("--pages", help="Train nothing; write the pages of the record again.")
    ] = False,
    device: Device = "auto",
    backend: Backend = None,
    progress: Progress = True,
    as_json: Json = False,
) -> None:
    """Train the cells of the paper's tables, and put our figures beside the paper's.

    Cells in the record are kept, and an interrupted run is continued. Another plan trains anew, and replaces the
    record's row of the same recipe and seed. With the recipe 'paper' a run ends once validation has been flat for 20
    epochs, counted from the last drop of the learning rate.
    """
    with short_errors():
        where = resolve_device(device)
        if launch().world > 1:
            raise ValueError("tables is for one process; hnn train is for several")
        chosen = select(names or (), CELLS)
        chosen_seeds = numbers("--seeds", seeds, int)
        precision_here = fast_precision(where) if precision is None else precision
        plan = Plan(recipe, epochs, patience, min_epochs, precision_here, split_seed)
        # A cell that was finished on another processor is not trained again, where the precision was left to this one.
        alike = () if precision is not None else tuple(plan._replace(precision=other) for other in FAST_PRECISIONS)
        given = {"mnist": mnist_dir, "cifar10": cifar10_dir}
        folders = {name: paths.folder(one, f"--{name}-dir") for name, one in given.items() if one is not None}
        sources = {name: Source.of(name, folder) for name, folder in folders.items()}
        table, run_dirs = paths.file(out, "--out"), paths.folder(runs, "--runs")
        if table.suffix == ".md":
            raise ValueError(f"--out must be a CSV file, its page has the suffix .md; got {out!r}")
        drawings = None if plots is None else paths.folder(plots, "--plots")
        work = Reproduction(CELLS, plan, table, run_dirs, sources, where, backend, progress, alike)
        work.left(chosen, chosen_seeds)  # checks the plan and the record
    if only_pages:
        pages.write(table, record.read(table, CELLS), CELLS)
    elif not only_list:
        with (
            short_errors((*BAD_RUN, DataError)),
            interruptible(lambda: "the same command continues after the last full epoch"),
        ):
            work.fill(chosen, chosen_seeds)
    with short_errors():
        print_table(f"recipe {recipe}, accuracy in percent", _lines(work, chosen, chosen_seeds), as_json)
        if drawings is not None:
            save_figures(_figures(work, chosen, chosen_seeds), drawings)


def _lines(work: Reproduction, cells: Sequence[Cell], seeds: Sequence[int]) -> list[dict[str, Any]]:
    rows, left = record.read(work.record, work.cells), work.left(cells, seeds)
    lines = []
    for cell in cells:
        own = _compared(work, rows, cell)
        found = Comparison.of(cell, [row.test_accuracy for row in own]) if own else None
        lines.append(
            {
                "cell": cell.name,
                "paper": cell.accuracy,
                "ours": found and found.mean,
                "error": found and found.error,
                "against the paper": found and found.verdict,
                "plan": "; ".join(dict.fromkeys(row.recipe for row in own)),
                "seeds": ",".join(str(row.seed) for row in own),
                "left": ",".join(str(seed) for other, seed in left if other == cell),
            }
        )
    return lines


def _compared(work: Reproduction, rows: Sequence[record.Row], cell: Cell) -> list[record.Row]:
    """The rows of ``cell`` that differ in the seed alone: those of this plan; without any, of another of its recipe."""
    own = [row for row in rows if row.is_of(cell) and row.base_recipe == work.plan.recipe]
    finished = [row for row in own if work.finished([row], cell, row.seed) is not None]
    return finished or [row for row in own if (row.recipe, row.dataset) == (own[-1].recipe, own[-1].dataset)]


def _figures(work: Reproduction, cells: Sequence[Cell], seeds: Sequence[int]) -> dict[str, Any]:
    try:
        from ..paper.plots import figures
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("--plots needs matplotlib, part of the extra 'models'") from error
    return figures(work, cells, seeds)
