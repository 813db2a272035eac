"""Stand-ins for the paper's cells: small networks on digits."""

from pathlib import Path

from hnn_models.paper.cells import Cell, Run
from hnn_models.paper.plan import Plan
from hnn_models.paper.record import Row
from hnn_models.paper.runs import Reproduction, Source
from support.small_network import CPU

ARTIFICIAL = Run("A16-A10", "digits", "none")
SEPARATE = Run("A16-S10", "digits", learning="separate")
CELLS = (
    Cell("1a", Run("S16-S10", "digits"), 50.0),
    Cell("1a", Run("A16-S10", "digits"), 55.0),
    Cell("1a", SEPARATE, 60.0),
    Cell("1a", ARTIFICIAL, 70.0),
    Cell("2a", Run("A16-S10", "digits", "gaussian"), 65.0),
    Cell("2a", ARTIFICIAL, 70.5),
    Cell("4.2", Run("S16-S10", "digits", input="axon"), 40.0),
)


def reproduction(folder: Path, plan: Plan = Plan(epochs=1), cells=CELLS, **options) -> Reproduction:  # noqa: B008
    sources = {"digits": Source("digits", "digits")}
    record, runs = folder / "tables.csv", folder / "runs"
    return Reproduction(cells, plan, record, runs, sources, CPU, progress=False, **options)


def row(cell: Cell, **changes) -> Row:
    """A row of ``cell``, as if it had been measured."""
    run = cell.run
    made = Row(
        cell.table, run.architecture, run.dataset, run.coding, run.input, run.learning, "paper", 0, 0, 47, 27, 50.5,
        49.25, cell.accuracy, 1.5, "a processor", "2.11", "abc", "2026-01-01",
    )  # fmt: skip
    return made._replace(**changes)
