"""What of a training run a checkpoint has to remember so that it can be continued and its test set found again."""

import math
from typing import NamedTuple, Self


class Protocol(NamedTuple):
    """How a network is trained. The defaults are the paper's (section 4); it leaves the seeds open.

    Attributes:
        dataset: a name that :func:`hnn_models.data.load` knows.
        batch_size: images per step.
        lr: learning rate of Adam.
        seed: of the initial weights and of the order of the batches.
        split_seed: of the 6:2:2 split, apart from ``seed`` so that runs are compared on the same test images.
    """

    dataset: str
    batch_size: int = 64
    lr: float = 1e-4
    seed: int = 0
    split_seed: int = 0

    def checked(self) -> Self:
        """This protocol, if it can be followed.

        Raises:
            ValueError: a field that is not allowed.
        """
        if not isinstance(self.dataset, str):
            raise ValueError(f"dataset must be a name; got {self.dataset!r}")
        if type(self.batch_size) is not int or self.batch_size < 1:
            raise ValueError(f"batch_size must be an int of at least 1; got {self.batch_size!r}")
        if not isinstance(self.lr, float) or not math.isfinite(self.lr) or self.lr <= 0:
            raise ValueError(f"lr must be a finite float above 0; got {self.lr!r}")
        for name in ("seed", "split_seed"):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value < 2**32:
                raise ValueError(f"{name} must be an int from 0 to 2**32 - 1; got {value!r}")
        return self
