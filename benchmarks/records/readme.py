"""The README's table: training layers of neurons, ours beside what one would use instead."""

from collections.abc import Sequence
from pathlib import Path

from . import report
from .record import is_record, read
from .rows import Row
from .standings import COMPILED, FLOORS, LOOP, OURSELVES, Setting, Standing, standings

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
_INTRODUCTION = (
    "Forward and backward of the layer alone, float32: medians of calls taken in turns, with buffers used again. "
    f"{report.TIMES} is a time over ours; *of the copy* is the share of a copy's bandwidth that ours reaches on the 20 "
    "bytes per neuron-step that must move, whatever filters are attached."
)
OPS = ("lif", "lif_axon", "lif_axon_learnt")
CASES = ("25x64x500", "25x64x4096", "100x32x4096")
_COLUMNS = (
    "layer", "`[T, B, N]`", "fused (ms)", "loop (ms)", report.TIMES, "compiled loop (ms)", report.TIMES,
    "fastest library", report.TIMES, "of the copy",
)  # fmt: skip


def write_all(root: Path = ROOT) -> list[Path]:
    """Write the page of every record under ``benchmarks/results`` and the README's tables; what is written.

    Raises:
        ValueError: a record or its reasons are not what they must be, or the README has no place for the tables.
    """
    wanted = generated(root)
    for path, text in wanted.items():
        path.write_text(text, encoding="utf-8")
    return list(wanted)


def outdated(root: Path = ROOT) -> list[Path]:
    """What :func:`write_all` would change."""
    return [p for p, text in generated(root).items() if not p.exists() or p.read_text(encoding="utf-8") != text]


def generated(root: Path) -> dict[Path, str]:
    """Everything that is generated, with the text that it must have."""
    readme, found = root / "README.md", records(root)
    pages = {report.page(path): report.text(path) for path in found}
    return {**pages, readme: updated(readme.read_text(encoding="utf-8"), found)}


def records(root: Path = ROOT) -> list[Path]:
    """All records, by name."""
    return [path for path in sorted((root / "benchmarks" / "results").glob("*.csv")) if is_record(path)]


def updated(text: str, found: Sequence[Path]) -> str:
    """``text`` with the tables of all records between the markers; as it is where there is no record.

    Raises:
        ValueError: the markers are not there once each, in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in before + after:
        raise ValueError(f"README.md must have {BEGIN} and {END} once each, in this order")
    tables = [measured for path in found if (measured := section(read(path), path.stem))]
    return "\n\n".join([before + BEGIN, _INTRODUCTION, *tables, END + after]) if tables else text


def section(rows: Sequence[Row], name: str) -> str:
    """The tables of the record called ``name``, one per device, and where they are from; empty where it has none."""
    found = {s: several for s, several in standings(rows).items() if several[0].is_ours}
    devices = dict.fromkeys((s.device, s.threads) for s in found)
    parts = [_device({s: x for s, x in found.items() if (s.device, s.threads) == device}, name) for device in devices]
    return "\n\n".join(filter(None, parts))


def _device(found: dict[Setting, list[Standing]], name: str) -> str:
    shown = _shown(found, fresh=False)
    if not shown:
        return ""
    lines = report.table(_COLUMNS, [_line(s, several) for s, several in shown.items()])
    rows = [several[0].row for several in shown.values()]
    where = [", ".join(dict.fromkeys(getattr(row, name) for row in rows)) for name in ("torch", "commit", "date")]
    words = f"{rows[0].device}, {report.threads(rows[0].threads)}, torch {where[0]}, commit {where[1]}, {where[2]}"
    again = []
    for provider in (LOOP, COMPILED):
        factors = [
            s.factor
            for several in _shown(found, fresh=True).values()
            for s in several
            if s.row.provider == provider and s.factor is not None
        ]
        if factors:
            again.append(f"{report.figure(min(factors))} to {report.figure(max(factors))} times the {provider}")
    if again:
        words += f"; with fresh buffers {', '.join(again)}"
    beside = [s.faster for several in found.values() for s in several[1:] if s.row.provider not in FLOORS]
    page = f"benchmarks/results/{name}"
    words += f". All rows: [{page}.md]({page}.md), where others win first: "
    words += f"{sum(beside)} of {len(beside)} medians are lower than ours."
    if any(r"\*" in line for line in lines):
        words += r" \* what it computes, or how, differs: see its note there."
    return "\n".join([*lines, "", words])


def _shown(found: dict[Setting, list[Standing]], fresh: bool) -> dict[Setting, list[Standing]]:
    """The settings that the table shows, in its order."""
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
    words = [report.op_title(at.op), report.axes(at.case), report.figure(ours.median_ms)]
    for standing in (named.get(LOOP), named.get(COMPILED)):
        words += [report.figure(standing.row.median_ms), _factor(standing.factor)] if standing else ["", ""]
    words += [best.row.provider + r"\*" * bool(best.row.note), _factor(best.factor)] if best else ["", ""]
    return [*words, report.share(ours.share_of_copy)]


def _factor(factor: float | None) -> str:
    """Bold where ours is faster, marked where it is not."""
    if factor is None:
        return ""
    words = f"{factor:.2f}" if factor < 2 else f"{factor:.1f}"
    return f"**{words}**" if factor >= 1 else f"{words} {report.BETTER}"
