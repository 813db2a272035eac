"""The command line ``hnn``. Results go to stdout, progress and errors to stderr."""

try:
    import typer
except ModuleNotFoundError as error:
    raise SystemExit("hnn needs the extra 'models': pip install 'hnn-kernels[models]'") from error

import hnn_kernels

from .. import signals
from . import bench, demo, energy, inspect, tables, train
from .output import Commands, short_warnings

app = typer.Typer(
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Hybrid networks of artificial and spiking layers.",
)
for command in (
    train.train,
    train.evaluate,
    demo.demo,
    inspect.describe,
    inspect.profile,
    energy.energy,
    tables.tables,
):
    app.command()(command)
app.command(add_help_option=False, context_settings=bench.CONTEXT)(bench.bench)


def main() -> None:
    """Run ``hnn``, which is the only thing that this process does."""
    signals.end_with_exceptions()
    short_warnings()
    hnn_kernels.keep_what_is_freed()
    app(prog_name="hnn")
