"""The cells of the paper's tables: what is trained for each, and the accuracy that the paper reports."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..network.network import HybridNetwork
from ..network.notation import parse
from ..training.protocol import Protocol

# What goes with a recipe on the side of the network.
NETWORK_OPTIONS: Mapping[str, Mapping[str, Any]] = {"paper": {}, "modern": {"learn": ("axon",)}}

# When a run ends early, as (patience, min_epochs). A one-cycle schedule is at its best at its end.
CUTS: Mapping[str, tuple[int | None, int]] = {"paper": (20, 30), "modern": (None, 1)}


class Run(NamedTuple):
    """What is trained for a cell, but for the plan and the seed. Cells with the same run share it.

    ``coding`` is ``"none"`` for a purely artificial network; ``activation`` is that of all artificial layers.
    """

    architecture: str
    dataset: str
    coding: str = "duplicate"
    input: str = "direct"
    learning: str = "simultaneous"
    activation: str = "relu"

    @property
    def artificial(self) -> "Run | None":
        """For separate learning, the purely artificial network that the fixed layers come from."""
        if self.learning == "simultaneous":
            return None
        whole = self.architecture.replace("S", "A")
        return Run(whole, self.dataset, "none", activation=self.activation)

    def network(self, shape: Sequence[int], recipe: str, backend: str | None = None) -> HybridNetwork:
        """The untrained network, for images of ``shape``."""
        return HybridNetwork(
            self.architecture,
            shape,
            "duplicate" if self.coding == "none" else self.coding,
            input=self.input,
            activation=self.activation,
            fixed_artificial=self.learning == "separate",
            backend=backend,
            **NETWORK_OPTIONS[recipe],
        )


class Cell(NamedTuple):
    """A figure of the paper: ``accuracy`` in percent, and the run that gives ours."""

    table: str
    run: Run
    accuracy: float

    @property
    def variant(self) -> tuple[str, str]:
        """What tells it from others of its table and architecture: ``("learning", "separate")``."""
        return ("input", self.run.input) if self.table == "4.2" else ("learning", self.run.learning)

    @property
    def name(self) -> str:
        """Table, architecture and variant: ``"1a/A784-S500-S10/separate"``."""
        return f"{self.table}/{self.run.architecture}/{self.variant[1]}"

    @property
    def artificial_share(self) -> float:
        """The fraction of the layers with weights that are artificial."""
        weighted = [layer for layer in parse(self.run.architecture) if layer.kind != "pool"]
        return sum(not layer.spiking for layer in weighted) / len(weighted)


class Plan(NamedTuple):
    """How all cells are trained. What is None is the recipe's own; ``patience`` 0 never ends a run early."""

    recipe: str = "paper"
    epochs: int | None = None
    patience: int | None = None
    min_epochs: int | None = None
    precision: str | None = None

    def protocol(self, dataset: str, seed: int = 0) -> Protocol:
        """How a network is trained on ``dataset``.

        Raises:
            ValueError: a recipe or a number that is not allowed.
        """
        given = {name: getattr(self, name) for name in ("epochs", "precision") if getattr(self, name) is not None}
        protocol = Protocol.of(dataset, self.recipe, seed=seed, **given)
        patience, least = CUTS[self.recipe]
        patience = patience if self.patience is None else self.patience
        least = least if self.min_epochs is None else self.min_epochs
        if not patience or least >= protocol.epochs:
            return protocol  # nothing would end it early
        return protocol._replace(patience=patience, min_epochs=least).checked()

    def label(self, dataset: str) -> str:
        """The recipe's name, and where this plan departs from it: ``"paper, 2 epochs"``."""
        own, usual = self.protocol(dataset), Plan(self.recipe).protocol(dataset)
        label = self.recipe
        if own.epochs != usual.epochs:
            label += f", {own.epochs} epoch{'s' if own.epochs > 1 else ''}"
            usual = Plan(self.recipe, own.epochs).protocol(dataset)
        if own.precision != usual.precision:
            label += f", {own.precision}"
        if (own.patience, own.min_epochs) != (usual.patience, usual.min_epochs):
            cut = f"ends when flat for {own.patience}, from {own.min_epochs} on" if own.patience else "never cut"
            label += f", {cut}"
        return label


