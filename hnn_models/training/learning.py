"""Training, simultaneous or separate, in runs that can be continued; and evaluation."""

import csv
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..data.augmentation import Augmentation
from ..data.batches import loader
from ..data.images import FeatureSet, ImageSet, split
from ..data.listing import some
from ..network.network import HybridNetwork
from ..network.wrappers import compiled_in, plain_state, unwrapped
from ..room import require
from . import checkpoint, footprint, trainer
from .classifier import Classifier
from .device import as_device
from .protocol import Protocol

__all__ = ["Outcome", "evaluate", "history", "parts", "train"]

_EVALUATION_BATCH = 500


class Outcome(NamedTuple):
    """The result of a run.

    Attributes:
        test_accuracy: at the best epoch, a fraction.
        validation_accuracy: at the best epoch, a fraction.
        best_epoch: the epoch of the highest validation accuracy, from 1.
        epochs: the number of epochs that were trained.
        seconds: training time with validation, added up over all processes that continued the run.
        checkpoint: the file of the best epoch.
        artificial: for separate learning, the outcome of the purely artificial network; None if it was not part of the
            run.
    """

    test_accuracy: float
    validation_accuracy: float
    best_epoch: int
    epochs: int
    seconds: float
    checkpoint: Path
    artificial: "Outcome | None" = None


