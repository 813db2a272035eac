"""Comparisons within a record: the newest measurement of each provider, beside ours of the same run."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..core.cases import sizes
from .rows import Row

OURS = ("cuda", "cpu", "triton")  # the first of them with a figure is "ours": the backend that a call takes by default
LOOP, COMPILED = "loop", "loop compiled"
TORCH = "torch"  # its own products
PLAIN = (LOOP, TORCH)  # the way of a PyTorch user without a library, of neurons and of products
PRODUCTS = "products alone"  # not a provider: the operation without its neurons
FLOORS = (PRODUCTS,)  # only a part of the work
# The hand-written kernels of a layer that ours is given by its definition.
BUILT_IN = ("cpu built-in", "cuda built-in", "triton built-in")
UNCOMPARED = (*FLOORS, *BUILT_IN)  # they never count as faster or leaner
# Every name that is no other library.
OURSELVES = (*OURS, *UNCOMPARED, "reference", *PLAIN, "loop x[t]", COMPILED)
LEANER = 0.99  # memory counts as less if it is less by 1 % or more


class Setting(NamedTuple):
    """The conditions of a comparison between providers."""

    device: str
    threads: int
    op: str
    case: str
    dtype: str
    mode: str
    buffers: str

    @property
    def shape(self) -> tuple[int, ...]:
        """``[T, B, *features]``."""
        return sizes(self.case)


class Subject(NamedTuple):
    """A provider's measurement series: a run has all its modes and buffers, or only the reason why there are none."""

    device: str
    threads: int
    op: str
    case: str
    dtype: str
    provider: str


class Standing(NamedTuple):
    """A provider's newest row, and ours of the same run. Times of different runs are never divided."""

    row: Row
    ours: Row | None

    @property
    def is_ours(self) -> bool:
        """True if this row is ours, with which the others are compared."""
        return self.row is self.ours

    @property
    def factor(self) -> float | None:
        """The median over our median. Above 1, ours is faster."""
        return None if self.ours is None else _over(self.row.median_ms, self.ours.median_ms)

    @property
    def faster(self) -> bool:
        """True if the median is less than ours, for all of the work."""
        return self.factor is not None and self.factor < 1 and self.row.provider not in UNCOMPARED

    @property
    def within_quartiles(self) -> bool:
        """True if the range between the quartiles overlaps with ours."""
        own, ours = self.row, self.ours
        return ours is not None and own.q25_ms <= ours.q75_ms and ours.q25_ms <= own.q75_ms

    def memory(self, column: str) -> float | None:
        """The ``peak_bytes`` or ``tape_bytes`` over ours; None if either is unknown, or ours is 0."""
        return None if self.ours is None else _over(getattr(self.row, column), getattr(self.ours, column))

    def leaner(self, column: str) -> bool:
        """True if ``peak_bytes`` or ``tape_bytes`` is less than ours, by 1 % or more."""
        memory = self.memory(column)
        return memory is not None and memory < LEANER and self.row.provider not in UNCOMPARED


def setting(row: Row) -> Setting:
    """The conditions under which ``row`` was measured."""
    return Setting(*(getattr(row, name) for name in Setting._fields))


def ours(rows: Iterable[Row]) -> Row | None:
    """The row of the first of ``OURS`` among the rows of one run and setting; None if none of them has a figure."""
    there = {row.provider: row for row in rows if row.median_ms is not None}
    return next((there[name] for name in OURS if name in there), None)


def newest(rows: Iterable[Row]) -> list[Row]:
    """The rows of the newest run of each provider and case, in the order of the record.

    If the newest run has no figures, its reason takes the place of older figures.
    """
    last: dict[Subject, str] = {}
    found: dict[tuple[Setting, str], Row] = {}
    for row in sorted(rows, key=lambda row: row.run):
        last[subject(row)] = row.run
        found[setting(row), row.provider] = row
    return [row for row in found.values() if row.run == last[subject(row)]]


def subject(row: Row) -> Subject:
    """The measurement series that ``row`` belongs to."""
    return Subject(*(getattr(row, name) for name in Subject._fields))


def groups(rows: Iterable[Row]) -> dict[tuple[str, Setting], list[Row]]:
    """The rows that were measured together, by run and setting."""
    found: dict[tuple[str, Setting], list[Row]] = {}
    for row in rows:
        found.setdefault((row.run, setting(row)), []).append(row)
    return found


def standings(rows: Sequence[Row]) -> dict[Setting, list[Standing]]:
    """The providers with a figure at each setting: ours first, then the others from fast to slow."""
    beside = {key: ours(several) for key, several in groups(rows).items()}
    found: dict[Setting, list[Standing]] = {}
    for row in newest(rows):
        if row.median_ms is not None:
            at = setting(row)
            found.setdefault(at, []).append(Standing(row, beside[row.run, at]))
    for several in found.values():
        several.sort(key=lambda standing: (not standing.is_ours, standing.row.median_ms))
    return found


def _over(value: float | None, other: float | None) -> float | None:
    return value / other if value is not None and other else None
