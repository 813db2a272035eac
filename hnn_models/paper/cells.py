"""The cells of the paper's tables: the networks, and the accuracies that the paper reports."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..data.datasets import find
from ..network.codings import KINDS
from ..network.config import ACTIVATION, NetworkConfig
from ..network.network import HybridNetwork
from ..network.notation import artificial_twin, parse
from .recipes import changed, network_options


class Run(NamedTuple):
    """A network and the way in which it is learnt. Cells with equal runs share one run.

    Attributes:
        architecture, input, activation: as for :class:`hnn_models.HybridNetwork`.
        dataset: the name of the data set.
        coding: as for :class:`hnn_models.HybridNetwork`; ``"none"`` for a purely artificial network.
        learning: ``"simultaneous"`` or ``"separate"``.
        border: the activation at the border; None for that of ``activation`` or of the coding.
    """

    architecture: str
    dataset: str
    coding: str = NetworkConfig.coding
    input: str = NetworkConfig.input
    learning: str = "simultaneous"
    activation: str = ACTIVATION
    border: str | None = None

    @property
    def part(self) -> str:
        """``"spiking"``, ``"hybrid"`` or ``"artificial"``: the kinds of layers that the network has."""
        spiking = {token.spiking for token in parse(self.architecture)}
        return "hybrid" if len(spiking) == 2 else "spiking" if True in spiking else "artificial"

    @property
    def artificial(self) -> "Run | None":
        """For separate learning, the purely artificial network that the fixed layers come from; else None."""
        if self.learning == "simultaneous":
            return None
        whole = artificial_twin(parse(self.architecture))
        return Run(whole, self.dataset, "none", activation=self.activation)

    def config(self, shape: Sequence[int], recipe: str) -> NetworkConfig:
        """The description of the network, for images of ``shape``."""
        return NetworkConfig(
            self.architecture,
            shape,
            NetworkConfig.coding if self.coding == "none" else self.coding,
            input=self.input,
            activation=self._activations(),
            fixed_artificial=self.learning == "separate",
            **network_options(self, recipe),
        )

    def _activations(self) -> str | tuple[str, ...]:
        if self.border is None:
            return self.activation
        artificial = sum(token.weighted and not token.spiking for token in parse(self.architecture))
        return (*[self.activation] * (artificial - 1), self.border)

    def network(self, shape: Sequence[int], recipe: str, backend: str | None = None) -> HybridNetwork:
        """Make the untrained network, for images of ``shape``."""
        return HybridNetwork.of(self.config(shape, recipe), backend)


class Cell(NamedTuple):
    """A figure of the paper.

    Attributes:
        table: ``"1a"`` for Table 1(a), ``"4.2"`` for section 4.2.
        run: the run as the paper's text has it.
        accuracy: the paper's, in percent.
    """

    table: str
    run: Run
    accuracy: float

    def run_of(self, recipe: str) -> Run:
        """The run that gives our figure with ``recipe``: :attr:`run`, the paper's text, but for the recipe's rules."""
        return changed(self.run, self.table, recipe)

    @property
    def variant(self) -> tuple[str, str]:
        """The option that differs within its table and architecture, and its value: ``("learning", "separate")``."""
        return ("input", self.run.input) if self.table == "4.2" else ("learning", self.run.learning)

    @property
    def name(self) -> str:
        """Table, architecture and variant: ``"1a/A784-S500-S10/separate"``."""
        return f"{self.table}/{self.run.architecture}/{self.variant[1]}"

    @property
    def test_images(self) -> int:
        """The number of images that an accuracy of this cell was measured on: a fifth of all.

        Raises:
            ValueError: the data set has no number of images of its own.
        """
        count = find(self.run.dataset).count
        if count is None:
            raise ValueError(f"the data set of {self.name} has no number of images: {self.run.dataset}")
        return count // 5

    @property
    def artificial_share(self) -> float:
        """The fraction of the layers with weights that are artificial."""
        weighted = [token for token in parse(self.run.architecture) if token.weighted]
        return sum(not token.spiking for token in weighted) / len(weighted)


def select(names: Sequence[str], cells: Sequence[Cell]) -> list[Cell]:
    """The cells with these ``names``; all cells for no name.

    A name may stop at the table (``"1a"``) or at the architecture (``"1a/A784-S500-S10"``).

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
    """The heading of ``table``, such as ``"Table 1(a): duplicate coding, MNIST"``."""
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
# The paper's columns: table, coding, learning, and an accuracy for each architecture; None for an empty cell.
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
        # There is no artificial layer that could give mean and ln sigma, so Table 2 has the network of Table 1.
        return Run(architecture, dataset, "duplicate" if coding == "gaussian" else coding)
    # The activation that a coding needs at the border is that of all layers, also in the pretrained network.
    activation = KINDS[coding].activation or ACTIVATION
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
