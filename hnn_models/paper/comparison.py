"""Our figures for a cell against the paper's single one: the mean, its error, and whether they differ."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple, Self

from .cells import Cell

# A difference of so many of its standard errors is not chance, but for one time in twenty.
SIGNIFICANT = 1.96


class Comparison(NamedTuple):
    """Several runs of a cell, which differ in the seed alone, and the paper's figure; all in percent.

    The paper has one run for a cell, so its error is that of its test set: a share p of n images has the standard error
    sqrt(p (1 - p) / n). Ours is the spread of the runs over the square root of their number. Each run has test images
    of its own, so that the spread contains their error; where few runs agree by chance it is taken instead.

    Attributes:
        mean: of the runs' test accuracies.
        spread_error: the standard error of the mean from the spread between the runs; None for one run.
        images_error: the standard error of the mean from the number of test images.
        runs: their number.
        paper: the paper's figure.
        paper_error: its standard error.
    """

    mean: float
    spread_error: float | None
    images_error: float
    runs: int
    paper: float
    paper_error: float

    @classmethod
    def of(cls, cell: Cell, accuracies: Sequence[float]) -> Self:
        """Compare the test ``accuracies`` of one or more runs with the figure of ``cell``, all in percent."""
        paper_error = error_of_share(cell.accuracy, cell.test_images)
        return cls(*mean_of(accuracies, cell.test_images), len(accuracies), cell.accuracy, paper_error)

    @property
    def error(self) -> float:
        """The standard error of our mean: the larger of the two."""
        return max(self.spread_error or 0.0, self.images_error)

    @property
    def difference(self) -> float:
        """Our mean minus the paper's figure."""
        return self.mean - self.paper

    @property
    def verdict(self) -> str:
        """``"below"`` or ``"above"`` the paper's figure where the difference is significant, else ``"level"``."""
        if abs(self.difference) <= SIGNIFICANT * math.hypot(self.error, self.paper_error):
            return "level"
        return "below" if self.difference < 0 else "above"

    @property
    def text(self) -> str:
        """Mean and standard error over the seeds, such as ``"98.35 ± 0.15"``; of one run the figure alone."""
        return f"{self.mean:.2f}" + ("" if self.spread_error is None else f" ± {self.spread_error:.2f}")


def mean_of(accuracies: Sequence[float], images: int) -> tuple[float, float | None, float]:
    """The mean of the runs' accuracies, and its standard errors: from their spread, None for one run, and the images'.

    All are in percent. Each run was tested on so many ``images``.
    """
    runs, mean = len(accuracies), statistics.mean(accuracies)
    spread = statistics.stdev(accuracies) / math.sqrt(runs) if runs > 1 else None
    return mean, spread, error_of_share(mean, images) / math.sqrt(runs)


def error_of_share(percent: float, images: int) -> float:
    """The standard error of an accuracy of ``percent`` on ``images`` test images, in percent (binomial)."""
    return math.sqrt(percent * (100 - percent) / images)
