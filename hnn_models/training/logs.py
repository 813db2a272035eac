"""The logs of a run: ``logs/version_N`` holds ``metrics.csv`` and TensorBoard's file, N counts its processes."""

import csv
import io
import re
from pathlib import Path
from typing import Any

from .. import paths
from .launch import without_leftovers

with without_leftovers():
    from lightning.pytorch.loggers import Logger, TensorBoardLogger
    from lightning.pytorch.utilities.rank_zero import rank_zero_only

_FOLDER = "logs"


def loggers(run_dir: Path) -> list[Logger]:
    """The loggers of a process that trains in ``run_dir``; both write into a new ``version_N``."""
    metrics = MetricsLogger(run_dir)
    return [metrics, _TensorBoard(run_dir, name=_FOLDER, version=metrics.version)]


def history(run_dir: Path) -> list[dict[str, float]]:
    """The logged figures of a run by epoch, over all its processes: ``epoch`` counts from 1."""
    epochs: dict[int, dict[str, float]] = {}
    for _, folder in sorted(_versions(run_dir).items()):
        path = folder / "metrics.csv"
        if not path.is_file():
            continue
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                figures = epochs.setdefault(int(row["epoch"]) + 1, {})
                figures.update({k: float(v) for k, v in row.items() if v and k not in ("epoch", "step")})
    return [{"epoch": epoch, **figures} for epoch, figures in sorted(epochs.items())]


class MetricsLogger(Logger):
    """``metrics.csv``: a row each time that figures are logged, the file replaced in one step.

    A run that is killed keeps its epochs' figures, and a full disk leaves no half of a row.
    """

    def __init__(self, run_dir: Path) -> None:
        super().__init__()
        self._version = max(_versions(run_dir), default=-1) + 1
        self._folder = run_dir / _FOLDER / f"version_{self.version}"
        self._rows: list[dict[str, Any]] = []

    @property
    def name(self) -> str:
        """The name of the folder that has every version."""
        return _FOLDER

    @property
    def version(self) -> int:
        """The number of this process among those that trained the run."""
        return self._version

    @property
    def save_dir(self) -> str:
        """The folder of the run."""
        return str(self._folder.parents[1])

    @property
    def log_dir(self) -> str:
        """The folder of the file."""
        return str(self._folder)

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Log nothing: the checkpoint has them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add a row and write the file."""
        self._rows.append({**metrics, "step": step})
        text = io.StringIO()
        writer = csv.DictWriter(text, sorted(set().union(*self._rows)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        self._folder.mkdir(parents=True, exist_ok=True)
        paths.write(self._folder / "metrics.csv", text.getvalue())


class _TensorBoard(TensorBoardLogger):
    @property
    def log_dir(self) -> str:
        """The folder of this version, by its name alone: Lightning would put a variable's value for ``$NAME`` in it."""
        return str(Path(self.root_dir) / f"version_{self.version}")


def _versions(run_dir: Path) -> dict[int, Path]:
    folders = Path(run_dir, _FOLDER).glob("version_*")
    return {int(p.name[8:]): p for p in folders if re.fullmatch(r"version_[0-9]+", p.name) and p.is_dir()}
