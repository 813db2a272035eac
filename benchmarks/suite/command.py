"""The command line ``hnn bench``. Tables go to the standard output, progress and errors to the standard error."""

import datetime
import gc
import importlib
import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated
from unittest.mock import patch

import torch
import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from hnn_models import paths, signals
from hnn_models.cli.output import BAD_INPUT, Commands, interruptible, short_errors
from hnn_models.training.device import device_name, resolve_device

from ..core import memory
from ..core.cases import Case, suite
from ..core.layer import Provider
from ..core.operations import DTYPES, OPS
from ..core.timing import Plan
from ..providers import providers
from ..records import record as records
from ..records.rows import Row, Run
from . import runner
from .instruction_set import EVERY, SETS, hold, in_turn

RESULTS = Path("benchmarks/results")  # in a clone
# The plan with --quick (True), and without.
PLANS = {True: Plan(turns=5, seconds=0.15, limit=0.5, first=30.0), False: Plan(turns=5, seconds=0.4, first=60.0)}


class RunByDefault(Commands):
    """A group of commands that passes options without a command to ``run``."""

    def parse_args(self, ctx, args):
        """Put ``run`` in front of the arguments if they begin with an option."""
        if not args or (args[0].startswith("-") and args[0] != "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=RunByDefault,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Measure the kernels beside loops and other libraries, and show the measurements. The default command is run.",
)