def train(
    network: nn.Module,
    images: ImageSet,
    protocol: Protocol,
    *,
    run_dir: Path,
    device: torch.device | str,
    pretrained: Path | None = None,
    resume: bool = False,
    progress: bool = True,
    compiled: bool = False,
) -> Outcome:
    """Train ``network`` on the training part of ``images``, set it to its best epoch, and test that.

    ``run_dir`` receives ``best.ckpt`` (the epoch of the highest validation accuracy, the first of equals),
    ``last.ckpt``, and ``logs/version_N`` with ``metrics.csv`` and TensorBoard's file. With ``resume``, a run that left
    ``last.ckpt`` there continues after its last full epoch. It ends in the weights of an uninterrupted run: bit for bit
    with the same backend, device, ``compiled``, and numbers of threads and processes.

    A network with a fixed part (``fixed_artificial=True``) is learnt separately (section 3.1). The same architecture
    with all layers artificial is trained first, in ``run_dir/artificial``. Then the spiking part is trained behind the
    best of these layers up to the border. The output of the fixed layers is computed once and kept on the device. If
    images are augmented, it changes with every batch, and the fixed layers run each time.

    Under torchrun every process calls this with the same arguments and takes its share of each batch.

    Args:
        network: the network, trained in place. It can be inside the wrappers of :func:`torch.compile`,
            ``DataParallel``, ``DistributedDataParallel`` or ``AveragedModel``: the network inside is trained. Its
            layers can be pruned or parametrised: a checkpoint then also has the weights of the plain network.
        images: all images.
        protocol: the training protocol.
        run_dir: folder of the run, made if it does not exist.
        device: the device to train on, or its name: ``"cpu"``, ``"cuda"``, or ``"auto"`` for CUDA if there is a device.
        pretrained: for a network with a fixed part, the checkpoint of a purely artificial network to take the layers
            from instead. It must have been trained on the same split of the same images.
        resume: continue the run in ``run_dir``, if there is one.
        progress: show progress bars on stderr.
        compiled: run the network through :func:`torch.compile`.

    Raises:
        TypeError: ``network`` is no such network.
        ValueError: an argument that is not allowed; a network that no checkpoint can describe, because it has other
            modules than its arguments say; or ``run_dir`` holds a run, and ``resume`` is not given or the run
            differs from this one.
        MemoryError: it certainly does not fit into memory.
        FloatingPointError: the loss, the logits, a current or a weight is not finite; the error names the tensors, the
            epoch and the step.
    """
    given, network = network, unwrapped(network)
    plain_state(network, keep_dtypes=False)  # refuses, before training, a network that no checkpoint can describe
    run_dir = Path(run_dir)
    protocol, device = protocol.checked(), as_device(device)
    divided = parts(network, images, protocol)
    trainer.check_precision(protocol.precision, device)
    if pretrained is not None and not network.has_fixed_part:
        raise ValueError(
            f"pretrained is for separate learning (fixed_artificial=True); {network.architecture} is learnt as a whole"
        )
    _name_unseen(images, divided[0])
    share = trainer.share()
    batch = -(-min(protocol.batch_size, len(divided[0])) // share.world)
    footprint.require(network, protocol, device, batch, compiled=compiled or compiled_in(given) is not None)
    digest = images.fingerprint()
    last = _unfinished(run_dir, network, protocol, digest, resume)
    artificial = None
    if network.has_fixed_part:
        if pretrained is None:
            torch.manual_seed(protocol.seed)
            source = HybridNetwork(**network.pretraining_config)
            artificial = train(
                source, images, protocol, run_dir=run_dir / "artificial", device=device, resume=resume,
                progress=progress, compiled=compiled,
            )  # fmt: skip
        else:
            source = _pretrained(pretrained, protocol, digest)
        network.load_artificial(source)
        if last is not None and not _same_fixed_part(network, checkpoint.load(last).network):
            raise ValueError(f"the run in {run_dir} cannot be resumed, it has another pretrained network")

    augmentation = Augmentation(protocol.shift, protocol.flip, protocol.warp)
    from_features = network.has_fixed_part and not any(augmentation)
    training, validation = (
        _features(network, images, index, protocol, device) if from_features else images.subset(index).to(device)
        for index in divided[:2]
    )
    module = Classifier(given, protocol, digest, from_features=from_features, compiled=compiled)
    batches = loader(training, protocol.batch_size, protocol.seed, augmentation, share)
    with trainer.quiet_and_deterministic():
        trainer.fitting(protocol, run_dir, device, progress).fit(
            module, batches, _evaluation_loader(validation), ckpt_path=last, weights_only=True
        )
    kept, end = (checkpoint.load(run_dir / name) for name in ("best.ckpt", "last.ckpt"))
    checkpoint.restore(network, run_dir / "best.ckpt")
    accuracy = evaluate(network, images, protocol, device=device, progress=progress)
    return Outcome(
        accuracy, kept.validation_accuracy, kept.epoch, end.epoch, end.seconds, run_dir / "best.ckpt", artificial
    )


def evaluate(
    network: nn.Module, images: ImageSet, protocol: Protocol, *, device: torch.device | str, progress: bool = True
) -> float:
    """Test ``network`` on the test part of ``images``.

    Args:
        network: the network, also inside a wrapper as for :func:`train`; it moves to ``device``.
        images: all images.
        protocol: the protocol that the network was trained with; it has the split and the precision.
        device: the device to test on, or its name.
        progress: show a progress bar on stderr.

    Returns:
        The accuracy, a fraction.

    Raises:
        ValueError: an argument that is not allowed.
    """
    protocol, device = protocol.checked(), as_device(device)
    _, _, test = parts(unwrapped(network), images, protocol)
    with trainer.quiet_and_deterministic():
        (metrics,) = trainer.testing(protocol, device, progress).test(
            Classifier(network, protocol), _evaluation_loader(images.subset(test).to(device)), verbose=False
        )
    return metrics["test_accuracy"]


def history(run_dir: Path) -> list[dict[str, float]]:
    """The logged figures of a run, one dictionary per epoch; ``epoch`` counts from 1."""
    epochs: dict[int, dict[str, float]] = {}
    logs = sorted((Path(run_dir) / "logs").glob("version_*/metrics.csv"), key=lambda p: int(p.parent.name[8:]))
    for path in logs:
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                figures = epochs.setdefault(int(row["epoch"]) + 1, {})
                figures.update({k: float(v) for k, v in row.items() if v and k not in ("epoch", "step")})
    return [{"epoch": epoch, **figures} for epoch, figures in sorted(epochs.items())]


def parts(network: HybridNetwork, images: ImageSet, protocol: Protocol) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of the training, validation and test images in the split of ``protocol``.

    Raises:
        ValueError: the images do not fit ``network``, are too few, have no test images of their own to keep, or have
            labels out of range.
    """
    images.check()
    if images.classes != network.classes or images.shape != network.input_shape:
        raise ValueError(
            f"network takes {network.input_shape} to {network.classes} classes; "
            f"images are {images.shape} of {images.classes} classes"
        )
    if protocol.split == "given" and images.test_from is None:
        raise ValueError(f"split 'given' needs images that come in two parts; {protocol.dataset} has no test part")
    own = (images.test_from, images.val_from) if protocol.split == "given" else (None, None)
    divided = split(len(images), protocol.split_seed, *own)
    if any(len(part) == 0 for part in divided):
        raise ValueError(f"{len(images)} images are too few to split into training, validation and test images")
    return divided


def _name_unseen(images: ImageSet, training: Tensor) -> None:
    """Warn of classes that no training image has."""
    count = images.labels[training.to(images.labels.device)].bincount(minlength=images.classes)
    unseen = [
        images.names[label] if images.names else str(label) for label in (count == 0).nonzero().flatten().tolist()
    ]
    if unseen:
        warnings.warn(f"no training image has the classes {some(unseen)}: they cannot be learnt", stacklevel=3)


def _evaluation_loader(images: ImageSet | FeatureSet) -> DataLoader:
    """Make batches of nearly equal size, because each process needs an image of the last batch too."""
    batches = -(-len(images) // _EVALUATION_BATCH)
    return loader(images, -(-len(images) // batches), share=trainer.share())


@torch.no_grad()
def _features(
    network: HybridNetwork, images: ImageSet, index: Tensor, protocol: Protocol, device: torch.device
) -> FeatureSet:
    """The output of the fixed part of ``network`` for the images at ``index``, on ``device``."""
    network.to(device).eval()
    chosen = images.subset(index).to(device)
    mixed = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(protocol.precision)
    features: Any = None  # a tensor from the first batch on
    filled = 0
    with torch.autocast(device.type, mixed, enabled=mixed is not None):
        for pixels, labels in loader(chosen, _EVALUATION_BATCH):
            made = network.encode_features(pixels)
            if features is None:
                require("the features of the fixed layers", len(chosen), made.shape[1:], made.dtype, device)
                features = made.new_empty(len(chosen), *made.shape[1:])
            features[filled : filled + len(labels)] = made
            filled += len(labels)
    network.train()
    if not features.isfinite().all():
        raise FloatingPointError("the output of the fixed artificial layers is not finite")
    return FeatureSet(features, chosen.labels)


def _pretrained(path: Path, protocol: Protocol, digest: str) -> HybridNetwork:
    """The network at ``path``, if it was not trained on images that ``protocol`` tests on."""
    found = checkpoint.load(path)
    for name in ("split", "split_seed"):
        if getattr(found.protocol, name) != getattr(protocol, name):
            raise ValueError(
                f"pretrained {path} was trained with another {name} ({getattr(found.protocol, name)!r}, "
                f"now {getattr(protocol, name)!r}): it may have seen the test images"
            )
    if found.images != digest:
        raise ValueError(f"pretrained {path} was trained on other images: it may have seen the test images")
    return found.network


def _unfinished(run_dir: Path, network: HybridNetwork, protocol: Protocol, digest: str, resume: bool) -> Path | None:
    """The checkpoint in ``run_dir`` to continue from."""
    present = [path for path in (run_dir / "last.ckpt", run_dir / "best.ckpt") if path.exists()]
    if not present:
        return None
    if not resume:
        raise ValueError(f"{run_dir} already holds a run; resume it (--resume) or name another folder (--out)")
    for path in present:  # a run that is killed at the end of its first epoch can have a best epoch alone
        found = checkpoint.load(path)
        then = {**found.network.config, **found.protocol._asdict()}
        now = {**network.config, **protocol._asdict()}
        changed = [
            f"{name} ({then.get(name)!r}, now {now.get(name)!r})"
            for name in then | now
            if not _same(then.get(name), now.get(name))
        ]
        if changed:
            raise ValueError(f"the run in {run_dir} cannot be resumed, it has another {', '.join(changed)}")
        if found.images != digest:
            raise ValueError(f"the run in {run_dir} cannot be resumed, it has other images")
    return present[0] if present[0].name == "last.ckpt" else None


def _same(one: object, other: object) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    return type(one) is type(other) and one == other


def _same_fixed_part(one: HybridNetwork, other: HybridNetwork) -> bool:
    mine, theirs = plain_state(one), other.state_dict()
    return all(torch.equal(mine[name].cpu(), theirs[name]) for name in mine if name.startswith("artificial."))
