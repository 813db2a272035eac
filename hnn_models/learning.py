"""Training and evaluation with Lightning: eq. 2's loss, best epoch on validation, a run that can be continued."""

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from . import checkpoint
from .data import ImageSet, loader, split
from .network import HybridNetwork
from .protocol import Protocol

_EVALUATION_BATCH = 500


class Classifier(lightning.LightningModule):
    """A network under training: cross-entropy over the spike count (eq. 2), Adam, accuracy per epoch.

    Counts are whole numbers, so classes can tie; the prediction is then the first of them.
    """

    def __init__(self, network: HybridNetwork, protocol: Protocol) -> None:
        super().__init__()
        self.network = network
        self.protocol = protocol
        self.accuracy = nn.ModuleDict(
            {stage: MulticlassAccuracy(network.classes, average="micro") for stage in ("validation", "test")}
        )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over everything that is learnt."""
        return torch.optim.Adam(self.network.parameters(), lr=self.protocol.lr)

    def on_train_epoch_start(self) -> None:
        """Seed torch by epoch, so that a run continued from a checkpoint draws what an uninterrupted one draws."""
        seed = np.random.SeedSequence([self.protocol.seed, self.current_epoch])
        torch.manual_seed(int(seed.generate_state(1, np.uint64)[0]))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """The loss of a batch ``([B, C, H, W], [B])``."""
        images, labels = batch
        loss = nn.functional.cross_entropy(self.network(images), labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(labels))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        """Log validation loss and accuracy."""
        self._evaluate(batch, "validation")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        """Log test loss and accuracy."""
        self._evaluate(batch, "test")

    def _evaluate(self, batch: tuple[Tensor, Tensor], stage: str) -> None:
        images, labels = batch
        logits = self.network(images)
        self.accuracy[stage](logits, labels)
        self.log(f"{stage}_loss", nn.functional.cross_entropy(logits, labels), batch_size=len(labels))
        self.log(f"{stage}_accuracy", self.accuracy[stage], prog_bar=True, batch_size=len(labels))

    def on_save_checkpoint(self, content: dict[str, Any]) -> None:
        """Add what rebuilds the network."""
        accuracy = float(self.trainer.callback_metrics["validation_accuracy"])
        content[checkpoint.KEY] = checkpoint.describe(self.network, self.protocol, accuracy)


class _Checkpoints(ModelCheckpoint):
    """Checkpoints in a folder that may have been moved since: a continued run still knows its best epoch."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "dirpath": self.dirpath})


class Outcome(NamedTuple):
    """What came of a run: accuracies are fractions, ``best_epoch`` counts from 1, ``seconds`` is the training time."""

    test_accuracy: float
    validation_accuracy: float
    best_epoch: int
    checkpoint: Path
    seconds: float


