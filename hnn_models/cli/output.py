"""What the commands share: options, short errors, tables."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import torch
import typer
from rich import box
from rich.console import Console
from rich.table import Table

Device = Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.")]
Backend = Annotated[str | None, typer.Option(help="Backend of the spiking layers; the best there is by default.")]
Progress = Annotated[bool, typer.Option(help="Show progress bars.")]
Json = Annotated[bool, typer.Option("--json", help="Print the results as one line of JSON.")]

# What a wrong argument, file or folder raises before the work begins, and what can still go wrong during it. Anything
# else is a fault of ours and keeps its stack trace.
BAD_INPUT = (ValueError, TypeError, RuntimeError, OSError, ModuleNotFoundError)
BAD_RUN = (ValueError, OSError, FloatingPointError, torch.OutOfMemoryError)


@contextmanager
def short_errors(kinds: tuple[type[Exception], ...] = BAD_INPUT) -> Iterator[None]:
    """Print errors of these kinds as a message, without their stack trace, and leave."""
    try:
        yield
    except kinds as error:
        typer.echo(f"hnn: error: {error}", err=True)
        raise typer.Exit(1) from error


def print_table(title: str, lines: Sequence[dict[str, Any]], as_json: bool) -> None:
    """Print ``lines``, all with the same names; one whose first value is ``"total"`` in bold."""
    if as_json:
        typer.echo(json.dumps({"title": title, "rows": lines}))
        return
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name, value in lines[0].items():
        table.add_column(name, justify="left" if isinstance(value, str) else "right", no_wrap=True)
    for line in lines:
        words = [_word(value) for value in line.values()]
        table.add_row(*words, style="bold" if words[0] == "total" else None)
    # A width of its own where stdout is no terminal, so that a file or a pipe gets every column whole.
    console = Console()
    console = console if console.is_terminal else Console(width=160)
    console.print(table)


def _word(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2f}"
