"""The record of the tables, a CSV file, and the page that has its figures beside the paper's."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from ..records import RecordError as RecordError  # read's callers catch it by this module's name
from ..records import parsed, typed, words, write_words
from ..training.protocol import RECIPES
from .cells import Cell, title
from .comparison import SIGNIFICANT, Comparison
from .plan import CUTS, FORMER_END, former_label, planned_epochs


class Row(NamedTuple):
    """A trained cell: the columns of the file.

    Attributes:
        table, architecture, coding, input, learning: of the cell and its run.
        dataset: the data set's name, and a note if the images are a copy, such as ``"cifar10 (JPEG copy)"``.
        recipe: the label of the plan (:meth:`hnn_models.paper.plan.Plan.label`).
        seed: of the run.
        split_seed: of its split.
        epochs: the number of epochs that were trained.
        best_epoch: the epoch that was tested, from 1.
        val_accuracy, test_accuracy, paper_accuracy: in percent.
        seconds_per_epoch: with validation.
        device, torch, commit, date: of the run.
    """

    table: str
    architecture: str
    dataset: str
    coding: str
    input: str
    learning: str
    recipe: str
    seed: int
    split_seed: int
    epochs: int
    best_epoch: int
    val_accuracy: float
    test_accuracy: float
    paper_accuracy: float
    seconds_per_epoch: float
    device: str
    torch: str
    commit: str
    date: str

    def is_of(self, cell: Cell) -> bool:
        """True if this is a figure for ``cell``."""
        run = cell.run
        return (self.table, self.architecture, self.coding, self.input, self.learning, self.paper_accuracy) == (
            cell.table, run.architecture, run.coding, run.input, run.learning, cell.accuracy,
        ) and self.dataset.split(" ")[0] == run.dataset  # fmt: skip

    @property
    def key(self) -> tuple[str | int, ...]:
        """The columns that no two rows share. Another plan of the same recipe, or other images, replace a row."""
        return (self.table, self.architecture, self.coding, self.input, self.learning, self.base_recipe, self.seed)

    @property
    def base_recipe(self) -> str:
        """The recipe without the plan's departures from it."""
        return self.recipe.split(",")[0]


# The columns of a record from before the split had the seed of its run.
_FORMER_COLUMNS = tuple(name for name in Row._fields if name != "split_seed")


def read(path: Path, cells: Sequence[Cell]) -> list[Row]:
    """Read the rows of the record at ``path``, each a figure for one of ``cells``; no rows if there is no file.

    A record from before the column ``split_seed`` is read as what it meant: all its runs have split 0, and could end
    before the learning rate fell.

    Raises:
        RecordError: the file is not a record of tables, or is damaged; the message names the line.
    """
    header, lines = words(path, "tables", Row._fields, _FORMER_COLUMNS)
    row_of = _former_row if header == _FORMER_COLUMNS else _row

    def checked(line: Sequence[str]) -> Row:
        row = row_of(line)
        cell = next((cell for cell in cells if row.is_of(cell)), None)
        if cell is None:
            raise ValueError("there is no such cell")
        if row.epochs > planned_epochs(row.recipe, cell.run.dataset):
            raise ValueError(f"{row.epochs} epochs are too many for the recipe {row.recipe!r}")
        return row

    return parsed(path, lines, checked, lambda row: row.key, "cell")


def put(rows: Iterable[Row], row: Row) -> list[Row]:
    """``rows`` with ``row`` at the end, and without the row that has its key."""
    return [*(other for other in rows if other.key != row.key), row]


def write(path: Path, rows: Iterable[Row], cells: Sequence[Cell]) -> None:
    """Write the record, in the order of ``cells``. At every moment it is the whole former file or the whole new one."""
    write_words(path, [Row._fields, *in_order(rows, cells)])


def conditions(recipe: str, dataset: str) -> str:
    """The note beside a figure, from columns of its row, such as ``"paper, 2 epochs; JPEG copy"``."""
    copy = dataset.partition(" ")[2].strip("()")
    return f"{recipe}; {copy}" if copy else recipe


def in_order(rows: Iterable[Row], cells: Sequence[Cell]) -> list[Row]:
    """``rows`` by cell, recipe and seed."""

    def place(row: Row) -> tuple[int | str, ...]:
        cell = next(i for i, cell in enumerate(cells) if row.is_of(cell))
        return cell, RECIPES.index(row.base_recipe), row.recipe, row.dataset, row.seed

    return sorted(rows, key=place)


