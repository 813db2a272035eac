"""The page of a record: where others win, then every case with all that were measured on it.

Pages, plots and the README's table are generated, never edited: ``python -m benchmarks report``. The one thing that
people write is why another is faster, leaner or near, in ``<record>.reasons.toml``::

    [[reason]]
    provider = "norse"          # shell patterns; what is left out matches all
    op = "lif_*"
    why = "..."
"""

import math
import tomllib
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from ..core.cases import MODES, OPS, sizes
from ..core.machine import Machine
from .record import read
from .rows import Row
from .standings import FLOORS, Setting, Standing, newest, standings

BETTER, TIMES, UNEXPLAINED = "▲", "\N{MULTIPLICATION SIGN}", "not explained yet"
NEAR = 1.3  # of our time, or less: worth a word where nothing but the layer is measured
_MIB = 2**20
_HOW = (
    f"Times are of one call. *{TIMES} ours* is a provider's median over ours in the same run: above 1 ours is faster. "
    "*Of the copy* is the share of the bandwidth of a copy in the same run that is achieved on bytes that must move; "
    "*first call* includes compilation; *peak* is the most memory allocated during a call above what was there, *tape* "
    f"what forward keeps for backward. {BETTER} marks what is better than ours: a lower median, or memory that is "
    "less by 1 % or more."
)
_COLUMNS = (
    "mode, buffers", "provider", "median (ms)", "quartiles (ms)", f"{TIMES} ours", "ns per neuron-step", "GB/s",
    "of the copy", "first call (ms)", "peak (MiB)", "tape (MiB)", "spike rate", "note",
)  # fmt: skip
_WINS = ("operation", "`[T, B, N]`", "dtype", "mode, buffers", "provider", "in what", "why")
_PATTERNS = ("provider", "op", "case", "dtype", "mode", "buffers")

Reasons = Sequence[dict[str, str]]


def write(record: Path) -> Path:
    """Write the page of ``record`` beside it.

    Raises:
        ValueError: the record or its reasons are not what they must be.
    """
    page(record).write_text(text(record), encoding="utf-8")
    return page(record)


def page(record: Path) -> Path:
    """Where the page of ``record`` is."""
    return record.with_suffix(".md")


def text(record: Path) -> str:
    """What the page of ``record`` says.

    Raises:
        ValueError: as :func:`write`.
    """
    return markdown(read(record), record.name, reasons(record))


def markdown(rows: Sequence[Row], name: str, why: Reasons = ()) -> str:
    """The page of the record called ``name``; only the newest run of each setting and provider is on it.

    Raises:
        ValueError: a reason is for no case in which another wins or is near.
    """
    found = standings(rows)
    wins, near = _explained(found, why, _better), _explained(found, why, _near)
    unused = [entry for i, entry in enumerate(why) if i not in wins.used | near.used]
    if unused:
        raise ValueError(f"a reason must be for a case in which another wins or is near; got {unused}")
    lines = [
        f"# Measurements in {name}",
        "",
        f"Generated from [{name}]({name}) by `python -m benchmarks report`. {_HOW}",
    ]
    lines += ["", *table(("run", "device", "threads", "torch", "triton", "CUDA", "commit", "date"), _runs(rows))]
    lines += ["", "## Where others win", "", *wins.table]
    lines += ["", f"## Where a layer of ours is ahead by less than {NEAR:g}{TIMES}", "", *near.table]
    refused = [row for row in newest(rows) if row.median_ms is None]
    nowhere = _nowhere(rows)
    if nowhere:
        lines += ["", "## Not measured at all", "", *table(("provider", "why"), nowhere.items())]
    before = None
    for at in _cases([*found, *refused]):
        if at.op != before:
            lines += ["", f"## {op_title(at.op)}", *_formula(at.op)]
            before = at.op
        lines += ["", f"### {axes(at.case)}, {at.dtype}, {at.device}, {threads(at.threads)}"]
        settings = _settings(found, at)
        if settings:
            lines += ["", *table(_COLUMNS, [_line(standing) for s in settings for standing in found[s]])]
        without = [row for row in refused if _case(row) == at and row.provider not in nowhere]
        if without:
            lines += ["", *_without_figures(without)]
    return "\n".join(lines) + "\n"


def reasons(record: Path) -> Reasons:
    """Why others win in ``record``, as people wrote it beside it; none where they did not.

    Raises:
        ValueError: an entry has other names than ``why`` and the patterns.
    """
    path = record.with_suffix(".reasons.toml")
    if not path.exists():
        return ()
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("reason", [])
    for entry in entries:
        if "why" not in entry or not set(entry) <= {"why", *_PATTERNS}:
            raise ValueError(f"{path}: a reason must have 'why' and may have {', '.join(_PATTERNS)}; got {entry}")
    return entries


def table(columns: Sequence[str], lines: Iterable[Sequence[Any]]) -> list[str]:
    """A Markdown table."""
    return [_bar(columns), _bar(["---"] * len(columns)), *map(_bar, lines)]


def figure(value: float | None) -> str:
    """A figure with three digits or more, without an exponent; nothing where there is none."""
    if value is None:
        return ""
    decimals = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{max(decimals, 0)}f}"


def share(value: float | None) -> str:
    """A share in percent."""
    return "" if value is None else f"{100 * value:.{0 if value > 0.0995 else 1}f} %"


def axes(case: str) -> str:
    """``"25x64x500"`` as ``"25, 64, 500"``."""
    return case.replace("x", ", ")


def threads(number: int) -> str:
    """In words."""
    return "1 thread" if number == 1 else f"{number} threads"


