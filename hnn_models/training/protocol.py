"""How a network is trained: what a checkpoint remembers, so that a run can go on and its test set be found again."""

import math
from typing import Any, NamedTuple, Self

RECIPES = ("paper", "modern")
SCHEDULES = ("steps", "one-cycle")
SPLITS = ("pooled", "given")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")

# Section 4 of the paper, which has MNIST and CIFAR-10; the other sets follow the one that is more like them.
_MNIST = {"epochs": 100, "batch_size": 64, "milestones": (0.5,)}
_CIFAR10 = {"epochs": 150, "batch_size": 32, "milestones": (0.5, 0.75)}
_PAPER = {"digits": _MNIST, "mnist": _MNIST, "fashion-mnist": _MNIST, "cifar10": _CIFAR10, "folder": _CIFAR10}

_MODERN = {"epochs": 100, "batch_size": 128, "lr": 1e-3, "schedule": "one-cycle", "weight_decay": 0.05}
_MODERN_OF = {
    "digits": {"batch_size": 64, "lr": 2e-3},  # few images; of their 8 x 8 pixels one is a lot
    "mnist": {"shift": 2, "warp": 0.7},
    "fashion-mnist": {"shift": 2, "flip": True},
    "cifar10": {"epochs": 30, "batch_size": 64, "shift": 4, "flip": True},
    "folder": {"epochs": 30, "batch_size": 64, "shift": 4, "flip": True},
}


class Protocol(NamedTuple):
    """How a network is trained. :meth:`of` gives a recipe's values for a data set; the paper leaves the seeds open.

    Attributes:
        dataset: a name that :func:`hnn_models.data.datasets.load` knows.
        recipe: where the values come from, ``"paper"`` (section 4) or ``"modern"``.
        epochs: number of epochs.
        batch_size: images per step, over all processes.
        lr: learning rate of Adam; the highest one of the run.
        schedule: ``"steps"``, times 0.1 at each milestone; or ``"one-cycle"``, up to ``lr`` over the first three tenths
            of all steps, then down to almost nothing (cosine).
        milestones: for ``"steps"``, fractions of the run, in (0, 1).
        weight_decay: decoupled (AdamW), of matrices and convolution kernels alone.
        label_smoothing: of the training loss, in [0, 1).
        shift, flip, warp: see :class:`hnn_models.data.augmentation.Augmentation`.
        split: ``"pooled"``, 6:2:2 of all images; or ``"given"``, the set's own test images, and 6:2 of the others.
        patience: end the run once the validation accuracy has not risen for this many epochs; None for never.
        min_epochs: the fewest epochs of a run that ``patience`` ends.
        precision: ``"32-true"``, ``"bf16-mixed"`` or ``"16-mixed"`` (CUDA only): the dtype of what autocast covers.
        seed: of the initial weights, the order of the batches, the augmentation and the noise.
        split_seed: of the split, apart from ``seed`` so that runs are compared on the same test images.
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
    split: str = "pooled"
    patience: int | None = None
    min_epochs: int = 1
    precision: str = "32-true"
    seed: int = 0
    split_seed: int = 0

    @classmethod
    def of(cls, dataset: str, recipe: str = "paper", **changes: Any) -> Self:
        """The values of ``recipe`` for ``dataset``, but for ``changes``.

        Raises:
            ValueError: a name that is not known, or a field that is not allowed.
            TypeError: a field that is not there.
        """
        if dataset not in _PAPER:
            raise ValueError(f"dataset must be one of {', '.join(map(repr, _PAPER))}; got {dataset!r}")
        if recipe not in RECIPES:
            raise ValueError(f"recipe must be one of {', '.join(map(repr, RECIPES))}; got {recipe!r}")
        values = dict(_PAPER[dataset])
        if recipe == "modern":
            values |= _MODERN | _MODERN_OF[dataset]
        return cls(dataset, recipe, **(values | changes)).checked()

    def checked(self) -> Self:
        """This protocol, if it can be followed.

        Raises:
            ValueError: a field that is not allowed.
        """
        if not isinstance(self.dataset, str):
            raise ValueError(f"dataset must be a name; got {self.dataset!r}")
        choices = {"recipe": RECIPES, "schedule": SCHEDULES, "split": SPLITS, "precision": PRECISIONS}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {getattr(self, name)!r}")
        for name, least in (("epochs", 1), ("batch_size", 1), ("shift", 0), ("patience", 1), ("min_epochs", 1)):
            value = getattr(self, name)
            if name == "patience" and value is None:
                continue
            if type(value) is not int or value < least:
                raise ValueError(f"{name} must be an int of at least {least}; got {value!r}")
        if not _in_range(self.lr, 0, math.inf) or self.lr == 0:
            raise ValueError(f"lr must be a finite float above 0; got {self.lr!r}")
        if not _in_range(self.weight_decay, 0, math.inf):
            raise ValueError(f"weight_decay must be a finite float of at least 0; got {self.weight_decay!r}")
        if not _in_range(self.label_smoothing, 0, 1):
            raise ValueError(f"label_smoothing must be a float in [0, 1); got {self.label_smoothing!r}")
        if not _in_range(self.warp, 0, 1000):
            raise ValueError(f"warp must be a float in [0, 1000), in pixels; got {self.warp!r}")
        if type(self.milestones) is not tuple or not all(_in_range(m, 0, 1) and m > 0 for m in self.milestones):
            raise ValueError(f"milestones must be a tuple of fractions in (0, 1); got {self.milestones!r}")
        if type(self.flip) is not bool:
            raise ValueError(f"flip must be True or False; got {self.flip!r}")
        for name in ("seed", "split_seed"):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value < 2**32:
                raise ValueError(f"{name} must be an int from 0 to 2**32 - 1; got {value!r}")
        return self


def _in_range(value: object, low: float, high: float) -> bool:
    """Whether ``value`` is a float in [low, high)."""
    return isinstance(value, float) and low <= value < high
