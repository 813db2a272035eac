"""``hnn bench``: the command line of the benchmark suite, under the name of this one."""

import importlib
import importlib.util

import typer

from .output import short_errors

# The suite reads its own options.
CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}


def bench(context: typer.Context) -> None:
    """Measure the kernels beside loops and other libraries (hnn bench --help)."""
    with short_errors():
        # The suite is a package of its own. In a clone that is not installed it has the name of its folder.
        installed = importlib.util.find_spec("hnn_benchmarks") is not None
        benchmarks = importlib.import_module(f"{'hnn_benchmarks' if installed else 'benchmarks'}.suite.command")
    benchmarks.app(context.args, prog_name="hnn bench")
