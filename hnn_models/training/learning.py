"""Training and evaluation: simultaneous or separate, the best epoch on validation, a run that can be continued."""

import csv
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..data.augmentation import Augmentation
from ..data.images import FeatureSet, ImageSet, loader, split
from ..network.network import HybridNetwork
from . import checkpoint, trainer
from .classifier import Classifier
from .protocol import Protocol

__all__ = ["Outcome", "evaluate", "history", "parts", "train"]

_EVALUATION_BATCH = 500


class Outcome(NamedTuple):
    """What came of a run.

    Accuracies are fractions; ``best_epoch`` counts from 1; ``epochs`` were trained in ``seconds``, validation included,
    all processes that a run took added up. ``artificial`` is the outcome of the network that was trained first, for its
    artificial layers, where that was part of the run.
    """

    test_accuracy: float
    validation_accuracy: float
    best_epoch: int
    epochs: int
    seconds: float
    checkpoint: Path
    artificial: "Outcome | None" = None


def train(
    network: HybridNetwork,
    images: ImageSet,
    protocol: Protocol,
    *,
    run_dir: Path,
    device: torch.device,
    pretrained: Path | None = None,
    resume: bool = False,
    progress: bool = True,
    compiled: bool = False,
) -> Outcome:
    """Train ``network`` on the training part of ``images``; leave it at its best epoch, and test that.

    ``run_dir`` receives ``best.ckpt`` (the epoch of the highest validation accuracy, the first of equals),
    ``last.ckpt``, and ``logs/version_N`` with ``metrics.csv`` and TensorBoard's file. With ``resume``, a run that left
    ``last.ckpt`` there continues after its last full epoch and ends in the weights that it would have reached
    uninterrupted (bit for bit with the same backend, device, ``compiled``, and numbers of threads and processes).

    A network with a fixed part (``fixed_artificial=True``) is learnt separately (section 3.1): first, in
    ``run_dir/artificial``, the same architecture with all layers artificial; then, with its best layers up to the
    border, the spiking part. What the fixed layers make of the images is computed once and kept on the device; where
    images are augmented it changes with every batch, so that the fixed layers have to run.

    Under torchrun every process calls this with the same arguments and takes its share of each batch.

    Args:
        network: the network, trained in place.
        images: all images.
        protocol: how to train.
        run_dir: folder of the run, made if it is not there.
        device: where to train.
        pretrained: for a network with a fixed part, the checkpoint of a purely artificial network, trained on the same
            split of the same images, to take the layers from instead.
        resume: continue the run in ``run_dir``, if there is one.
        progress: show progress bars (on stderr).
        compiled: run the network through :func:`torch.compile`.

    Raises:
        ValueError: an argument that is not allowed, or a run in ``run_dir`` that is not to be or cannot be continued.
        FloatingPointError: the weights are no longer finite.
    """
    run_dir = Path(run_dir)
    divided = parts(network, images, protocol.checked())
    trainer.check_precision(protocol.precision, device)
    if pretrained is not None and not network.has_fixed_part:
        raise ValueError(
            f"pretrained is for separate learning (fixed_artificial=True); {network.architecture} is learnt as a whole"
        )
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
    module = Classifier(network, protocol, digest, from_features=from_features, compiled=compiled)
    batches = loader(training, protocol.batch_size, protocol.seed, augmentation, trainer.share())
    with trainer.as_we_train():
        trainer.fitting(protocol, run_dir, device, progress).fit(
            module, batches, _evaluation_loader(validation), ckpt_path=last, weights_only=True
        )
    kept, end = (checkpoint.load(run_dir / name) for name in ("best.ckpt", "last.ckpt"))
    network.load_state_dict(kept.network.state_dict())
    accuracy = evaluate(network, images, protocol, device=device, progress=progress)
    return Outcome(
        accuracy, kept.validation_accuracy, kept.epoch, end.epoch, end.seconds, run_dir / "best.ckpt", artificial
    )


def evaluate(
    network: HybridNetwork, images: ImageSet, protocol: Protocol, *, device: torch.device, progress: bool = True
) -> float:
    """Accuracy, a fraction, of ``network`` on the test part of ``images``.

    Raises:
        ValueError: an argument that is not allowed.
    """
    _, _, test = parts(network, images, protocol.checked())
    with trainer.as_we_train():
        (metrics,) = trainer.testing(protocol, device, progress).test(
            Classifier(network, protocol), _evaluation_loader(images.subset(test).to(device)), verbose=False
        )
    return metrics["test_accuracy"]


def history(run_dir: Path) -> list[dict[str, float]]:
    """The logged figures of a run by epoch, over all its processes: ``epoch`` counts from 1."""
    epochs: dict[int, dict[str, float]] = {}
    logs = sorted((Path(run_dir) / "logs").glob("version_*/metrics.csv"), key=lambda p: int(p.parent.name[8:]))
    for path in logs:
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                figures = epochs.setdefault(int(row["epoch"]) + 1, {})
                figures.update({k: float(v) for k, v in row.items() if v and k not in ("epoch", "step")})
    return [{"epoch": epoch, **figures} for epoch, figures in sorted(epochs.items())]


def parts(network: HybridNetwork, images: ImageSet, protocol: Protocol) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of the training, validation and test images of ``images`` as ``protocol`` divides them.

    Raises:
        ValueError: the images do not fit ``network``, are too few, or have no test part of their own to keep.
    """
    if images.classes != network.classes or images.shape != network.input_shape:
        raise ValueError(
            f"network takes {network.input_shape} to {network.classes} classes; "
            f"images are {images.shape} of {images.classes} classes"
        )
    if protocol.split == "given" and images.test_from is None:
        raise ValueError(f"split 'given' needs images that come in two parts; {protocol.dataset} has no test part")
    divided = split(len(images), protocol.split_seed, images.test_from if protocol.split == "given" else None)
    if any(len(part) == 0 for part in divided):
        raise ValueError(f"{len(images)} images are too few to split into training, validation and test images")
    return divided


def _evaluation_loader(images: ImageSet | FeatureSet) -> DataLoader:
    """Batches as equal as can be: each process needs an image of the last one too."""
    batches = -(-len(images) // _EVALUATION_BATCH)
    return loader(images, -(-len(images) // batches), share=trainer.share())


@torch.no_grad()
def _features(
    network: HybridNetwork, images: ImageSet, index: Tensor, protocol: Protocol, device: torch.device
) -> FeatureSet:
    """What the fixed part of ``network`` makes of the images at ``index``, kept on ``device``."""
    network.to(device).eval()
    chosen = images.subset(index).to(device)
    mixed = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(protocol.precision)
    with torch.autocast(device.type, mixed, enabled=mixed is not None):
        features = [network.encode_features(pixels) for pixels, _ in loader(chosen, _EVALUATION_BATCH)]
    network.train()
    return FeatureSet(torch.cat(features), chosen.labels)


def _pretrained(path: Path, protocol: Protocol, digest: str) -> HybridNetwork:
    """The network at ``path``, if what ``protocol`` tests on was not among what it was trained on."""
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
    for path in present:  # a run killed in its first epoch's end may have a best epoch and no last one
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
    theirs = dict(other.named_parameters())
    return all(torch.equal(p.cpu(), theirs[name]) for name, p in one.named_parameters() if not p.requires_grad)