def op_title(op: str) -> str:
    """What people call it; records may have operations that are no longer measured."""
    return OPS[op].title if op in OPS else op


def _formula(op: str) -> list[str]:
    if op not in OPS:
        return []
    what = "Bytes that must move per neuron-step" if OPS[op].elements_forward else "Matrix products, the floor"
    return ["", f"{what}, forward | backward: {OPS[op].formula}."]


def _bar(words: Sequence[Any]) -> str:
    return f"| {' | '.join(str(word).replace('|', '/') for word in words)} |"


def _runs(rows: Iterable[Row]) -> list[tuple[Any, ...]]:
    """The machine line of each run that has a figure on the page."""
    return list(dict.fromkeys(tuple(getattr(row, name) for name in Machine._fields) for row in newest(rows)))


class _Case(NamedTuple):
    op: str
    case: str
    dtype: str
    device: str
    threads: int


def _case(at: Setting | Row) -> _Case:
    return _Case(*(getattr(at, name) for name in _Case._fields))


def _cases(found: Iterable[Setting | Row]) -> list[_Case]:
    """All cases: operations as :data:`OPS` has them, sizes from small to large."""
    order = {op: i for i, op in enumerate(OPS)}
    return sorted({_case(at) for at in found}, key=lambda at: (order.get(at.op, len(order)), at.op, sizes(at.case), at))


def _settings(found: Iterable[Setting], case: _Case) -> list[Setting]:
    """Those of ``case``: forward and backward together first, and buffers that are used again."""
    return sorted((s for s in found if _case(s) == case), key=lambda s: (-MODES.index(s.mode), s.buffers == "fresh", s))


def _nowhere(rows: Iterable[Row]) -> dict[str, str]:
    """Providers that have no figure on the page, all for the same reason."""
    told: dict[str, set[str]] = {}
    for row in newest(rows):
        told.setdefault(row.provider, set()).add(row.note if row.median_ms is None else "")
    return {name: why for name, notes in told.items() if len(notes) == 1 and (why := notes.pop())}


def _without_figures(rows: Iterable[Row]) -> list[str]:
    """Who has none, by the reason."""
    names: dict[str, list[str]] = {}
    for row in rows:
        names.setdefault(row.note, []).append(row.provider)
    return [f"- no figure for {', '.join(several)}: {why}" for why, several in names.items()]


def _line(standing: Standing) -> list[str]:
    row = standing.row
    version = f" {row.version}" if row.version else ""
    factor = "**ours**" if standing.is_ours else figure(standing.factor) + _mark(standing.faster)
    memory = [
        figure(None if (b := getattr(row, column)) is None else b / _MIB) + _mark(standing.leaner(column))
        for column in ("peak_bytes", "tape_bytes")
    ]
    return [
        f"{row.mode}, {row.buffers}", row.provider + version,
        figure(row.median_ms), f"{figure(row.q25_ms)} to {figure(row.q75_ms)}", factor,
        figure(row.ns_per_neuron_step), figure(row.gb_per_s), share(row.share_of_copy), figure(row.first_call_ms),
        *memory, share(row.spike_rate), row.note,
    ]  # fmt: skip


class _Explained(NamedTuple):
    table: list[str]
    used: set[int]  # of the reasons


def _explained(found: dict[Setting, list[Standing]], why: Reasons, what: Callable[[Standing], str]) -> _Explained:
    """Those of which ``what`` has something to say, with the reasons."""
    lines: dict[tuple, list[str]] = {}  # all but the buffers: what holds with all of them is said once
    used = set()
    for case in _cases(found):
        for standing in (standing for at in _settings(found, case) for standing in found[at]):
            words, row = what(standing), standing.row
            if words:
                matching = [i for i, entry in enumerate(why) if _matches(entry, row)]
                used |= set(matching)
                because = "; ".join(why[i]["why"] for i in matching) or UNEXPLAINED
                key = (op_title(row.op), axes(row.case), row.dtype, row.mode, row.provider, words, because)
                lines.setdefault(key, []).append(row.buffers)
    if not lines:
        return _Explained(["Nowhere in this record."], used)
    cells = [(*k[:3], f"{k[3]}, {' and '.join(buffers)}", *k[4:]) for k, buffers in lines.items()]
    return _Explained(table(_WINS, cells), used)


def _better(standing: Standing) -> str:
    """In what a provider is better than ours, in words."""
    what = []
    if standing.faster:
        noise = " (quartiles overlap)" if standing.within_quartiles else ""
        what.append(f"{_part(standing.factor)} of our time{noise}")
    for column, name in (("peak_bytes", "peak memory"), ("tape_bytes", "tape")):
        if standing.leaner(column):
            what.append(f"{_part(standing.memory(column))} of our {name}")
    return "; ".join(what)


def _near(standing: Standing) -> str:
    """How near a provider's layer is to ours, in words, where it is near and not faster."""
    row, factor = standing.row, standing.factor
    neurons = row.op in OPS and OPS[row.op].kind == "neuron"
    if not neurons or standing.is_ours or row.provider in FLOORS or factor is None or not 1 <= factor < NEAR:
        return ""
    return f"{figure(factor)} of our time"


def _mark(better: bool) -> str:
    return f" {BETTER}" if better else ""


def _part(part: float) -> str:
    return "under 0.01" if part < 0.01 else figure(part)


def _matches(entry: dict[str, str], row: Row) -> bool:
    return all(fnmatchcase(getattr(row, name), entry.get(name, "*")) for name in _PATTERNS)
