"""The short tables: our layers of neurons in training, beside the loop, the compiled loop and other libraries.

The page of benchmarks has a table for each device of each record, and the README the first one of each record.
"""

from collections.abc import Sequence
from pathlib import Path

from hnn_models import paths

from ..core.operations import title
from . import report
from .record import is_record, read
from .rows import Row
from .standings import COMPILED, LOOP, OURSELVES, UNCOMPARED, Setting, Standing, standings

ROOT = Path(__file__).parents[2]
README, PAGE = "README.md", "docs/benchmarks.md"
BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
_INTRODUCTION = (
    "Forward and backward of the layer alone in float32. The times are medians of calls that were made in turns, with "
    f"reused buffers. {report.TIMES} is a time over ours. *Of the copy* is the share of a copy's bandwidth that ours "
    "reaches on the 20 bytes per neuron-step that must move; a filter adds none."
)
_INSTRUCTION_SETS = (
    " The last word on a processor is the instruction set to which all were held: our kernels, torch, its compiler and "
    "its libraries. DEFAULT is without AVX2."
)
OPS = ("lif", "lif_axon", "lif_axon_learnt")
CASES = ("25x64x500", "25x64x4096", "100x32x4096")
_NAMES = {LOOP: "loop", COMPILED: "compiled loop"}
_COLUMNS = (
    "layer", "`[T, B, N]`", "fused (ms)", "loop (ms)", report.TIMES, "compiled loop (ms)", report.TIMES,
    "fastest library", report.TIMES, "of the copy",
)  # fmt: skip


def write_all(root: Path = ROOT) -> list[Path]:
    """Write the page of every record under ``benchmarks/results`` and the short tables, and return their paths.

    Raises:
        ValueError: a record or its reasons have another form, or a page has no place for the tables.
    """
    wanted = generated(root)
    for path, text in wanted.items():
        paths.write(path, text)
    return list(wanted)


def outdated(root: Path = ROOT) -> list[Path]:
    """The files that :func:`write_all` would change."""
    return [p for p, text in generated(root).items() if not p.exists() or p.read_text(encoding="utf-8") != text]


def generated(root: Path) -> dict[Path, str]:
    """The text of every generated file."""
    found = records(root)
    pages = {report.page(path): report.text(path) for path in found}
    short = {root / name: updated((root / name).read_text(encoding="utf-8"), found, name) for name in (README, PAGE)}
    return {**pages, **short}


def records(root: Path = ROOT) -> list[Path]:
    """The paths of all records, by name."""
    return [path for path in sorted((root / "benchmarks" / "results").glob("*.csv")) if is_record(path)]


def updated(text: str, found: Sequence[Path], page: str) -> str:
    """The ``text`` of a page with its tables of all records between the markers; unchanged if there is no record.

    Raises:
        ValueError: the markers do not occur once each, in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in before + after:
        raise ValueError(f"{page} must have {BEGIN} and {END} once each, in this order")
    introduction = _INTRODUCTION if page == README else _INTRODUCTION + _INSTRUCTION_SETS
    tables = [measured for path in found if (measured := section(read(path), path.stem, page))]
    return "\n\n".join([before + BEGIN, introduction, *tables, END + after]) if tables else text


def section(rows: Sequence[Row], name: str, page: str) -> str:
    """The tables of the record called ``name`` on a page, each with its origin; empty if it has no such rows."""
    found = {s: several for s, several in standings(rows).items() if several[0].is_ours}
    devices = dict.fromkeys((s.device, s.threads) for s in found)
    folder = "benchmarks/results" if page == README else "../benchmarks/results"
    parts = [
        _device({s: several for s, several in found.items() if (s.device, s.threads) == device}, f"{folder}/{name}.md")
        for device in devices
    ]
    return "\n\n".join(list(filter(None, parts))[: 1 if page == README else None])


def _device(found: dict[Setting, list[Standing]], page: str) -> str:
    """The table of one device; ``page`` has all rows."""
    shown = _shown(found, fresh=False)
    if not shown:
        return ""
    lines = report.table(_COLUMNS, [_line(s, several) for s, several in shown.items()])
    rows = [several[0].row for several in shown.values()]
    where = [", ".join(dict.fromkeys(getattr(row, name) for row in rows)) for name in ("torch", "commit", "date")]
    words = f"{rows[0].device}, {report.threads(rows[0].threads)}, torch {where[0]}, commit {where[1]}, {where[2]}."
    again = []
    for provider in (LOOP, COMPILED):
        factors = [
            s.factor
            for several in _shown(found, fresh=True).values()
            for s in several
            if s.row.provider == provider and s.factor is not None
        ]
        if factors:
            lowest, highest = report.figure(min(factors)), report.figure(max(factors))
            again.append(f"{lowest} to {highest} times as fast as the {_NAMES[provider]}")
    if again:
        words += f" With fresh buffers ours is {' and '.join(again)}."
    beside = [s.faster for several in found.values() for s in several[1:] if s.row.provider not in UNCOMPARED]
    words += f" [All rows]({page}) begins with the cases that others win: "
    words += f"{sum(beside)} of {len(beside)} medians are lower than ours."
    if any(r"\*" in line for line in lines):
        words += r" \* This library computes something else, or in another way: see its note on that page."
    return "\n".join([*lines, "", words])


def _shown(found: dict[Setting, list[Standing]], fresh: bool) -> dict[Setting, list[Standing]]:
    """The settings in the table, in its order."""
    shown = [
        s
        for s in found
        if s.op in OPS and s.case in CASES and (s.dtype, s.mode, s.buffers == "fresh") == ("float32", "both", fresh)
    ]
    return {s: found[s] for s in sorted(shown, key=lambda s: (OPS.index(s.op), CASES.index(s.case)))}


def _line(at: Setting, several: Sequence[Standing]) -> list[str]:
    named = {standing.row.provider: standing for standing in several}
    ours = several[0].row
    peers = [s for s in several if s.row.provider not in OURSELVES and s.factor is not None]
    best = min(peers, key=lambda s: s.factor, default=None)
    words = [title(at.op), report.axes(at.case), report.figure(ours.median_ms)]
    for standing in (named.get(LOOP), named.get(COMPILED)):
        words += [report.figure(standing.row.median_ms), _factor(standing.factor)] if standing else ["", ""]
    words += [best.row.provider + r"\*" * bool(best.row.note), _factor(best.factor)] if best else ["", ""]
    return [*words, report.share(ours.share_of_copy)]


def _factor(factor: float | None) -> str:
    """A factor in bold if ours is faster, marked if it is not."""
    if factor is None:
        return ""
    words = f"{factor:.2f}" if factor < 2 else f"{factor:.1f}"
    return f"**{words}**" if factor >= 1 else f"{words} {report.BETTER}"
