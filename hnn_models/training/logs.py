"""The logs of a run: ``logs/version_N`` holds ``metrics.csv`` and TensorBoard's file, N counts its processes."""

import csv
import io
import os
import re
import socket
import time
from pathlib import Path
from typing import Any

from .. import paths
from .launch import without_leftovers

with without_leftovers():
    from lightning.pytorch.loggers import Logger
    from lightning.pytorch.utilities.rank_zero import rank_zero_only

_FOLDER = "logs"


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


class RunLogger(Logger):
    """Both files get a row, or a record, each time that figures are logged.

    ``metrics.csv`` is replaced in one step. TensorBoard's file is appended to, since TensorBoard keeps it open. A run
    that is killed keeps its epochs' figures, and a full disk leaves no half of a row and names the file: a writer of
    TensorBoard would write from a thread, whose errors come late and twice.

    Args:
        run_dir: the folder of the run; the files are in a new ``logs/version_N``.
    """

    def __init__(self, run_dir: Path) -> None:
        super().__init__()
        self._version = max(_versions(run_dir), default=-1) + 1
        self._folder = run_dir / _FOLDER / f"version_{self.version}"
        self._rows: list[dict[str, Any]] = []
        # The form of the name is TensorBoard's: it looks for "tfevents".
        self._events = self._folder / f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}.0"

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
        """Add a row and a record."""
        self._rows.append({**metrics, "step": step})
        text = io.StringIO()
        writer = csv.DictWriter(text, sorted(set().union(*self._rows)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        with paths.naming(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        paths.write(self._folder / "metrics.csv", text.getvalue())
        first = len(self._rows) == 1
        paths.append(self._events, _records(metrics, step, first=first))


def _records(metrics: dict[str, float], step: int | None, *, first: bool) -> bytes:
    """The figures as records of TensorBoard's file, which begins with its version."""
    # Imported where training logs: TensorBoard takes a while.
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    now = time.time()
    values = [Summary.Value(tag=name, simple_value=float(value)) for name, value in metrics.items()]
    events = [Event(wall_time=now, step=step, summary=Summary(value=[value])) for value in values]
    whole = io.BytesIO()
    writer = RecordWriter(whole)
    for event in (*([Event(wall_time=now, file_version="brain.Event:2")] if first else []), *events):
        writer.write(event.SerializeToString())
    return whole.getvalue()


def _versions(run_dir: Path) -> dict[int, Path]:
    folders = Path(run_dir, _FOLDER).glob("version_*")
    return {int(p.name[8:]): p for p in folders if re.fullmatch(r"version_[0-9]+", p.name) and p.is_dir()}