@app.command()
def run(
    quick: Annotated[
        bool, typer.Option("--quick", help="Measure a few small cases, in minutes instead of most of an hour.")
    ] = False,
    op: Annotated[
        list[str] | None, typer.Option(help=f"Measure only this operation: {', '.join(OPS)}. Repeatable.")
    ] = None,
    provider: Annotated[
        list[str] | None, typer.Option(help="Measure only this provider; --list shows them. Repeatable.")
    ] = None,
    dtype: Annotated[
        list[str] | None, typer.Option(help=f"Measure only this dtype: {', '.join(DTYPES)}. Repeatable.")
    ] = None,
    size: Annotated[
        list[str] | None, typer.Option(help="Measure only this size, such as 25x64x500; --list shows them. Repeatable.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda if there is a GPU, else cpu.")] = "auto",
    isa: Annotated[
        str | None,
        typer.Option(
            help=f"Hold everything on the CPU to this instruction set: {', '.join(SETS)}; or {EVERY}: measure with "
            "each of them that this processor has. The default is the best one."
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help=f"Append the rows to this CSV file. The default is bench_DEVICE.csv, in {RESULTS} if there is such a "
            "folder, else in the current folder.",
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="YYYY-MM-DD",
            help="Leave out the cases whose rows the record has from this day on, so that a record is made in parts. "
            "With --list: what it lacks.",
        ),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the cases and providers, and measure nothing.")] = False,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Measure. The rows of a case are written when it ends, so Ctrl-C keeps those of finished cases."""
    with short_errors(BAD_INPUT):
        where = resolve_device(device)
        every = where.type == "cpu" and isa == EVERY
        code = in_turn() if every else 0
    if every:
        raise typer.Exit(code)
    with short_errors(BAD_INPUT):
        if where.type == "cpu":
            hold(isa)
        elif isa is not None:
            raise ValueError(f"--isa is for the CPU; the device is {where.type}")
        cases = [
            case
            for case in suite(where.type, quick)
            if case.op in _chosen("--op", op, OPS)
            and case.dtype in _chosen("--dtype", dtype, DTYPES)
            and (not size or case.name in size)
        ]
        known = {one.name: one for one in providers()}
        measured = [known[name] for name in _chosen("--provider", provider, known)]
        if not cases:
            raise ValueError("there is no such case in this suite; --list shows all cases")
        default = (RESULTS if RESULTS.is_dir() else Path()) / f"bench_{_slug(where)}.csv"
        record = paths.file(default if out is None else out, "--out")
        if record.suffix == ".md":
            raise ValueError(f"--out must be a CSV file, its page has the suffix .md; got {out!r}")
        if record.exists():
            kept = records.read(record)  # find a damaged record before the run, not after it
            cases = cases if since is None else _left(cases, measured, kept, where, _day("--since", since))
        elif not record.parent.is_dir():
            raise ValueError(f"--out must be in a folder that exists; got {record}")
    if list_:
        for case in cases:
            typer.echo(f"{case.op:18} {case.name:18} {case.dtype}")
        typer.echo(f"providers: {', '.join(known)}")
        return
    if not cases:
        typer.echo(f"all of these cases are in {record} since {since}", err=True)
        return
    plan = PLANS[quick]
    with warnings.catch_warnings(action="ignore"):  # warnings of libraries are for their authors
        minutes = runner.estimated_seconds(cases, measured, where, plan) / 60
    typer.echo(f"{len(cases)} cases, about {minutes:.0f} minutes; rows go to {record}", err=True)
    before = record.stat().st_mtime_ns if record.exists() else None
    with short_errors((OSError,)), interruptible(partial(_kept, record, before)):
        paths.ready(record.parent)  # find a folder that cannot be written before the run, not after it
        _run(cases, measured, where, plan, record, progress)


@app.command()
def compare(
    before: Annotated[str, typer.Argument(help="A record: a CSV file, FILE@RUN or FILE@COMMIT.")],
    after: Annotated[str, typer.Argument(help="The record to compare with it, in the same form.")],
    fail_above: Annotated[
        float | None,
        typer.Option(min=1.0, help="Exit with code 1 if a time is slower beyond noise by more than this factor."),
    ] = None,
) -> None:
    """Show the changes beyond noise between two records, or two runs of one."""
    from ..records import compare as comparison

    with short_errors(BAD_INPUT):
        changes = comparison.compare(comparison.select(before), comparison.select(after))
        typer.echo(comparison.markdown(changes))
    if fail_above is not None and comparison.slower(changes, fail_above):
        raise typer.Exit(1)


@app.command()
def report(
    record: Annotated[
        str | None,
        typer.Argument(metavar="[RECORD]", help="A record; by default all of a clone, and its README."),
    ] = None,
) -> None:
    """Write the Markdown page of a record beside it."""
    with short_errors(BAD_INPUT):
        from ..records.readme import write_all
        from ..records.report import write

        for path in write_all() if record is None else [write(paths.file(record, "RECORD"))]:
            typer.echo(f"wrote {path}", err=True)


@app.command()
def plots(
    record: Annotated[str, typer.Argument(help="A record.")],
    folder: Annotated[str, typer.Argument(help="The folder for the PNG files.")],
) -> None:
    """Draw the time per neuron-step over the size, the bandwidth, and the time over ours."""
    with short_errors(BAD_INPUT):
        from ..records.plots import write

        for path in write(paths.file(record, "RECORD"), paths.folder(folder, "FOLDER")):
            typer.echo(f"wrote {path}", err=True)


def _kept(record: Path, before: int | None) -> str:
    """Say what an interrupted run leaves in the record."""
    now = record.stat().st_mtime_ns if record.exists() else None
    return "no case was finished" if now == before else f"the finished cases are in {record}"


def _run(
    cases: Sequence[Case], measured: Sequence[Provider], device: torch.device, plan: Plan, record: Path, show: bool
) -> None:
    if device.type == "cpu":
        memory.raise_when_full()
    # Otherwise this import would count in the first call of the first compiled provider, and a time limit could
    # interrupt it halfway.
    importlib.import_module("torch._inductor.compile_fx")
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # Each run compiles everything anew. Otherwise its first calls would depend on the run before.
    with (
        warnings.catch_warnings(action="ignore"),
        tempfile.TemporaryDirectory() as cache,
        patch.dict(os.environ, TORCHINDUCTOR_CACHE_DIR=cache, TRITON_CACHE_DIR=cache, HNN_CACHE_DIR=cache),
        Progress(*columns, console=console, disable=not show, transient=True) as bar,
        _frozen(),
    ):
        task = bar.add_task("", total=len(cases))
        for done, (case, rows) in enumerate(
            runner.run(cases, measured, device, plan, lambda what: bar.update(task, description=escape(what))), start=1
        ):
            records.append(record, rows)
            _print(case, rows)
            bar.update(task, completed=done)


@contextmanager
def _frozen() -> Iterator[None]:
    """Exclude the objects of this moment from garbage collection, which would otherwise take time in timed calls.

    At the end they are included again. Otherwise cycles of Triton's compiler would never be freed, and it would print a
    page of leaks.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _print(case: Case, rows: Sequence[Row]) -> None:
    """Print the times of forward and backward together, from fast to slow, and the providers without a time."""
    console = Console()
    table = Table(title=f"{OPS[case.op].title}, {case.name}, {case.dtype}", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("provider", "ms", "ns per neuron-step", "of copy", "first call", "peak MB", "tape MB"):
        table.add_column(name, justify="left" if name == "provider" else "right", no_wrap=name == "provider")
    table.add_column("note", overflow="fold")
    shown = [row for row in rows if row.mode == "both" and row.buffers != "fresh"]
    for row in sorted(shown, key=lambda row: (row.median_ms is None, row.median_ms or 0)):
        figures = (
            (row.median_ms, "{:.3f}"), (row.ns_per_neuron_step, "{:.3f}"), (row.share_of_copy, "{:.0%}"),
            (row.first_call_ms, "{:.0f}"), (row.peak_bytes and row.peak_bytes / 1e6, "{:.1f}"),
            (row.tape_bytes and row.tape_bytes / 1e6, "{:.1f}"),
        )  # fmt: skip
        words = ["" if value is None else form.format(value) for value, form in figures]
        name = f"{row.provider}, in a graph" if row.buffers == memory.GRAPH else row.provider
        table.add_row(*map(escape, (name, *words, row.note)))
    console = console if console.is_terminal else Console(width=160)
    console.print(table)


def _chosen(option: str, given: Sequence[str] | None, known: Sequence[str]) -> Sequence[str]:
    """The names that were given, or all of ``known``.

    Raises:
        ValueError: a name is not known.
    """
    for name in given or ():
        if name not in known:
            raise ValueError(f"{option} must be one of {', '.join(known)}; got {name!r}")
    return given or tuple(known)


def _day(option: str, given: str) -> str:
    try:
        return datetime.date.fromisoformat(given).isoformat()
    except ValueError:
        raise ValueError(f"{option} must be a day such as 2026-01-31; got {given!r}") from None


def _left(
    cases: Sequence[Case], measured: Sequence[Provider], kept: Sequence[Row], device: torch.device, since: str
) -> list[Case]:
    """The cases of which ``kept`` lacks a row from the day ``since`` on, by one of the providers on this machine."""
    here = Run(device)
    done = {(row.op, row.case, row.dtype, row.provider) for row in kept if row.date >= since and here.same_machine(row)}
    return [
        case for case in cases if not done.issuperset((case.op, case.name, case.dtype, one.name) for one in measured)
    ]


def _slug(device: torch.device) -> str:
    """The device in the name of a file: ``cpu``, or the GPU's name in lower case."""
    return "cpu" if device.type == "cpu" else re.sub(r"[^a-z0-9]+", "_", device_name(device).lower()).strip("_")


def main() -> None:
    """Run the command line as ``python -m benchmarks``."""
    signals.end_with_exceptions()
    app(prog_name="python -m benchmarks")
