"""Lightning's trainer as this package sets it up: processes, checkpoints, logs, silenced messages."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import lightning
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from ..data.batches import Share
from . import checkpoint
from .protocol import Protocol


def share() -> Share:
    """The share of every batch that this process takes: all of it, unless torchrun started several processes."""
    if not torch.distributed.is_torchelastic_launched():
        return Share()
    return Share(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))


def check_precision(precision: str, device: torch.device) -> None:
    """Raise ValueError if ``device`` cannot train with ``precision``. Lightning would silently take another one."""
    if precision == "16-mixed" and device.type != "cuda":
        raise ValueError(f"precision '16-mixed' needs a CUDA device; '32-true' and 'bf16-mixed' work on {device.type}")


def fitting(protocol: Protocol, run_dir: Path, device: torch.device, progress: bool) -> lightning.Trainer:
    """Make a trainer that keeps its best and its last epoch in ``run_dir``, and logs there."""
    csv = CSVLogger(run_dir, name="logs", flush_logs_every_n_steps=1)  # a killed run keeps its epochs' figures
    callbacks: list[Callback] = [
        # The best comes first, because its state is part of the last checkpoint.
        _Checkpoints(run_dir, "best", monitor="validation_accuracy", mode="max", enable_version_counter=False),
        _Checkpoints(run_dir, "last", enable_version_counter=False),
    ]
    if protocol.patience is not None:
        callbacks.append(_StopWhenFlat("validation_accuracy", mode="max", patience=protocol.patience))
    return _trainer(
        protocol,
        device,
        progress,
        callbacks,
        max_epochs=protocol.epochs,
        min_epochs=protocol.min_epochs,
        logger=[csv, TensorBoardLogger(run_dir, name="logs", version=csv.version)],
        plugins=_AtomicCheckpoints(),
        num_sanity_val_steps=0,
    )


def testing(protocol: Protocol, device: torch.device, progress: bool) -> lightning.Trainer:
    """Make a trainer that writes no files."""
    return _trainer(protocol, device, progress, [], logger=False, enable_checkpointing=False)


def _trainer(
    protocol: Protocol, device: torch.device, progress: bool, callbacks: list[Callback], **options: Any
) -> lightning.Trainer:
    check_precision(protocol.precision, device)
    world = share().world
    if world > 1:
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        options |= {"strategy": "ddp", "devices": local, "num_nodes": world // local}
    else:
        options["devices"] = 1
    return lightning.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        precision=cast("Any", protocol.precision),  # one of PRECISIONS, all of which Lightning has
        callbacks=[*callbacks, *([RichProgressBar(console_kwargs={"stderr": True})] if progress else [])],
        enable_progress_bar=progress,
        enable_model_summary=False,
        use_distributed_sampler=False,  # Batches takes this process's share
        **options,
    )


class _AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints that a kill cannot leave half-written."""

    def save_checkpoint(
        self, checkpoint_: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        checkpoint.write(checkpoint_, path)


class _Checkpoints(ModelCheckpoint):
    """Checkpoints in a folder that may have been moved: a continued run still knows its best epoch.

    Lightning names the state of a callback in a checkpoint by its class, so the class keeps its name.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "dirpath": self.dirpath})


class _StopWhenFlat(EarlyStopping):
    """Early stopping that judges each epoch anew, also the epoch from which a run is continued."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        trainer.should_stop = self.wait_count >= self.patience

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        trainer.should_stop = False  # an epoch before min_epochs may have set it
        super().on_train_epoch_end(trainer, pl_module)


@contextmanager
def quiet_and_deterministic() -> Iterator[None]:
    """Make convolutions deterministic, and silence the messages about choices that are made on purpose."""
    log = logging.getLogger("lightning.pytorch")
    level, deterministic = log.level, torch.backends.cudnn.deterministic
    log.setLevel(logging.WARNING)  # hints and the table of devices are of level INFO
    torch.backends.cudnn.deterministic = True
    try:
        with warnings.catch_warnings():
            for message in (
                r".*does not have many workers",  # batches come from memory, so a worker would only cost time
                r"Checkpoint directory .* exists and is not empty",  # checked before
                r"The number of training batches .* is smaller than the logging interval",  # one entry per epoch
                r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning's own call of torch
            ):
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        log.setLevel(level)
        torch.backends.cudnn.deterministic = deterministic
