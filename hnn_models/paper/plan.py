"""The plan of ``hnn tables``: a recipe for all cells, and departures from it."""

from collections.abc import Mapping
from typing import NamedTuple

from ..training.protocol import Protocol
from .cells import Run
from .recipes import protocol_fields

# The early end of runs, by recipe: (patience, min_epochs). A one-cycle schedule is best at its end, and is not cut.
# Where the learning rate drops, no run ends before its last drop (Protocol.ends_flat).
CUTS: Mapping[str, tuple[int | None, int]] = {
    "paper": (20, 30),
    "modern": (None, 1),
    "authors": (20, 1),
    "fault-leaked-split": (20, 1),
    "fault-divided-twice": (20, 1),
}
# In the labels of rows from before that rule, all of which have split 0.
FORMER_END = "could end before a drop"
_FORMER_SPLIT = 0


class Plan(NamedTuple):
    """The way in which all cells are trained: a recipe, and departures from it.

    Attributes:
        recipe: one of :data:`hnn_models.training.protocol.RECIPES`.
        epochs: number of epochs; None for the recipe's.
        patience: as in :class:`hnn_models.Protocol`; None for the recipe's (:data:`CUTS`), 0 to never end a run early.
        min_epochs: as in :class:`hnn_models.Protocol`; None for the recipe's.
        precision: as in :class:`hnn_models.Protocol`; None for the recipe's.
        split_seed: the seed of the split of all runs; None for the seed of each.
    """

    recipe: str = "paper"
    epochs: int | None = None
    patience: int | None = None
    min_epochs: int | None = None
    precision: str | None = None
    split_seed: int | None = None

    def protocol(self, dataset: str, seed: int = 0, run: Run | None = None) -> Protocol:
        """The protocol for images of the kind ``dataset``, with what the recipe has for ``run`` alone.

        Raises:
            ValueError: a recipe or a number that is not allowed.
        """
        given = {
            name: value for name in ("epochs", "precision", "split_seed") if (value := getattr(self, name)) is not None
        }
        own = {} if run is None else protocol_fields(run, self.recipe)
        protocol = Protocol.of(dataset, self.recipe, seed=seed, **{**own, **given})
        patience, least = CUTS[self.recipe]
        patience = patience if self.patience is None else self.patience
        least = least if self.min_epochs is None else self.min_epochs
        if not patience or least >= protocol.epochs:
            return protocol  # no run would end early
        return protocol._replace(patience=patience, min_epochs=least).checked()

    def label(self, dataset: str) -> str:
        """The recipe's name and the departures from it, such as ``"paper, 2 epochs"``."""
        own, usual = self.protocol(dataset), Plan(self.recipe).protocol(dataset)
        label = self.recipe
        if own.epochs != usual.epochs:
            label += f", {own.epochs} epoch{'s' if own.epochs > 1 else ''}"
            usual = Plan(self.recipe, own.epochs).protocol(dataset)
        if own.precision != usual.precision:
            label += f", {own.precision}"
        if self.split_seed is not None:
            label += f", split {self.split_seed}"
        if (own.patience, own.min_epochs) != (usual.patience, usual.min_epochs):
            cut = f"ends when flat for {own.patience}, from {own.min_epochs} on" if own.patience else "never cut"
            label += f", {cut}"
        return label


def former_label(label: str, dataset: str, seed: int) -> str:
    """The ``label`` of a row from before :meth:`Protocol.ends_flat`, when all seeds had split 0, in words of today."""
    planned = planned_epochs(label, dataset)
    patience, least = CUTS[label.split(", ")[0]]
    cut = patience is not None and "never cut" not in label and planned > least
    label += f", split {_FORMER_SPLIT}" if seed != _FORMER_SPLIT else ""
    return f"{label}, {FORMER_END}" if cut or "ends when flat" in label else label


def planned_epochs(label: str, dataset: str) -> int:
    """The number of epochs in the plan with this :meth:`Plan.label`."""
    recipe, *departures = label.split(", ")
    given = [int(words.split()[0]) for words in departures if words.endswith((" epoch", " epochs"))]
    return given[0] if given else Protocol.of(dataset, recipe).epochs
