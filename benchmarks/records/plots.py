"""Plots of a record: the time per neuron-step over the size, the bandwidth, and the time over ours.

They show forward and backward together, with reused or rotated buffers, in the newest run of each setting and provider.
"""

import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, NullLocator

from hnn_models import paths

from ..core.memory import GRAPH
from ..core.operations import OPS, title
from . import report
from .record import read
from .rows import Row
from .standings import OURS, Setting, Standing, standings

# Okabe and Ito's colors can be told apart with any color vision; ours is black. There are more providers than colors,
# so each also has its own marker, and a style of line.
_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
_MARKERS, _LINES = "sD^vP*X<>hp8d", ("-", "--", ":")
_AXES = {"T": "T (steps)", "B": "B (batch)", "N": "N (neurons)"}

Shown = Mapping[Setting, Sequence[Standing]]
Styles = Mapping[str, Mapping[str, Any]]
Points = dict[str, list[tuple[float, float]]]


def write(record: Path, folder: Path) -> list[Path]:
    """Write the plots of ``record`` into ``folder``, and return their paths.

    There is a PNG file for each device, operation, dtype and kind of plot.

    Raises:
        ValueError: ``record`` is not a record.
    """
    rows = read(record)
    folder.mkdir(parents=True, exist_ok=True)
    styles, written = _styles(rows), []
    for name, shown in _parts(standings(rows)).items():
        for draw in (scaling, roofline, factors):
            figure = draw(shown, styles)
            if figure is not None:
                written.append(folder / f"{name}_{draw.__name__}.png")
                paths.write_figure(written[-1], figure, 150)
    return written


def scaling(shown: Shown, styles: Styles) -> Figure | None:
    """Nanoseconds per neuron-step over T, B and N, with the other two fixed; None if no size was varied.

    A product has other sizes, and no such plot.
    """
    lines = {axis: line for axis in _AXES if len(line := _line(shown, axis)) > 1}
    if not lines or any(at.op in OPS and OPS[at.op].kind == "product" for at in shown):
        return None
    figure, panels = _figure(shown, "time per neuron-step", len(lines))
    for ax, (axis, line) in zip(panels, lines.items(), strict=True):
        points: Points = {}
        for at, several in line.items():
            for row in (standing.row for standing in several):
                points.setdefault(row.provider, []).append((_sizes(at)[axis], row.ns_per_neuron_step))
        _draw(ax, points, styles)
        fixed = (f"{name} = {size:,}" for name, size in _sizes(next(iter(line))).items() if name != axis)
        ax.set_title(", ".join(fixed), fontsize=10, loc="left")
        ax.set_xlabel(_AXES[axis])
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_locator(FixedLocator(_apart(sorted(_sizes(at)[axis] for at in line))))
        ax.xaxis.set_major_formatter("{x:,.0f}")
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_yscale("log")
        _plain(ax.yaxis)
    panels[0].set_ylabel("ns per neuron-step")
    return _with_legend(figure)


def roofline(shown: Shown, styles: Styles) -> Figure | None:
    """The bandwidth on the bytes that must move, under that of a copy in the same run; None without such bytes."""
    points: Points = {}
    roof: dict[float, list[float]] = {}
    for row in (standing.row for several in shown.values() for standing in several):
        if row.gb_per_s and row.share_of_copy:
            size = row.bytes_moved / 1e6
            points.setdefault(row.provider, []).append((size, row.gb_per_s))
            roof.setdefault(size, []).append(row.gb_per_s / row.share_of_copy)
    if not roof:
        return None
    figure, (ax,) = _figure(shown, "achieved bandwidth")
    line = sorted((size, statistics.median(speeds)) for size, speeds in roof.items())
    ax.plot(*zip(*line, strict=True), color="0.5", linestyle="--", linewidth=2.5, label="roof: a copy")
    # No line joins the points, because cases of about the same bytes differ in shape.
    _draw(ax, points, {provider: {**style, "linestyle": "none"} for provider, style in styles.items()})
    ax.set_xscale("log")
    ax.set_xlabel("bytes that must move (MB)")
    ax.set_ylabel("achieved on them (GB/s)")
    ax.set_yscale("log")
    _plain(ax.xaxis)
    _plain(ax.yaxis)
    return _with_legend(figure)


