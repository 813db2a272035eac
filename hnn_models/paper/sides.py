"""The page that has the paper, its text, the authors' program and its faults side by side."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from ..training.protocol import RECIPES
from .cells import Cell, title
from .comparison import Comparison
from .record import Row, conditions, in_order, line

_FAULTS = tuple(name for name in RECIPES if name.startswith("fault-"))
_COLUMNS = ("paper", "authors", *_FAULTS)


class Source(NamedTuple):
    """A sentence about a difference, and the cells and the recipes whose figures it takes."""

    sentence: str
    cells: Sequence[str]
    recipes: Sequence[str]


SOURCES = (
    Source(
        "The purely spiking network is better in the program, where its first layer receives the input through an axon "
        "and axons are learnt for each neuron.",
        ("1a/S784-S500-S10/simultaneous", "3a/S784-S500-S10/simultaneous"),
        ("paper", "authors"),
    ),
    Source(
        "Table 1(a)'s 99.17 % comes from test images that the fixed layers were trained on: the program splits the "
        "images anew for the spiking part.",
        ("1a/A784-A500-S10/separate",),
        ("authors", "fault-leaked-split"),
    ),
    Source(
        "The collapse of Table 3's hybrid networks comes from a second division by 255 in front of the Poisson coding, "
        "which leaves a spike in 510 steps for a feature of one half.",
        ("3a/A784-S500-S10/separate", "3a/A784-A500-S10/separate"),
        ("authors", "fault-divided-twice"),
    ),
)


def markdown(rows: Iterable[Row], cells: Sequence[Cell]) -> str:
    """Make the page, table by table."""
    rows = in_order(rows, cells)
    lines = ["# The paper, its text, the authors' program and its faults", "", _LEGEND, "", *_sources(rows, cells)]
    for table, group in groupby(cells, key=lambda cell: cell.table):
        lines += ["", f"## {title(table)}", ""]
        lines += [line(("architecture", "", "the paper", *(f"`{name}`" for name in _COLUMNS)))]
        lines += ["| --- | --- |" + " ---: |" * (1 + len(_COLUMNS))]
        for cell in group:
            figures = (_figure(rows, cell, recipe) for recipe in _COLUMNS)
            lines.append(line((cell.run.architecture, cell.variant[1], f"{cell.accuracy:.2f}", *figures)))
    return "\n".join(lines) + "\n"


_LEGEND = """\
Test accuracies in percent, means ± standard error where there are several runs; the runs in brackets. `paper` is the
text of the paper, `authors` is the program of its authors without its faults, and a recipe that begins with `fault-`
has one of them. A figure from a shortened schedule says so, and an empty place is not yet measured. `hnn tables` writes
this page from its record, and `docs/paper.md` has the commands of each recipe."""


def _sources(rows: Sequence[Row], cells: Sequence[Cell]) -> list[str]:
    """List the sources of the differences, each with what is measured of it."""
    by_name = {cell.name: cell for cell in cells}
    lines = ["## Where the differences come from", ""]
    for number, source in enumerate(SOURCES, start=1):
        lines.append(f"{number}. {source.sentence}")
        for name in source.cells:
            cell = by_name.get(name)
            if cell is None:
                continue
            figures = (f"`{recipe}` {_figure(rows, cell, recipe) or 'not yet measured'}" for recipe in source.recipes)
            lines.append(f"    - {name}: the paper {cell.accuracy:.2f}, {', '.join(figures)}.")
    return lines


def _figure(rows: Sequence[Row], cell: Cell, recipe: str) -> str:
    """Our figures for ``cell`` with ``recipe``, one for each plan."""
    own = [row for row in rows if row.is_of(cell) and row.base_recipe == recipe]
    words = []
    for how, group in groupby(own, key=lambda row: conditions(row.recipe, row.dataset)):
        found = Comparison.of(cell, [row.test_accuracy for row in group])
        short = [part for part in how.split(", ") if part.split("; ")[0].endswith(("epochs", "epoch"))]
        words.append(f"{found.text} ({', '.join([str(found.runs), *short])})")
    return "; ".join(words)
