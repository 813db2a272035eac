"""The training protocol: the values that a checkpoint keeps so that a run can be continued and tested again."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from ..data.datasets import find
from ..network.config import NetworkConfig
from ..plain import flag, one_of, plain, real, whole

SCHEDULES = ("steps", "one-cycle")
SPLITS = ("pooled", "given")
LOSSES = ("total", "step")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")

# In the authors' loss T equal log-softmaxes of a purely artificial network are added: its logits count T times.
_AUTHORS: Mapping[str, Any] = {"logit_scale": float(NetworkConfig.steps), "milestones": (0.5, 0.75)}
# The values of each recipe for any data set. The description of a data set has those for the set alone.
_RECIPES: Mapping[str, Mapping[str, Any]] = {
    "paper": {},
    "modern": {"epochs": 100, "batch_size": 128, "lr": 1e-3, "schedule": "one-cycle", "weight_decay": 0.05},
    "authors": _AUTHORS,
    "fault-leaked-split": {**_AUTHORS, "leaked_split": True},
    "fault-divided-twice": _AUTHORS,
}
RECIPES = tuple(_RECIPES)


class Protocol(NamedTuple):
    """The way in which a network is trained. :meth:`of` gives the values of a recipe for a data set.

    :meth:`of` and :meth:`checked` take NumPy's numbers and what JSON and YAML give, ``Protocol.of(**json.load(file))``.

    Attributes:
        dataset: a name that :func:`hnn_models.load_images` knows.
        recipe: the source of the values: ``"paper"``, section 4 of the paper, which leaves the seeds open;
            ``"authors"``, the program of the paper's authors; ``"modern"``; or a fault of the authors' program, a
            control that :mod:`hnn_models.paper.recipes` describes.
        epochs: number of epochs.
        batch_size: images per step, over all processes.
        lr: the learning rate of Adam; the highest one of the run.
        schedule: ``"steps"`` multiplies the learning rate by 0.1 at each milestone. ``"one-cycle"`` raises it to ``lr``
            over the first three tenths of all steps, and then lowers it to almost nothing (cosine).
        milestones: for ``"steps"``, fractions of the run, in (0, 1).
        weight_decay: decoupled weight decay (AdamW) of matrices and convolution kernels alone.
        label_smoothing: of the training loss, in [0, 1).
        shift, flip, warp, erase: see :class:`hnn_models.data.augmentation.Augmentation`.
        split: ``"pooled"`` splits all images 6:2:2. ``"given"`` keeps the set's own test images, and of the others
            holds out those for validation.
        held_out: for ``"given"``, the fraction of the other images that validation has, in (0, 1), where the set has no
            validation images of its own.
        patience: end the run once the validation accuracy has not risen for this many epochs; None for never. Each drop
            of the learning rate begins the count anew, and no run ends before its last drop (:meth:`ends_flat`).
        min_epochs: the fewest epochs of a run that ``patience`` ends.
        precision: ``"32-true"``, ``"bf16-mixed"`` or ``"16-mixed"`` (CUDA only). The mixed ones are torch's autocast.
        seed: of the initial weights, the order of the batches, the augmentation and the noise.
        split_seed: of the split. :meth:`of` takes ``seed`` where none is given, so that runs with several seeds differ
            in everything that is drawn.
        logit_scale: factor on the logits of a purely artificial network in its loss, above 0.
        loss: ``"total"`` is the cross-entropy of the logits. ``"step"`` is the mean over time of the cross-entropy at
            each step (TET, Deng et al. 2022), for a network that is read by its membrane potential.
        rate_penalty: factor of a term that is added to the loss: the firing rate above ``rate_target``, added up over
            the spiking layers but the last. 0 for none.
        rate_target: in spikes per neuron and step, in [0, 1).
        leaked_split: a fault, to be measured: a network with fixed layers gets another split than the network that they
            come from, so that its test images are among those that its layers were trained on.
    """

    dataset: str
    recipe: str = "paper"
    epochs: int = 100
    batch_size: int = 64
    lr: float = 1e-4
    schedule: str = "steps"
    milestones: tuple[float, ...] = (0.5,)
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    shift: int = 0
    flip: bool = False
    warp: float = 0.0
    erase: int = 0
    split: str = "pooled"
    patience: int | None = None
    min_epochs: int = 1
    precision: str = "32-true"
    seed: int = 0
    split_seed: int = 0
    logit_scale: float = 1.0
    leaked_split: bool = False
    loss: str = "total"
    rate_penalty: float = 0.0
    rate_target: float = 0.0
    held_out: float = 0.25

    @classmethod
    def of(cls, dataset: str, recipe: str = "paper", **changes: Any) -> Self:
        """The values of ``recipe`` for ``dataset``, with ``changes`` to its fields.

        Raises:
            ValueError: a name that is not known, or a value that is not allowed.
            TypeError: a field that does not exist.
        """
        found = find(dataset)
        recipe = one_of("recipe", recipe, RECIPES)
        values = {**found.recipes["paper"], **_RECIPES[recipe], **found.recipes.get(recipe, {}), **changes}
        if values.get("split_seed") is None:
            values["split_seed"] = values.get("seed", 0)
        return cls(dataset, recipe, **values).checked()

    def drops(self, planned: int | None = None) -> tuple[int, ...]:
        """The epochs, from 1, after which the learning rate falls.

        Args:
            planned: for a finished run that was given more epochs, the number that its schedule was made for.
        """
        if self.schedule != "steps":
            return ()
        return tuple(math.ceil(fraction * (planned or self.epochs)) for fraction in self.milestones)

    def ends_flat(self, epoch: int, flat: int, planned: int | None = None) -> bool:
        """True if ``patience`` ends the run after ``epoch``.

        A lower learning rate can raise an accuracy that was flat, so the run does not end before the last drop and
        ``patience`` epochs more.

        Args:
            epoch: from 1.
            flat: for how many epochs the validation accuracy has not risen, counted anew from each drop.
            planned: as for :meth:`drops`.
        """
        if self.patience is None or flat < self.patience:
            return False
        return epoch >= max(self.min_epochs, *(drop + self.patience for drop in self.drops(planned)), 1)

    def checked(self) -> Self:
        """This protocol with plain fields, of the types that its fields have (:mod:`hnn_models.plain`).

        Raises:
            ValueError: a field that is not allowed.
        """
        if not isinstance(self.dataset, str):
            raise ValueError(f"dataset must be a name; got {self.dataset!r}")
        fields: dict[str, Any] = {"dataset": str(self.dataset)}
        choices = {"recipe": RECIPES, "schedule": SCHEDULES, "split": SPLITS, "precision": PRECISIONS, "loss": LOSSES}
        for name, allowed in choices.items():
            fields[name] = one_of(name, getattr(self, name), allowed)
        for name, least in (
            ("epochs", 1),
            ("batch_size", 1),
            ("shift", 0),
            ("erase", 0),
            ("patience", 1),
            ("min_epochs", 1),
        ):
            value = getattr(self, name)
            fields[name] = None if name == "patience" and value is None else whole(name, value, least)
        for name, high, wanted in (
            ("lr", math.inf, "a finite float above 0"),
            ("logit_scale", math.inf, "a finite float above 0"),
            ("held_out", 1, "a fraction below 1 and above 0"),
            ("rate_penalty", math.inf, "a finite float of at least 0"),
            ("rate_target", 1, "a float in [0, 1)"),
            ("weight_decay", math.inf, "a finite float of at least 0"),
            ("label_smoothing", 1, "a float in [0, 1)"),
            ("warp", 1000, "a float in [0, 1000), in pixels"),
        ):
            fields[name] = real(getattr(self, name), 0, high)
            if fields[name] is None or (wanted.endswith("above 0") and fields[name] == 0):
                raise ValueError(f"{name} must be {wanted}; got {getattr(self, name)!r}")
        fields["milestones"] = _milestones(self.milestones)
        fields |= {name: flag(name, getattr(self, name)) for name in ("flip", "leaked_split")}
        for name in ("seed", "split_seed"):
            fields[name] = whole(name, getattr(self, name), 0, 2**32)
        return self._replace(**fields)


def _milestones(given: object) -> tuple[float, ...]:
    values = plain(given)
    if isinstance(values, list | tuple):
        fractions = tuple(number for value in values if (number := real(value, 0, 1)))  # neither None nor 0
        if len(fractions) == len(values):
            return fractions
    raise ValueError(f"milestones must be a tuple of fractions in (0, 1); got {given!r}")
