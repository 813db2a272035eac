"""A network in training, as a module of Lightning: loss, optimizer, schedule, accuracy."""

import time
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR, OneCycleLR

from hnn_kernels import Graphed
from hnn_kernels.nn import IIR, LIF

from ..data.batches import Batches
from ..network.wrappers import compiled_in, unwrapped
from . import checkpoint
from .finite import FiniteWatch, check_weights
from .launch import without_leftovers
from .protocol import Protocol
from .silence import SilenceWatch

with without_leftovers():
    import lightning
    from lightning.pytorch.utilities.types import OptimizerLRScheduler
    from torchmetrics import MeanMetric, Metric
    from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

_EVALUATION = 2**32  # seeds validation and test where training has the epoch; no epoch has this number


class Classifier(lightning.LightningModule):
    """A network in training: cross-entropy of the logits (eq. 2), Adam, accuracy per epoch.

    Counts are whole numbers, so classes can tie. The prediction is then the first of them.

    Args:
        network: the network, or a wrapper around it (:func:`hnn_models.network.wrappers.unwrapped`). If it is compiled
            already, it runs as compiled.
        protocol: the training protocol.
        images: the digest of the images that it is trained on, for its checkpoints.
        from_features: True if the batches hold features from ``network.encode_features`` instead of images.
        compiled: run the network through :func:`torch.compile`.
        graph: replay the network's passes in training as CUDA graphs.
    """

    def __init__(
        self,
        network: nn.Module,
        protocol: Protocol,
        images: str = "",
        *,
        from_features: bool = False,
        compiled: bool = False,
        graph: bool = False,
    ) -> None:
        super().__init__()
        self.network = unwrapped(network)
        self.protocol = protocol
        self.images = images
        # The loss is logged once per epoch: logging every step took a third of Lightning's time. A search for NaN would
        # wait for the device, so it is disabled. torchmetrics 1.9 then ignores weights, so it gets each image's loss.
        self.train_loss = MeanMetric(nan_strategy="disable")
        self.accuracy = nn.ModuleDict(
            {stage: MulticlassAccuracy(self.network.classes, average="micro") for stage in ("validation", "test")}
        )
        self.confusion = MulticlassConfusionMatrix(self.network.classes)
        own = compiled_in(network)
        if from_features:
            logits: Callable[..., Any] = self.network.forward_features
            compiled = compiled or own is not None or self.network._compiled_call_impl is not None
        else:  # a call, not forward alone, runs the network's hooks and what Module.compile made
            logits = (self.network if own is None else own).__call__
        # What training asks for beside the logits.
        asked = {"per_step": protocol.loss == "step", "rates": protocol.rate_penalty > 0}
        if any(asked.values()):
            logits = _InTraining(self.network, logits, asked)
        self._logits: Callable[..., Any] = torch.compile(logits) if compiled else logits
        if graph:
            self._logits = Graphed(_Logits(self.network, logits))
        plain = not (compiled or graph) and own is None and self.network._compiled_call_impl is None
        self._watch = FiniteWatch(self.network, f"try a lower lr ({protocol.lr})", currents=plain)
        self._from_features = from_features
        self._scale = protocol.logit_scale if self.network.code is None else 1.0
        self._silence = SilenceWatch(self.network)
        self.confused = torch.zeros(0)  # the confusion matrix of the last test
        self._losses = torch.zeros(1)
        self._odd: list[Tensor] = []  # for each batch of an evaluation: some logits are not finite
        self._seconds_before = 0.0
        self._continued: tuple[int, ...] = ()
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Training time in seconds. It includes the earlier processes of a continued run, up to the last full epoch."""
        return self._seconds_before + time.perf_counter() - self._start

    @property
    def planned(self) -> int:
        """The number of epochs that the schedule was made for; a finished run may have been given more."""
        return (*self._continued, self.protocol.epochs)[0]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam for every parameter that is learnt, and the protocol's schedule."""
        protocol = self.protocol
        coefficients = {
            id(p) for module in self.network.modules() if isinstance(module, LIF | IIR) for p in module.parameters()
        }
        # The weights of a pruned, parametrised or wrapped layer are made of other parameters.
        decayed = {id(p) for p in self.network.parameters() if p.dim() > 1 and id(p) not in coefficients}
        learnt = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        groups = [
            {"params": [p for p in learnt if id(p) in decayed], "weight_decay": protocol.weight_decay},
            {"params": [p for p in learnt if id(p) not in decayed], "weight_decay": 0.0},
        ]
        # Without decay AdamW equals Adam bit for bit. One fused kernel takes a sixth of the time on a CPU.
        optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=protocol.lr, fused=True)
        scheduler: LRScheduler
        if protocol.schedule == "one-cycle":
            steps = int(self.trainer.estimated_stepping_batches)
            scheduler, interval = OneCycleLR(optimizer, protocol.lr, total_steps=steps), "step"
        else:
            scheduler, interval = MultiStepLR(optimizer, list(protocol.drops()), gamma=0.1), "epoch"
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": interval}}

    def on_fit_start(self) -> None:
        """Stop if the weights are not finite. Start the clock."""
        check_weights(self.network, "before training")
        self._start = time.perf_counter()

    def on_train_epoch_start(self) -> None:
        """Seed by epoch, so that a continued run draws the same numbers as an uninterrupted one."""
        self._seed(self.current_epoch)
        self._watch.begin(self.current_epoch + 1, self.device)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_index: int) -> None:
        """Stop if the weights are no longer finite."""
        self._watch.updated(last=self.trainer.is_last_batch)

    def on_validation_epoch_start(self) -> None:
        """Draw the same noise in every epoch."""
        self._odd = []
        self._seed(_EVALUATION)

    def on_validation_epoch_end(self) -> None:
        """Stop if logits are not finite."""
        self._check_logits(f"in the validation of epoch {self.current_epoch + 1}")

    def on_test_epoch_start(self) -> None:
        """Stop if the weights are not finite. Draw the same noise as in validation."""
        check_weights(self.network, "in the network that is tested")
        self._odd = []
        self._seed(_EVALUATION)

    def on_test_epoch_end(self) -> None:
        """Stop if logits are not finite. Add up the confusions of all processes."""
        self._check_logits("in the test")
        self.confused = self.confusion.compute()

    def _check_logits(self, where: str) -> None:
        if torch.stack(self._odd).any():
            mixed = self.protocol.precision != "32-true"
            advice = f": try precision '32-true', not {self.protocol.precision!r}" if mixed else ""
            raise FloatingPointError(f"the logits are not finite {where}{advice}")

    def _seed(self, epoch: int) -> None:
        # All processes have the same seed. Each draws the noise of its own images.
        seed = np.random.SeedSequence([self.protocol.seed, epoch, 0])
        torch.manual_seed(int(seed.generate_state(1, np.uint64)[0]))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """The loss of a batch ``([B, ...], [B])``.

        Raises:
            FloatingPointError: a value is not finite (:mod:`hnn_models.training.finite`).
        """
        inputs, labels = batch
        sampler = _sampler(self.trainer.train_dataloader)
        self._place(sampler, batch_index)
        with self._watch.step():
            found = self._logits(inputs)
        logits, rates = found if self.protocol.rate_penalty else (found, None)
        losses = self._cross_entropies(logits, labels)
        self._watch.forward(logits, losses)
        self._losses = losses.detach()
        self.train_loss.update(self._losses)
        # Gradients are averaged over the processes, whose shares of a batch may differ by one.
        loss = losses.sum() * (self.trainer.world_size / sampler.size(batch_index))
        if rates is None:
            return loss
        return loss + self.protocol.rate_penalty * (rates - self.protocol.rate_target).relu().sum()

    def _cross_entropies(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The training loss of each image, ``[B]``."""
        smoothing = self.protocol.label_smoothing
        steps = logits.flatten(0, -2)  # [T * B, classes] where each step has its loss
        targets = labels.repeat(len(steps) // len(labels))
        losses = nn.functional.cross_entropy(self._scaled(steps), targets, label_smoothing=smoothing, reduction="none")
        return losses.view(-1, len(labels)).mean(0) if len(steps) > len(labels) else losses

    def _scaled(self, logits: Tensor) -> Tensor:
        return logits if self._scale == 1 else self._scale * logits

    def _place(self, sampler: Batches, batch_index: int) -> None:
        """Tell the coding the place of this process's images in the batch."""
        if self.network.code is not None:
            self.network.code.first_image = sampler.share.rows(sampler.size(batch_index)).start

    def teardown(self, stage: str) -> None:
        """Reset the coding for batches that are not shared."""
        if self.network.code is not None:
            self.network.code.first_image = 0

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Look at the gradients of the epoch's last step."""
        if self.trainer.is_last_batch:
            self._silence.gradients(self._losses.mean(), optimizer.defaults["eps"])

    def on_train_epoch_end(self) -> None:
        """Log the mean loss of the epoch, and warn of layers that are silent."""
        self.log("train_loss", self.train_loss, prog_bar=True)
        if self.trainer.is_global_zero:
            epoch = self.current_epoch + 1
            self._silence.warn(
                epoch,
                self.global_step,
                self.protocol.lr,
                last=epoch == self.protocol.epochs or self.trainer.should_stop,
            )

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        """Log validation loss and accuracy, and the firing rates on the first images."""
        self._place(_sampler(self.trainer.val_dataloaders), batch_index)
        self._evaluate(batch, "validation")
        if batch_index == 0:
            rates = self._silence.rates(batch[0], self._from_features)
            self.log_dict(rates, prog_bar=True, sync_dist=True, batch_size=1)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        """Log test loss and accuracy, and count which classes are taken for which."""
        self._place(_sampler(self.trainer.test_dataloaders), batch_index)
        self.confusion.update(self._evaluate(batch, "test"), batch[1])

    def _evaluate(self, batch: tuple[Tensor, Tensor], stage: str) -> Tensor:
        inputs, labels = batch
        logits = self._logits(inputs)
        self._odd.append(~logits.isfinite().all())
        self.accuracy[stage](logits, labels)
        loss = nn.functional.cross_entropy(self._scaled(logits), labels)
        self.log(f"{stage}_loss", loss, sync_dist=True, batch_size=len(labels))
        self.log(f"{stage}_accuracy", cast("Metric", self.accuracy[stage]), prog_bar=True, batch_size=len(labels))
        return logits

    def on_save_checkpoint(self, content: dict[str, Any]) -> None:
        """Add the description of the network and of its training."""
        accuracy = float(self.trainer.callback_metrics["validation_accuracy"])
        content[checkpoint.KEY] = checkpoint.describe(
            self.network, self.protocol, self.images, accuracy, self.seconds, self._continued
        )

    def on_load_checkpoint(self, content: dict[str, Any]) -> None:
        """Continue the clock, and remember a run that ended before with fewer epochs."""
        found = content[checkpoint.KEY]
        self._seconds_before = found["seconds"]
        ended = found["protocol"]["epochs"]
        self._continued = (*found.get("continued", ()), *([ended] if ended < self.protocol.epochs else []))


class _InTraining:
    """A call of the network with options that it has in training alone."""

    def __init__(self, network: nn.Module, logits: Callable[..., Any], options: dict[str, bool]) -> None:
        self._network = network
        self._logits = logits
        self._options = options

    def __call__(self, inputs: Tensor) -> Any:
        return self._logits(inputs, **(self._options if self._network.training else {}))


class _Logits(nn.Module):
    """The way from a batch to the logits as a module, which has the parameters of the network."""

    def __init__(self, network: nn.Module, logits: Callable[..., Any]) -> None:
        super().__init__()
        self.network = network
        self._logits = logits

    def forward(self, inputs: Tensor) -> Any:
        return self._logits(inputs)


def _sampler(loader: Any) -> Batches:
    """The sampler of one of a Lightning trainer's loaders."""
    return loader.sampler