def factors(shown: Shown, styles: Styles) -> Figure | None:
    """Each provider's time over ours, None without others. The bar is the median over the cases, a dot is one case."""
    found: dict[str, list[float]] = {}
    noted: set[str] = set()
    for standing in (standing for several in shown.values() for standing in several):
        if standing.factor is not None and not standing.is_ours:
            found.setdefault(standing.row.provider, []).append(standing.factor)
            noted |= {standing.row.provider} if standing.row.note else set()
    if not found:
        return None
    found = dict(sorted(found.items(), key=lambda item: statistics.median(item[1])))
    figure, (ax,) = _figure(shown, "time over ours", height=1.6 + 0.42 * len(found))
    for place, (provider, values) in enumerate(found.items()):
        middle = statistics.median(values)
        ax.barh(place, middle - 1, left=1, height=0.6, color=styles[provider]["color"], alpha=0.55)
        ax.plot(values, [place] * len(values), "o", markersize=4, color="black", markerfacecolor="none")
        words = f" {report.figure(middle)}"
        ax.annotate(words, (max(*values, 1), place), (6, 0), textcoords="offset points", va="center", fontsize=9)
    ax.axvline(1, color="black", linewidth=1.5)
    ax.set_yticks(range(len(found)), [name + " *" * (name in noted) for name in found])
    ax.invert_yaxis()
    ax.set_xscale("log")
    ax.use_sticky_edges = False
    ax.margins(x=0.1)  # room for the numbers
    _plain(ax.xaxis)
    words = "time over ours (above 1: ours is faster); bar and number: median of the cases, dot: a case"
    ax.set_xlabel(words + "\n* it computes something else, or computes it differently: see its note" * bool(noted))
    return figure


def _parts(found: Shown) -> dict[str, Shown]:
    """The settings of each plot, by the beginning of the file's name."""
    several = len({(at.device, at.threads) for at in found}) > 1
    parts: dict[str, dict[Setting, Sequence[Standing]]] = {}
    for at in sorted(found):
        if at.mode == "both" and at.buffers not in ("fresh", GRAPH):
            words = [at.op, at.dtype, *([at.device, report.threads(at.threads)] if several else [])]
            name = "_".join(re.sub(r"\W+", "-", word) for word in words)
            parts.setdefault(name, {})[at] = found[at]
    return parts


def _line(shown: Shown, axis: str) -> Shown:
    """The settings that differ in ``axis`` alone: of several such lines the longest, then the largest."""
    lines: dict[tuple, dict[Setting, Sequence[Standing]]] = {}
    for at, several in shown.items():
        fixed = tuple(size for name, size in _sizes(at).items() if name != axis)
        lines.setdefault(fixed, {})[at] = several
    return max(lines.values(), key=lambda line: (len(line), max(math.prod(at.shape) for at in line)))


def _sizes(at: Setting) -> dict[str, int]:
    steps, batch, *features = at.shape
    return {"T": steps, "B": batch, "N": math.prod(features)}


def _styles(rows: Iterable[Row]) -> Styles:
    """The style of each provider, equal in all plots of a record. Ours are thick and black."""
    names = dict.fromkeys(row.provider for row in rows if row.median_ms is not None)
    own = [name for name in OURS if name in names]
    styles = {
        name: {"color": "black", "marker": "o", "linewidth": 2.5, "linestyle": line, "zorder": 3}
        for name, line in zip(own, _LINES, strict=False)
    }
    others = (name for name in names if name not in own)
    for i, name in enumerate(others):
        line = _LINES[i // len(_COLORS) % len(_LINES)]
        look = {"color": _COLORS[i % len(_COLORS)], "marker": _MARKERS[i % len(_MARKERS)], "linestyle": line}
        styles[name] = {**look, "linewidth": 1.2}
    return styles


def _figure(shown: Shown, subject: str, panels: int = 1, height: float = 4.8) -> tuple[Figure, list[Axes]]:
    at = next(iter(shown))
    figure = Figure(figsize=(8.5 if panels == 1 else 1 + 4 * panels, height), layout="constrained")
    # Three lines, so that each ends before the legend begins.
    words = (
        title(at.op),
        f"forward + backward, {at.dtype}: {subject}",
        f"{at.device}, {report.threads(at.threads)}",
    )
    figure.suptitle("\n".join(words), fontsize=11, x=0.01, ha="left")
    axes = list(figure.subplots(1, panels, squeeze=False, sharey=True)[0])
    for ax in axes:
        ax.grid(alpha=0.3)
    return figure, axes


def _draw(ax: Axes, points: Points, styles: Styles) -> None:
    for provider, style in styles.items():
        if provider in points:
            ax.plot(*zip(*sorted(points[provider]), strict=True), label=provider, **style)


def _plain(axis: Axis) -> None:
    """Label a logarithmic axis with plain numbers, at 1, 2 and 5 of each decade."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _apart(sizes: Sequence[int]) -> list[int]:
    """The ``sizes`` whose labels do not overlap the label before on a logarithmic axis."""
    kept: list[int] = []
    for size in sizes:
        if not kept or size >= 1.4 * kept[-1]:
            kept.append(size)
    return kept


def _with_legend(figure: Figure) -> Figure:
    handles = {label: h for ax in figure.axes for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, fontsize=9, loc="outside right upper", frameon=False)
    return figure
