"""What the rows of a record say together: the newest of each measurement, beside ours of the same run."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..core.cases import sizes
from .rows import Row

OURS = ("cuda", "cpu", "triton")  # the first of them that was measured is ours: the one that a call takes by itself
LOOP, COMPILED = "loop", "loop compiled"
PRODUCTS = "products alone"  # in the place of a provider: an operation without its neurons
FLOORS = (PRODUCTS,)  # a part of the work, so no provider to lose against
OURSELVES = (*OURS, *FLOORS, "reference", LOOP, "loop x[t]", COMPILED)  # who is no library of others
LEANER = 0.99  # memory is less where it is so by 1 % or more


class Setting(NamedTuple):
    """What providers are compared at."""

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
    """What a run measures in all modes and buffers, or not at all."""

    device: str
    threads: int
    op: str
    case: str
    dtype: str
    provider: str


class Standing(NamedTuple):
    """A provider's newest row, and ours of the same run: times of different runs are never divided."""

    row: Row
    ours: Row | None

    @property
    def is_ours(self) -> bool:
        """Whether this is the row that the others are held against."""
        return self.row is self.ours

    @property
    def factor(self) -> float | None:
        """Its median over ours: above 1, ours is faster."""
        return None if self.ours is None else _over(self.row.median_ms, self.ours.median_ms)

    @property
    def faster(self) -> bool:
        """Whether its median is less than ours, and it does all of the work."""
        return self.factor is not None and self.factor < 1 and self.row.provider not in FLOORS

    @property
    def within_quartiles(self) -> bool:
        """Whether its quartiles and ours overlap."""
        own, ours = self.row, self.ours
        return ours is not None and own.q25_ms <= ours.q75_ms and ours.q25_ms <= own.q75_ms

    def memory(self, column: str) -> float | None:
        """Its ``peak_bytes`` or ``tape_bytes`` over ours; none where either is unknown, or ours keeps nothing."""
        return None if self.ours is None else _over(getattr(self.row, column), getattr(self.ours, column))

    def leaner(self, column: str) -> bool:
        """Whether it takes less of ``peak_bytes`` or ``tape_bytes`` than ours, by 1 % or more."""
        memory = self.memory(column)
        return memory is not None and memory < LEANER and self.row.provider not in FLOORS


def setting(row: Row) -> Setting:
    """What ``row`` was measured at."""
    return Setting(*(getattr(row, name) for name in Setting._fields))


def ours(rows: Iterable[Row]) -> Row | None:
    """Of rows of one run and setting, ours; none where no kernel of ours has a figure."""
    there = {row.provider: row for row in rows if row.median_ms is not None}
    return next((there[name] for name in OURS if name in there), None)


def newest(rows: Iterable[Row]) -> list[Row]:
    """The rows of each provider's newest run of a case, in the order of the record.

    Why there is no figure any more takes the place of older figures too.
    """
    last: dict[Subject, str] = {}
    found: dict[tuple[Setting, str], Row] = {}
    for row in sorted(rows, key=lambda row: row.run):
        last[subject(row)] = row.run
        found[setting(row), row.provider] = row
    return [row for row in found.values() if row.run == last[subject(row)]]


def subject(row: Row) -> Subject:
    """Of what ``row`` is a part."""
    return Subject(*(getattr(row, name) for name in Subject._fields))


def groups(rows: Iterable[Row]) -> dict[tuple[str, Setting], list[Row]]:
    """Rows that were measured together, by run and setting."""
    found: dict[tuple[str, Setting], list[Row]] = {}
    for row in rows:
        found.setdefault((row.run, setting(row)), []).append(row)
    return found


def standings(rows: Sequence[Row]) -> dict[Setting, list[Standing]]:
    """Who has a figure at each setting: ours, then the others from fast to slow."""
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
