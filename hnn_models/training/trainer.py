"""Lightning's trainer as this package sets it up: processes, checkpoints, logs, silenced messages."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch

from .. import signals
from . import checkpoint, logs
from .device import bfloat16_pays, device_name
from .launch import ALONE, Launch, launch, without_leftovers
from .progress import Progress
from .protocol import Protocol

with without_leftovers():
    import lightning
    from lightning.fabric.plugins import TorchCheckpointIO
    from lightning.fabric.plugins.environments import ClusterEnvironment
    from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
    from lightning.pytorch.utilities.rank_zero import rank_zero_only


def check_precision(precision: str, device: torch.device) -> None:
    """Raise ValueError if ``device`` cannot train with ``precision``. Lightning would silently take another one."""
    if precision == "16-mixed" and device.type != "cuda":
        raise ValueError(f"precision '16-mixed' needs a CUDA device; '32-true' and 'bf16-mixed' work on {device.type}")


def check_graph(device: torch.device, compiled: bool) -> None:
    """Raise ValueError if the passes of a network, ``compiled`` or not, cannot be replayed as CUDA graphs."""
    if device.type != "cuda":
        raise ValueError(f"graph needs a CUDA device; the device is {str(device)!r}")
    if launch() != ALONE:
        raise ValueError(f"graph needs training in one process; this launch has {launch().world}")
    if compiled:
        raise ValueError(
            "graph cannot be used with a compiled network: torch.compile(mode='reduce-overhead') has its own"
        )


def warn_of_slow_precision(precision: str, device: torch.device, stacklevel: int) -> None:
    """Warn, in one of the processes, if ``device`` multiplies faster in float32 than in ``precision``.

    ``stacklevel`` is the place of the caller's own code, counted as by :func:`warnings.warn` in this function.
    """
    if launch().rank == 0 and precision == "bf16-mixed" and not bfloat16_pays(device):
        warnings.warn(
            f"precision 'bf16-mixed' is slow on {device_name(device)}, which multiplies matrices faster in float32: "
            "'32-true' trains faster",
            stacklevel=stacklevel,
        )


def fitting(protocol: Protocol, run_dir: Path, device: torch.device, progress: bool) -> lightning.Trainer:
    """Make a trainer that keeps its best and its last epoch in ``run_dir``, and logs there."""
    callbacks: list[Callback] = [
        # The best comes first, because its state is part of the last checkpoint.
        _Checkpoints(run_dir, "best", monitor="validation_accuracy", mode="max", enable_version_counter=False),
        _Checkpoints(run_dir, "last", enable_version_counter=False),
    ]
    if protocol.patience is not None:
        callbacks.append(_StopWhenFlat(protocol, protocol.patience))
    return _trainer(
        protocol,
        device,
        progress,
        callbacks,
        max_epochs=protocol.epochs,
        logger=logs.RunLogger(run_dir),
        default_root_dir=run_dir,
        num_sanity_val_steps=0,
    )


def testing(protocol: Protocol, device: torch.device, progress: bool) -> lightning.Trainer:
    """Make a trainer that writes no files."""
    return _trainer(protocol, device, progress, [], logger=False, enable_checkpointing=False)


def _trainer(
    protocol: Protocol, device: torch.device, progress: bool, callbacks: list[Callback], **options: Any
) -> lightning.Trainer:
    check_precision(protocol.precision, device)
    here = launch()
    if here == ALONE:
        options["devices"] = [_index(device)] if device.type == "cuda" else 1
    else:  # as many as it takes for this process to find its own among them
        options |= {"strategy": "ddp", "devices": here.local_rank + 1}
    return lightning.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        precision=cast("Any", protocol.precision),  # one of PRECISIONS, all of which Lightning has
        plugins=[_AtomicCheckpoints(), _Processes(here)],
        callbacks=[
            *callbacks,
            _OwnSignals(),
            *([Progress()] if progress else []),
        ],
        enable_progress_bar=progress,
        enable_model_summary=False,
        use_distributed_sampler=False,  # Batches takes this process's share
        **options,
    )


def _index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


class _Processes(ClusterEnvironment):
    """The processes as :mod:`hnn_models.training.launch` found them. Lightning looks at no variable itself."""

    def __init__(self, here: Launch) -> None:
        self._here = here

    @property
    def creates_processes_externally(self) -> bool:
        """Lightning starts no process."""
        return True

    @property
    def main_address(self) -> str:
        """The machine at which the processes meet."""
        return self._here.address

    @property
    def main_port(self) -> int:
        """The port at which they meet."""
        return self._here.port

    @staticmethod
    def detect() -> bool:
        """Never chosen by Lightning itself."""
        return False

    def world_size(self) -> int:
        """The number of processes."""
        return self._here.world

    def set_world_size(self, size: int) -> None:
        """Keep the number of processes."""

    def global_rank(self) -> int:
        """The number of this process."""
        return self._here.rank

    def set_global_rank(self, rank: int) -> None:
        """Keep the number of this process."""

    def local_rank(self) -> int:
        """The number of this process on its machine."""
        return self._here.local_rank

    def node_rank(self) -> int:
        """The number of this machine; only its number of processes would say it, and nothing here asks."""
        return 0


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
    """Early stopping by :meth:`Protocol.ends_flat`. It judges each epoch anew, also the one that a run continues from.

    What came before a drop of the learning rate is forgotten: the epochs behind it are compared with each other.
    """

    def __init__(self, protocol: Protocol, patience: int) -> None:
        super().__init__("validation_accuracy", mode="max", patience=patience)
        self._protocol = protocol

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._judge(trainer, pl_module, trainer.current_epoch)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if trainer.current_epoch in self._protocol.drops(cast("Any", pl_module).planned):
            self.wait_count = 0
            self.best_score = torch.tensor(-torch.inf)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        self._judge(trainer, pl_module, trainer.current_epoch + 1)

    def _judge(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, epoch: int) -> None:
        planned = cast("Any", pl_module).planned
        trainer.should_stop = self._protocol.ends_flat(epoch, self.wait_count, planned)


class _OwnSignals(Callback):
    """Keep our signal handlers in force: Lightning sets its own just before it begins. Heed what a finalizer hid."""

    def on_train_batch_start(self, *_: Any) -> None:
        signals.leave_if_told()

    def on_validation_batch_start(self, *_: Any) -> None:
        signals.leave_if_told()

    def on_test_batch_start(self, *_: Any) -> None:
        signals.leave_if_told()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        signals.put_back()

    def on_test_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        signals.put_back()


_one_at_a_time = threading.RLock()


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Train inside, deterministically, and leave the process as it was.

    Torch's generators, the grad mode, autocast, the flags of cuDNN, warnings' filters and signal handlers are as before
    afterwards, however training ends. Of several threads one trains at a time, and the others wait: they share torch's
    generator. Messages of Lightning about choices that are made on purpose are silenced.

    Raises:
        KeyboardInterrupt: on Ctrl-C. (Lightning itself makes it a SystemExit.)
        SystemExit: on SIGTERM and SIGHUP, with the code 128 + the signal's number, unless the user handles them.
    """
    cuda = [device] if device.type == "cuda" else []
    with _one_at_a_time, signals.kept(), torch.random.fork_rng(cuda), _switches(), _quiet():
        zero: Any = rank_zero_only  # Lightning keeps the number of the process there
        rank, zero.rank = getattr(zero, "rank", 0), launch().rank
        try:
            with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
                yield
        except SystemExit as error:
            if isinstance(error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise
        finally:
            zero.rank = rank


@contextmanager
def _switches() -> Iterator[None]:
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


@contextmanager
def _quiet() -> Iterator[None]:
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.WARNING)  # hints and the table of devices are of level INFO
    try:
        with warnings.catch_warnings():
            for message in (
                r".*does not have many workers",  # batches come from memory, so a worker would only cost time
                r"Checkpoint directory .* exists and is not empty",  # checked before
                r"The number of training batches .* is smaller than the logging interval",  # one entry per epoch
                r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning's own call of torch
                r"Found .* module\(s\) in eval mode at the start",  # fixed layers
                r"The `srun` command is available",  # launch() says when it is in the way
            ):
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        log.setLevel(level)
