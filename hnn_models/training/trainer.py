"""Lightning's trainer as this package sets it up: processes, checkpoints, logs, and what it need not say."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from ..data.images import Share
from . import checkpoint
from .protocol import Protocol


def share() -> Share:
    """This process's share of every batch: all of it, but for the processes that torchrun starts."""
    if not torch.distributed.is_torchelastic_launched():
        return Share()
    return Share(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))


def check_precision(precision: str, device: torch.device) -> None:
    """Raise ValueError where ``device`` cannot train with ``precision``. (Lightning would take another one.)"""
    if precision == "16-mixed" and device.type != "cuda":
        raise ValueError(f"precision '16-mixed' needs a CUDA device; '32-true' and 'bf16-mixed' work on {device.type}")


def fitting(protocol: Protocol, run_dir: Path, device: torch.device, progress: bool) -> lightning.Trainer:
    """A trainer that keeps its best and its last epoch in ``run_dir``, and logs there."""
    csv = CSVLogger(run_dir, name="logs", flush_logs_every_n_steps=1)  # a killed run keeps its epochs' figures
    callbacks: list[Callback] = [
        # The best first: what it remembers is part of the last checkpoint.
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
    """A trainer that leaves nothing behind."""
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
        precision=protocol.precision,
        callbacks=[*callbacks, *([RichProgressBar(console_kwargs={"stderr": True})] if progress else [])],
        enable_progress_bar=progress,
        enable_model_summary=False,
        use_distributed_sampler=False,  # our batches know their share
        **options,
    )


class _AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints that a kill cannot leave half-written."""

    def save_checkpoint(self, checkpoint_: dict[str, Any], path: str, storage_options: Any | None = None) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        checkpoint.write(checkpoint_, path)


class _Checkpoints(ModelCheckpoint):
    """Checkpoints in a folder that may have been moved since: a continued run still knows its best epoch."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "dirpath": self.dirpath})


class _StopWhenFlat(EarlyStopping):
    """Ends a run that no longer improves. It judges each epoch anew, the one a run is continued from included."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        trainer.should_stop = self.wait_count >= self.patience

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        trainer.should_stop = False  # an epoch before min_epochs may have asked for it
        super().on_train_epoch_end(trainer, pl_module)


@contextmanager
def as_we_train() -> Iterator[None]:
    """Deterministic convolutions; and nothing said of what is so on purpose. Everything else is still said."""
    log = logging.getLogger("lightning.pytorch")
    level, deterministic = log.level, torch.backends.cudnn.deterministic
    log.setLevel(logging.WARNING)  # the hints and tables of devices are INFO
    torch.backends.cudnn.deterministic = True
    try:
        with warnings.catch_warnings():
            for message in (
                r".*does not have many workers",  # batches are cut from memory: a worker would only cost
                r"Checkpoint directory .* exists and is not empty",  # checked before
                r"The number of training batches .* is smaller than the logging interval",  # we log once per epoch
                r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning's own call of torch
            ):
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        log.setLevel(level)
        torch.backends.cudnn.deterministic = deterministic
