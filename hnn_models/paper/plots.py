"""Plots of the tables: accuracy by the share of artificial layers, learning curves, accuracy against energy."""

from collections.abc import Mapping, Sequence
from itertools import groupby

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from ..analysis.plots import accuracy_against_energy
from ..training import learning
from . import record
from .authors_curve import CELL, POINTS
from .cells import Cell, title
from .comparison import Comparison
from .record import Row, conditions
from .runs import Reproduction

_COLORS = {"separate": "C0", "simultaneous": "C1"}


def figures(work: Reproduction, cells: Sequence[Cell], seeds: Sequence[int]) -> dict[str, Figure]:
    """Plot everything that the record and the runs of ``cells`` have, by the name of the figure.

    The figures are ``accuracy-DATASET``, ``energy-DATASET`` (of the first seed) and ``learning-TABLE``. The last two
    need the data set's images.
    """
    rows = [row for row in record.read(work.record, work.cells) if row.base_recipe == work.plan.recipe]
    made = {}
    for dataset in dict.fromkeys(cell.run.dataset for cell in cells):
        shown = [cell for cell in cells if cell.run.dataset == dataset and cell.table != "4.2"]
        if shown:
            made[f"accuracy-{dataset}"] = accuracy_by_share(shown, rows)
        if dataset in work.sources:
            of_set = [cell for cell in cells if cell.run.dataset == dataset]
            finished = {work.run_of(cell): work.finished(rows, cell, seeds[0]) for cell in of_set}
            points = [work.point(run, seeds[0], row.test_accuracy) for run, row in finished.items() if row is not None]
            found = [point for point in points if point is not None]
            if found:
                made[f"energy-{dataset}"] = accuracy_against_energy(found)
    for table in dict.fromkeys(cell.table for cell in cells):
        histories = {
            cell: [learning.history(work.run_dir(work.run_of(cell), seed)) for seed in seeds]
            for cell in cells
            if cell.table == table and cell.run.dataset in work.sources
        }
        if any(any(several) for several in histories.values()):
            dataset = next(iter(histories)).run.dataset
            how = conditions(work.plan.label(dataset), work.sources[dataset].label)
            made[f"learning-{table}"] = learning_curves(histories, how)
    return made


def accuracy_by_share(cells: Sequence[Cell], rows: Sequence[Row]) -> Figure:
    """Plot test accuracy over the share of layers that are artificial, one panel per table: the paper's and ours.

    Our points are means over the seeds, and the bars are two standard errors to each side. The pure networks belong to
    both ways of learning.

    Raises:
        ValueError: ``cells`` is empty.
    """
    if not cells:
        raise ValueError("cells must hold at least one cell; got none")
    tables = [list(group) for _, group in groupby(sorted(cells, key=lambda c: c.table), key=lambda c: c.table)]
    figure = Figure(figsize=(1 + 4.2 * len(tables), 4.4), layout="constrained")
    for ax, table in zip(figure.subplots(1, len(tables), squeeze=False)[0], tables, strict=True):
        learnings = {cell.run.learning for cell in table if _hybrid(cell)} or {"simultaneous"}
        for way in sorted(learnings):
            color = _COLORS[way]
            line = sorted(
                (cell for cell in table if cell.run.learning == way or not _hybrid(cell)),
                key=lambda cell: cell.artificial_share,
            )
            shares = [100 * cell.artificial_share for cell in line]
            ax.plot(shares, [c.accuracy for c in line], "o--", color=color, fillstyle="none", label=f"paper, {way}")
            own = [[row for row in rows if row.is_of(cell)] for cell in line]
            found = [
                (share, compared.mean, compared.mean - 2 * compared.error, compared.mean + 2 * compared.error)
                for share, cell, several in zip(shares, line, own, strict=True)
                if several and (compared := Comparison.of(cell, [row.test_accuracy for row in several]))
            ]
            if found:
                x, mean, least, most = zip(*found, strict=True)
                how = dict.fromkeys(conditions(row.recipe, row.dataset) for several in own for row in several)
                ax.plot(x, mean, "o-", color=color, label=f"ours, {way} (recipe {' / '.join(how)})")
                ax.vlines(x, least, most, color=color)
        ax.set_title(title(table[0].table), fontsize=10, loc="left")
        ax.set_xlabel("layers that are artificial (%)")
        ax.set_xlim(-5, 105)
        ax.grid(alpha=0.3)
    figure.axes[0].set_ylabel("test accuracy (%)")
    handles = {label: h for ax in figure.axes for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    columns = min(len(tables), 4)  # a label is about as wide as a panel
    figure.legend(handles.values(), handles, fontsize=8, loc="outside lower center", ncols=columns, frameon=False)
    return figure


def learning_curves(histories: Mapping[Cell, Sequence[Sequence[Mapping[str, float]]]], how: str) -> Figure:
    """Plot training loss and validation accuracy by epoch, one color per cell and one line per seed.

    The validation accuracy that the paper's authors published stands beside those of the same data set.

    Args:
        histories: for each cell, the :func:`hnn_models.training.learning.history` of each of its runs.
        how: recipe and images, from :func:`hnn_models.paper.record.conditions`.

    Raises:
        ValueError: there is no epoch to plot.
    """
    if not any(any(several) for several in histories.values()):
        raise ValueError("histories must hold at least one epoch; got none")
    figure = Figure(figsize=(12, 4.5), layout=ConstrainedLayoutEngine(wspace=0.05))
    loss, accuracy = figure.subplots(1, 2)
    for number, (cell, several) in enumerate(histories.items()):
        label: str | None = f"{cell.run.architecture}, {cell.variant[1]}"
        for history in filter(None, several):
            style = {"color": f"C{number}", "linewidth": 1.2, "label": label}
            label = None  # once, for all seeds
            epochs = [figures["epoch"] for figures in history]
            loss.plot(epochs, [figures["train_loss"] for figures in history], **style)
            accuracy.plot(epochs, [100 * figures["validation_accuracy"] for figures in history], **style)
    if any(cell.run.dataset == CELL.run.dataset for cell in histories):
        theirs, values = zip(*POINTS, strict=True)
        label = f"the authors' log: {CELL.run.architecture}, {CELL.run.coding} coding"
        accuracy.plot(theirs, values, "--", color="black", linewidth=1, label=label)
    loss.set_yscale("log")
    least, most = loss.dataLim.intervaly
    loss.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if most < 1000 * least else (1,)))
    loss.yaxis.set_major_formatter("{x:g}")
    loss.yaxis.set_minor_locator(NullLocator())
    loss.set_ylabel("training loss")
    accuracy.set_ylabel("validation accuracy (%)")
    for ax in (loss, accuracy):
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(alpha=0.3)
    figure.legend(*accuracy.get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=2, frameon=False)
    heading = f"{title(next(iter(histories)).table)} (recipe {how})"
    figure.suptitle(heading, fontsize=10, x=0.01, ha="left")
    return figure


def _hybrid(cell: Cell) -> bool:
    return 0 < cell.artificial_share < 1
