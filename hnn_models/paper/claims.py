"""The page with the paper's claims: what its figures and ours say of each, as differences between two cells."""

import math
from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

from .cells import Cell
from .comparison import SIGNIFICANT, Comparison, error_of_share
from .record import Row, conditions, in_order, line

# The recipes whose figures answer the paper's claims.
_RECIPES = ("paper", "authors")


class Pair(NamedTuple):
    """Two cells of which a claim says that ``better`` has the higher accuracy, or with ``level`` about the same."""

    better: Cell
    other: Cell
    level: bool = False


class Claim(NamedTuple):
    """A claim of the paper, in its words, and the pairs of cells that it is about."""

    words: str
    pairs: Sequence[Pair]


class Difference(NamedTuple):
    """The difference of two accuracies in percent, and its standard error."""

    value: float
    error: float

    @property
    def significant(self) -> bool:
        """True if it is not chance, but for one time in twenty."""
        return abs(self.value) > SIGNIFICANT * self.error

    @property
    def text(self) -> str:
        """Such as ``"+0.31 ± 0.17"``."""
        return f"{self.value:+.2f} ± {self.error:.2f}"

    def speaks(self, pair: Pair) -> str:
        """``"for"`` or ``"against"`` the claim about ``pair``; ``"open"`` if the difference is not significant."""
        if pair.level:
            return "against" if self.significant and self.value < 0 else "for"
        if not self.significant:
            return "open"
        return "for" if self.value > 0 else "against"


def claims(cells: Sequence[Cell]) -> list[Claim]:
    """The claims that compare accuracies, for the tables that ``cells`` has."""
    tables = [cell for cell in cells if cell.table != "4.2"]
    of = {(cell.table, cell.run.architecture, cell.run.learning): cell for cell in tables}
    deeper: list[Pair] = []
    matched: list[Pair] = []
    gaussian: list[Pair] = []
    poisson: list[Pair] = []
    for table, group in groupby(tables, key=lambda cell: cell.table):
        found = list(group)
        for way in ("simultaneous", "separate"):
            of_way = [cell for cell in found if cell.run.learning == way]
            if table.startswith("3"):
                hybrids = (cell for cell in of_way if cell.run.part == "hybrid")
                poisson += [Pair(fewer, more) for fewer, more in pairwise(hybrids)]
            else:
                deeper += [Pair(more, fewer) for fewer, more in pairwise(of_way)]
        whole = next((cell for cell in found if cell.run.part == "artificial"), None)
        if table == "1a" and whole is not None:
            matched += [Pair(cell, whole, level=True) for cell in found if cell.run.learning == "separate"]
        if table.startswith("2"):
            twins = ((cell, of.get((f"1{table[1:]}", cell.run.architecture, "simultaneous"))) for cell in found)
            gaussian += [Pair(one, two) for one, two in twins if two is not None and one.run.part == "hybrid"]
    return [
        Claim("More artificial layers are better", deeper),
        Claim("Separate learning with duplicate coding matches the artificial network on MNIST", matched),
        Claim("Gaussian coding is better than duplicate coding, at few artificial layers", gaussian),
        Claim("With Poisson coding more artificial layers are worse", poisson),
    ]


def markdown(rows: Iterable[Row], cells: Sequence[Cell]) -> str:
    """Make the page of the claims."""
    rows = in_order(rows, cells)
    lines = ["# Which claims of the paper hold", "", _LEGEND]
    for number, claim in enumerate(claims(cells), start=1):
        lines += ["", f"## {number}. {claim.words}", ""]
        table: list[str] = []
        spoken: list[str] = []
        for pair in claim.pairs:
            own = _measured(rows, pair)
            table += _lines(pair, own)
            spoken += [found.speaks(pair) for _, found in own]
        lines += [_sum(len(claim.pairs), spoken), "", line(_HEADER), _ALIGNMENT, *table]
    lines += ["", "## 5. Separate learning takes less time", "", _TIME_LEGEND, "", *_times(rows, cells)]
    return "\n".join(lines) + "\n"


_HEADER = ("cell", "against", "the paper's difference", "recipe", "our difference", "for the claim or against")
_ALIGNMENT = "| --- | --- | ---: | --- | ---: | --- |"
_LEGEND = f"""\
Each line is the difference of two cells' test accuracies, ± its standard error: the paper's, and ours where both cells
were trained in the same way. A difference speaks for a claim or against it where it is more than {SIGNIFICANT} of its
standard errors; otherwise the question is open. That a network matches another one is refuted by a significant
difference alone. `hnn tables` writes this page from its record."""
_TIME_LEGEND = """\
Seconds of training on the device of the record, for the epochs that a run had. The artificial network that the fixed
layers come from is part of separate learning. Runs on a busy machine take longer, so these are rough figures."""


def _measured(rows: Sequence[Row], pair: Pair) -> list[tuple[str, Difference]]:
    """Our differences, by recipe and images."""
    better, other = (dict(_groups(rows, cell)) for cell in (pair.better, pair.other))
    found = []
    for how in (how for how in better if how in other):
        one, two = (
            Comparison.of(cell, [row.test_accuracy for row in own])
            for cell, own in ((pair.better, better[how]), (pair.other, other[how]))
        )
        found.append((how, Difference(one.mean - two.mean, math.hypot(one.error, two.error))))
    return found


def _groups(rows: Sequence[Row], cell: Cell) -> list[tuple[str, list[Row]]]:
    """The rows of ``cell``, by recipe and images."""
    own = [row for row in rows if row.is_of(cell) and row.base_recipe in _RECIPES]
    return [(how, list(some)) for how, some in groupby(own, key=lambda row: conditions(row.recipe, row.dataset))]


def _lines(pair: Pair, own: Sequence[tuple[str, Difference]]) -> list[str]:
    errors = [error_of_share(cell.accuracy, cell.test_images) for cell in (pair.better, pair.other)]
    paper = Difference(pair.better.accuracy - pair.other.accuracy, math.hypot(*errors))
    names = (pair.better.name, pair.other.name, paper.text)
    if not own:
        return [line((*names, "", "not yet measured", ""))]
    return [line((*names, how, found.text, found.speaks(pair))) for how, found in own]


def _sum(pairs: int, spoken: Sequence[str]) -> str:
    if not spoken:
        return f"None of the {pairs} differences is measured yet."
    counts = ", ".join(f"{spoken.count(word)} {word}" for word in ("for", "against", "open"))
    return f"Measured, of {pairs} pairs of cells: {counts}."


def _times(rows: Sequence[Row], cells: Sequence[Cell]) -> list[str]:
    lines = [
        line(("cell", "recipe", "simultaneous (s)", "separate (s)", "its artificial network (s)", "separate, in all")),
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for cell in cells:
        if cell.run.learning != "separate":
            continue
        runs = (cell.run, cell.run._replace(learning="simultaneous"), cell.run.artificial)
        separate, together, whole = (
            {
                how: sum(row.epochs * row.seconds_per_epoch for row in own) / len(own)
                for other in cells
                if (other.run, other.table) == (run, cell.table)
                for how, own in _groups(rows, other)
            }
            for run in runs
        )
        if not separate:
            lines.append(line((cell.name, "", *["not yet measured"] * 4)))
        for how, seconds in separate.items():
            known = whole.get(how)
            both = "" if known is None else f"{seconds + known:,.0f}"
            words = ["" if one is None else f"{one:,.0f}" for one in (together.get(how), seconds, known)]
            lines.append(line((cell.name, how, *words, both)))
    return lines
