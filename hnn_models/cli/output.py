"""The output of the commands: results and tables on stdout, short errors on stderr."""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import typer
from rich import box
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

import hnn_kernels

from .. import paths
from ..training.launch import launch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Errors of a wrong argument, file or folder, before the work begins; and errors that the work itself can end with.
# Any other error is a fault of this package and keeps its stack trace.
BAD_INPUT = (ValueError, TypeError, RuntimeError, OSError, ModuleNotFoundError, MemoryError)
BAD_RUN = (ValueError, OSError, FloatingPointError, MemoryError, torch.OutOfMemoryError)

_LABELS = {
    "training_seconds": "training time",
    "artificial_test_accuracy": "artificial net's test",
    "step_ms": "training step",
    "step_reference_ms": "  plain PyTorch loop",
    "step_speedup": "  speed-up",
    "neurons_ms": "spiking neurons alone",
    "neurons_reference_ms": "  plain PyTorch loop",
    "neurons_speedup": "  speed-up",
}


class Commands(TyperGroup):
    """Commands that Ctrl-C ends with the code 130, as a shell reports it."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


def short_warnings() -> None:
    """Have this process show a warning of these packages as a message, without the line that warns."""
    usual = warnings.formatwarning
    folders = [Path(hnn_kernels.__file__).parent, Path(__file__).parents[1]]

    def formatted(message: Any, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
        if any(Path(filename).is_relative_to(folder) for folder in folders):
            return f"hnn: warning: {message}\n"
        return usual(message, category, filename, lineno, line)

    warnings.formatwarning = formatted


def is_first() -> bool:
    """True in the process that prints: the first one of a launch."""
    return launch().rank == 0


@contextmanager
def short_errors(kinds: tuple[type[Exception], ...] = BAD_INPUT) -> Iterator[None]:
    """Print errors of these kinds as a message without their stack trace, and exit."""
    try:
        yield
    except kinds as error:
        typer.echo(f"hnn: error: {error}", err=True)
        raise typer.Exit(1) from error


def report(as_json: bool, **results: Any) -> None:
    """Print results by name. Accuracies are fractions, names in ``_ms`` are milliseconds, speed-ups are ratios."""
    if not is_first():
        return
    if as_json:
        typer.echo(json.dumps({k: round(v, 6) if isinstance(v, float) else v for k, v in results.items()}))
        return
    for name, value in results.items():
        if name.endswith("accuracy"):
            shown = f"{100 * value:.2f} %"
        elif name.endswith("_ms"):
            shown = f"{value:.3f} ms"
        elif name.endswith("_seconds"):
            shown = f"{value:.1f} s"
        elif name.endswith("speedup"):
            shown = f"{value:.2f}x"
        else:
            shown = str(value)
        typer.echo(f"{_LABELS.get(name, name.replace('_', ' ')):24}{shown}")


def print_table(title: str, lines: Sequence[dict[str, Any]], as_json: bool) -> None:
    """Print ``lines``, which all have the same names. A line whose first value is ``"total"`` is bold."""
    if as_json:
        typer.echo(json.dumps({"title": title, "rows": lines}))
        return
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name, value in lines[0].items():
        table.add_column(name, justify="left" if isinstance(value, str) else "right", no_wrap=True)
    for line in lines:
        words = [_word(value) for value in line.values()]
        table.add_row(*words, style="bold" if words[0] == "total" else None)
    # A file or a pipe has no width, so it gets one that shows every column whole.
    console = Console()
    console = console if console.is_terminal else Console(width=160)
    console.print(table)


@contextmanager
def interruptible(how_to_go_on: Callable[[], str]) -> Iterator[None]:
    """If Ctrl-C, SIGTERM or SIGHUP interrupts what is inside, say how it goes on."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if is_first():
            typer.echo(f"interrupted; {how_to_go_on()}", err=True)
        raise


def save_figures(figures: Mapping[str, "Figure"], folder: Path) -> None:
    """Write each figure as ``NAME.png`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        paths.write_figure(folder / f"{name}.png", figure, 120)
        typer.echo(f"wrote {folder / name}.png", err=True)


def _word(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2f}"
