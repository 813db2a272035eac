"""The changes beyond noise between two measurements.

A side is ``PATH``, ``PATH@RUN`` or ``PATH@COMMIT``, because a record may have many runs. Of the rows that this selects,
the newest run of each setting and provider counts.

A machine's speed drifts by more than most changes amount to. So times are divided by yardsticks of the same run: the
copy whose bandwidth the run measured, and PyTorch's plain way at the same setting: the loop over time, or torch's own
product. The loop itself has the reference as its yardstick. It also has the clock, as every provider has without a
plain way beside it: a copy that is in the cache in one run and not in the other is off by a factor of two.

A provider changed *beyond noise* if three things hold for every yardstick of both sides: its quartiles in units of the
yardstick do not overlap, its median moved by 5 % or more, and all yardsticks agree on the direction. The change is then
the smallest of those measured. A figure that is gone, or new, is also such a change.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hnn_models import paths

from ..core.operations import title
from . import report
from .record import read
from .rows import MACHINE, Row
from .standings import LOOP, PLAIN, groups, newest, setting, subject

LEAST = 1.05
CLOCK = "the clock"
_COLUMNS = (
    "operation",
    "size",
    "dtype",
    "mode, buffers",
    "provider",
    "before (ms)",
    "after (ms)",
    "change",
    "by",
)
Yardsticks = Mapping[str, float]  # values by which a time is divided, in a unit that is equal on both sides


class Change(NamedTuple):
    """The change of a provider at one setting.

    Attributes:
        before, after: the rows.
        ratio: the time after over the time before, in units of the yardstick; above 1 is slower. It is infinite for a
            figure that is gone, and 0 for a new one.
        beyond_noise: True if the change is beyond noise.
        yardsticks: the names of the yardsticks.
    """

    before: Row
    after: Row
    ratio: float
    beyond_noise: bool
    yardsticks: tuple[str, ...]


def select(where: str) -> list[Row]:
    """The rows that ``where`` names: ``PATH``, ``PATH@RUN`` or ``PATH@COMMIT``.

    Raises:
        OSError: there is no such file.
        ValueError: the file is no record, or has no such run or commit.
    """
    path, which = where, ""
    if not paths.local(where, "record").is_file():  # a folder's name may have an @ too
        path, _, which = where.rpartition("@") if "@" in where else (where, "", "")
    rows = read(paths.file(path, "record"))
    chosen = [row for row in rows if not which or which in (row.run, row.commit)]
    if not chosen:
        known = ", ".join(dict.fromkeys(f"{row.run} ({row.commit})" for row in rows)) or "none"
        raise ValueError(f"{path} has no run or commit {which!r}; its runs: {known}")
    return chosen


def compare(before: Sequence[Row], after: Sequence[Row]) -> list[Change]:
    """A change for every setting and provider that both sides have: first those beyond noise, each by its size.

    Raises:
        ValueError: a side has several devices or numbers of threads, or the sides have nothing in common.
    """
    for rows, side in ((before, "before"), (after, "after")):
        devices = sorted({(row.device, row.threads) for row in rows})
        if len(devices) > 1:
            raise ValueError(f"{side} must be of one device and number of threads; got {devices}")
    changes = _moved(before, after) + _lost(before, after, math.inf)
    changes += [change._replace(before=change.after, after=change.before) for change in _lost(after, before, 0.0)]
    if not changes:
        raise ValueError("nothing was measured on both sides")
    return sorted(changes, key=lambda change: (not change.beyond_noise, -_distance(change.ratio)))


def markdown(changes: Sequence[Change]) -> str:
    """The changes beyond noise as a table, and their number."""
    sides = (("before", changes[0].before), ("after", changes[0].after))
    lines = report.table(("", *MACHINE), [(side, *(getattr(row, name) for name in MACHINE)) for side, row in sides])
    shown = [change for change in changes if change.beyond_noise]
    if shown:
        lines += ["", *report.table(_COLUMNS, map(_line, shown))]
    return "\n".join([*lines, "", f"{len(shown)} of {len(changes)} changed beyond noise."])


def slower(changes: Sequence[Change], factor: float) -> list[Change]:
    """The changes to a time that is slower beyond noise by more than ``factor``, or to no figure."""
    return [change for change in changes if change.beyond_noise and change.ratio > factor]


def _moved(before: Sequence[Row], after: Sequence[Row]) -> list[Change]:
    one, other = _measured(before), _measured(after)
    return [_change(*one[key], *other[key]) for key in one if key in other]


def _lost(before: Sequence[Row], after: Sequence[Row], ratio: float) -> list[Change]:
    """The figures of ``before`` that ``after`` replaces by a reason why there is none."""
    refused = {subject(row)[2:]: row for row in newest(after) if row.median_ms is None}
    there = _measured(after)
    return [
        Change(row, refused[subject(row)[2:]], ratio, True, ())
        for key, (row, _) in _measured(before).items()
        if key not in there and subject(row)[2:] in refused
    ]


def _measured(rows: Sequence[Row]) -> dict[tuple, tuple[Row, Yardsticks]]:
    """The rows with a figure, each with the yardsticks of its run, by setting and provider."""
    together = groups(rows)
    return {
        (*setting(row)[2:], row.provider): (row, _yardsticks(row, together[row.run, setting(row)]))
        for row in newest(rows)
        if row.median_ms is not None
    }


def _yardsticks(row: Row, together: Sequence[Row]) -> Yardsticks:
    beside = {"reference"} if row.provider == LOOP else {*PLAIN} - {row.provider}
    found = {other.provider: other.median_ms for other in together if other.provider in beside}
    found["copy"] = next((r.share_of_copy / r.gb_per_s for r in together if r.gb_per_s and r.share_of_copy), None)
    return {name: value for name, value in found.items() if value}


def _change(before: Row, one: Yardsticks, after: Row, other: Yardsticks) -> Change:
    units = {name: (one[name], other[name]) for name in one if name in other}
    if not units.keys() & {*PLAIN}:
        units[CLOCK] = (1.0, 1.0)
    ratios = [(after.median_ms / new) / (before.median_ms / old) for old, new in units.values()]
    apart = all(
        after.q25_ms / new > before.q75_ms / old if ratio > 1 else after.q75_ms / new < before.q25_ms / old
        for ratio, (old, new) in zip(ratios, units.values(), strict=True)
    )
    smallest = min(ratios, key=_distance)
    same_way = all(ratio > 1 for ratio in ratios) or all(ratio < 1 for ratio in ratios)
    return Change(before, after, smallest, apart and same_way and _distance(smallest) >= math.log(LEAST), tuple(units))


def _distance(ratio: float) -> float:
    """The distance of ``ratio`` from 1, equal for twice and for half."""
    return abs(math.log(ratio)) if ratio else math.inf


def _line(change: Change) -> list[str]:
    row = change.after if change.before.median_ms is None else change.before
    times = [report.figure(r.median_ms) or r.note for r in (change.before, change.after)]
    words = {math.inf: "gone", 0.0: "new"}.get(change.ratio) or report.figure(change.ratio)
    place = [title(row.op), report.axes(row.case), row.dtype, f"{row.mode}, {row.buffers}", row.provider]
    return [*place, *times, words, ", ".join(change.yardsticks)]