def planned_epochs(label: str, dataset: str) -> int:
    """The number of epochs of a :meth:`Plan.label`, a run's end if nothing cuts it."""
    recipe, *departures = label.split(", ")
    given = [int(words.split()[0]) for words in departures if words.endswith((" epoch", " epochs"))]
    return given[0] if given else Protocol.of(dataset, recipe).epochs


def select(names: Sequence[str], cells: Sequence[Cell]) -> list[Cell]:
    """The cells called ``names``, all where there are none; a name may stop at the architecture or at the table.

    Raises:
        ValueError: a name that no cell has.
    """
    for name in names:
        if not any(_begins(cell, name) for cell in cells):
            of_table = [cell.name for cell in cells if _begins(cell, name.split("/")[0])]
            known = of_table or dict.fromkeys(cell.table for cell in cells)
            raise ValueError(f"there is no cell or table {name!r}; there are {', '.join(known)}")
    return [cell for cell in cells if not names or any(_begins(cell, name) for name in names)]


def title(table: str) -> str:
    """What a heading says of ``table``."""
    number = f"Section {table}" if "." in table else f"Table {table[:-1]}({table[-1]})"
    return f"{number}: {_TITLES[table]}"


def _begins(cell: Cell, name: str) -> bool:
    return f"{cell.name}/".startswith(f"{name}/")


_TITLES = {
    "1a": "duplicate coding, MNIST",
    "1b": "duplicate coding, CIFAR-10",
    "2a": "Gaussian coding, MNIST",
    "2b": "Gaussian coding, CIFAR-10",
    "3a": "Poisson coding, MNIST",
    "3b": "Poisson coding, CIFAR-10",
    "4.2": "how values are received, MNIST",
}

_MLPS = ("S784-S500-S10", "A784-S500-S10", "A784-A500-S10", "A784-A500-A10")
_CNNS = (
    "S32C3-S32C3-S64C3-P2-S64C3-P2-S512-S10",
    "A32C3-S32C3-S64C3-P2-S64C3-P2-S512-S10",
    "A32C3-A32C3-A64C3-P2-S64C3-P2-S512-S10",
    "A32C3-A32C3-A64C3-P2-A64C3-P2-S512-S10",
    "A32C3-A32C3-A64C3-P2-A64C3-P2-A512-A10",
)
# Column by column as the paper prints them, a number for each architecture.
_COLUMNS = (
    ("1a", "duplicate", "simultaneous", (98.13, 97.78, 98.07, 98.23)),
    ("1a", "duplicate", "separate", (None, 98.22, 99.17, None)),
    ("1b", "duplicate", "simultaneous", (59.96, 53.23, 55.22, 66.08, 70.09)),
    ("1b", "duplicate", "separate", (None, 56.01, 63.30, 62.78, None)),
    ("2a", "gaussian", "simultaneous", (98.13, 98.02, 98.03, 98.23)),
    ("2b", "gaussian", "simultaneous", (59.96, 59.35, 65.30, 63.82, 70.09)),
    ("3a", "poisson", "separate", (98.09, 89.67, 95.93, 97.67)),
    ("3b", "poisson", "separate", (59.83, 50.28, 36.94, 31.32, 56.43)),
)


def _run(architecture: str, dataset: str, coding: str, learning: str) -> Run:
    if "A" not in architecture:
        # No artificial layer could put out a mean and a sigma, so Table 2 has the network of Table 1.
        return Run(architecture, dataset, "duplicate" if coding == "gaussian" else coding)
    activation = "sigmoid" if coding == "poisson" else "relu"  # of all layers, in the pretrained network too
    if "S" not in architecture:
        return Run(architecture, dataset, "none", activation=activation)
    return Run(architecture, dataset, coding, learning=learning, activation=activation)


def _cells() -> Iterator[Cell]:
    for table, coding, learning, accuracies in _COLUMNS:
        architectures, dataset = (_MLPS, "mnist") if table[-1] == "a" else (_CNNS, "cifar10")
        for architecture, accuracy in zip(architectures, accuracies, strict=True):
            if accuracy is not None:
                yield Cell(table, _run(architecture, dataset, coding, learning), accuracy)
    for way, accuracy in (("direct", 97.71), ("axon", 97.56)):
        yield Cell("4.2", Run(_MLPS[0], "mnist", input=way), accuracy)


CELLS = tuple(_cells())