def resolve_device(name: str) -> torch.device:
    """The device called ``name``: ``"cpu"``, ``"cuda"``, or ``"auto"`` for CUDA where there is one.

    Raises:
        ValueError: any other name, or CUDA where there is none.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device must be 'auto', 'cpu' or 'cuda'; got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda' cannot be used: torch finds no CUDA device")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def train(
    network: HybridNetwork,
    images: ImageSet,
    protocol: Protocol,
    *,
    epochs: int,
    run_dir: Path,
    device: torch.device,
    resume: bool = False,
    progress: bool = True,
) -> Outcome:
    """Train ``network`` on the training part of ``images``; leave it at its best epoch, and test that.

    ``run_dir`` receives ``best.ckpt`` (the epoch of the highest validation accuracy, the first of equals),
    ``last.ckpt`` and ``logs/version_N/metrics.csv``. With ``resume``, a run that left ``last.ckpt`` there continues
    after its last full epoch and ends in the weights that it would have reached uninterrupted (bit for bit with the
    same backend, device and number of threads).

    Args:
        network: the network, trained in place.
        images: all images; :func:`hnn_models.data.split` divides them.
        protocol: how to train.
        epochs: number of epochs, those of a continued run included; at least 1.
        run_dir: folder of the run, made if it is not there.
        device: where to train.
        resume: continue the run in ``run_dir``, if there is one.
        progress: show progress bars (on stderr).

    Raises:
        ValueError: an argument that is not allowed, or a run in ``run_dir`` that is not to be or cannot be continued.
    """
    if type(epochs) is not int or epochs < 1:
        raise ValueError(f"epochs must be an int of at least 1; got {epochs!r}")
    if images.classes != network.classes or images.shape != network.input_shape:
        raise ValueError(
            f"network takes {network.input_shape} to {network.classes} classes; "
            f"images are {images.shape} of {images.classes} classes"
        )
    last = _unfinished(Path(run_dir), network, protocol.checked(), epochs, resume)
    training, validation, _ = (images.subset(index).to(device) for index in split(len(images), protocol.split_seed))
    module = Classifier(network, protocol)
    best = _Checkpoints(run_dir, "best", monitor="validation_accuracy", mode="max", enable_version_counter=False)
    train_batches = loader(training, protocol.batch_size, protocol.seed)
    validation_batches = loader(validation, _EVALUATION_BATCH)
    with _quiet():
        trainer = _trainer(
            device,
            progress,
            max_epochs=epochs,
            # The best first: what it remembers is part of the last checkpoint.
            callbacks=[best, _Checkpoints(run_dir, "last", enable_version_counter=False)],
            logger=CSVLogger(
                run_dir, name="logs", flush_logs_every_n_steps=1
            ),  # a killed run keeps its epochs' figures
            num_sanity_val_steps=0,
        )
        start = time.perf_counter()
        trainer.fit(module, train_batches, validation_batches, ckpt_path=last, weights_only=True)
        seconds = time.perf_counter() - start

    path = Path(run_dir) / "best.ckpt"
    kept = checkpoint.load(path)
    network.load_state_dict(kept.network.state_dict())
    accuracy = evaluate(network, images, protocol, device=device, progress=progress)
    return Outcome(accuracy, kept.validation_accuracy, kept.epoch, path, seconds)


def evaluate(
    network: HybridNetwork, images: ImageSet, protocol: Protocol, *, device: torch.device, progress: bool = True
) -> float:
    """Accuracy, a fraction, of ``network`` on the test part of ``images``."""
    _, _, test = split(len(images), protocol.split_seed)
    batches = loader(images.subset(test).to(device), _EVALUATION_BATCH)
    with _quiet():
        (metrics,) = _trainer(device, progress, logger=False, enable_checkpointing=False).test(
            Classifier(network, protocol), batches, verbose=False
        )
    return metrics["test_accuracy"]


def _unfinished(run_dir: Path, network: HybridNetwork, protocol: Protocol, epochs: int, resume: bool) -> Path | None:
    """The checkpoint in ``run_dir`` to continue from."""
    last = run_dir / "last.ckpt"
    if not last.exists():
        return None
    if not resume:
        raise ValueError(f"{run_dir} already holds a run; resume it (--resume) or name another folder (--out)")
    found = checkpoint.load(last)
    then = {**found.network.config, **found.protocol._asdict()}
    now = {**network.config, **protocol._asdict()}
    changed = [
        f"{name} ({then.get(name)!r}, now {now.get(name)!r})"
        for name in then | now
        if not _same(then.get(name), now.get(name))
    ]
    if changed:
        raise ValueError(f"the run in {run_dir} cannot be resumed, it has another {', '.join(changed)}")
    if found.epoch > epochs:
        raise ValueError(f"epochs must be at least {found.epoch}, which the run in {run_dir} has done; got {epochs}")
    return last


def _same(one: object, other: object) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    return type(one) is type(other) and one == other


def _trainer(device: torch.device, progress: bool, callbacks: list | None = None, **options) -> lightning.Trainer:
    bars = [RichProgressBar(console_kwargs={"stderr": True})] if progress else []
    return lightning.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=1,
        callbacks=[*(callbacks or []), *bars],
        enable_progress_bar=progress,
        enable_model_summary=False,
        **options,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what Lightning says about things that are so on purpose; everything else is still said."""
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.WARNING)  # the hints and tables of devices are INFO
    try:
        with warnings.catch_warnings():
            for message in (
                r".*does not have many workers",  # batches are cut from memory: a worker would only cost
                r"Checkpoint directory .* exists and is not empty",  # checked in _unfinished
                r"The number of training batches .* is smaller than the logging interval",  # we log once per epoch
                r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning's own call of torch
            ):
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        log.setLevel(level)