def markdown(rows: Iterable[Row], cells: Sequence[Cell]) -> str:
    """Make the page with the paper's figures beside ours, cell by cell.

    Rows that differ in the seed alone are one line of the page.
    """
    lines = ["# The paper's tables, and ours", "", _LEGEND]
    for table, of_table in groupby(cells, key=lambda cell: cell.table):
        group = list(of_table)
        lines += [
            "",
            f"## {title(table)}",
            "",
            line(_header(group[0])),
            "| --- | --- | --- | ---: | ---: | ---: | ---: | --- | ---: |",
        ]
        for cell in group:
            own = [row for row in in_order(rows, cells) if row.is_of(cell)]
            for how, several in groupby(own, key=lambda row: conditions(row.recipe, row.dataset)):
                lines.append(line(_measured(cell, how, list(several))))
            if not any(row.base_recipe == "paper" for row in own):
                lines.append(line((*_names(cell), "paper", f"{cell.accuracy:.2f}", "not yet measured", *[""] * 4)))
    return "\n".join(lines) + "\n"


_ALIGNMENT = "| --- | --- | --- | ---: | ---: | ---: | ---: | --- | ---: |"
_PATIENCE, _LEAST = CUTS["paper"]
_LEGEND = f"""\
Test accuracies in percent. Ours are means over the runs, ± the standard error of the mean where there are several. The
runs differ in the seed: of the split, the initial weights and the noise together. The paper has one run for a cell; its
± is the standard error that its number of test images leaves. *Against the paper* says whether our mean is
significantly below or above its figure, by more than {SIGNIFICANT} standard errors of their difference, or level with
it. For this the error of our mean is taken to be at least that of its test images.

Each run is tested at its epoch of the highest validation accuracy, the one in brackets. `hnn tables` writes this page
from the CSV file beside it, which has every run, with its device and commit.

The recipe `paper` ends a run once its validation accuracy has not risen for {_PATIENCE} epochs since the last drop of
the learning rate: `87 of 100` is such a run. The runs that `{FORMER_END}` ended after {_PATIENCE} flat
epochs anywhere from epoch {_LEAST} on. What else was changed is said after the recipe's name."""


def _measured(cell: Cell, how: str, rows: Sequence[Row]) -> Iterable[str]:
    found = Comparison.of(cell, [row.test_accuracy for row in rows])
    return (
        *_names(cell),
        how,
        f"{found.paper:.2f} ± {found.paper_error:.2f}",
        f"**{found.mean:.2f}**{found.text.removeprefix(f'{found.mean:.2f}')}",
        str(found.runs),
        f"{found.difference:+.2f}",
        found.verdict,
        ", ".join(_epochs(row, cell) for row in rows),
    )


def _header(cell: Cell) -> Iterable[str]:
    what = cell.variant[0]
    return ("architecture", what, "recipe", "paper", "ours", "runs", "difference", "against the paper", "epochs")


def _names(cell: Cell) -> tuple[str, str]:
    return cell.run.architecture, cell.variant[1]


def _epochs(row: Row, cell: Cell) -> str:
    planned = planned_epochs(row.recipe, cell.run.dataset)
    cut = "" if row.epochs == planned else f" of {planned}"
    return f"{row.epochs}{cut} ({row.best_epoch})"


def line(words: Iterable[str]) -> str:
    """A line of a table in Markdown."""
    return f"| {' | '.join(words)} |"


def _former_row(words: Sequence[str]) -> Row:
    """The row in a line of a file from before the column ``split_seed``, in words of today.

    Raises:
        ValueError: the line is not a row.
    """
    place = Row._fields.index("split_seed")
    row = _row([*words[:place], "0", *words[place:]])
    return row._replace(recipe=former_label(row.recipe, row.dataset.split(" ")[0], row.seed))


def _row(words: Sequence[str]) -> Row:
    """The row in a line of the file.

    Raises:
        ValueError: the line is not a row.
    """
    row = typed(Row, words)
    if not 1 <= row.best_epoch <= row.epochs or row.seed < 0:
        raise ValueError(f"epoch {row.best_epoch} cannot be the best of {row.epochs}")
    for name in ("val_accuracy", "test_accuracy", "paper_accuracy"):
        if not 0 <= getattr(row, name) <= 100:
            raise ValueError(f"{name} is {getattr(row, name)}, not in percent")
    return row
