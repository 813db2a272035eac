"""Training, simultaneous or separate, in runs that can be continued; and evaluation."""

import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from .. import paths
from ..data.augmentation import Augmentation
from ..data.batches import loader
from ..data.images import FeatureSet, ImageSet, split
from ..data.listing import some
from ..memory import require
from ..network.network import HybridNetwork
from ..network.wrappers import compiled_in, unwrapped
from ..plain import flag
from . import checkpoint, footprint, resume, trainer
from .classifier import Classifier
from .device import as_device
from .launch import launch
from .logs import history
from .protocol import Protocol

__all__ = ["Outcome", "confusion", "evaluate", "history", "parts", "train"]

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
    run_dir: Path | str,
    device: torch.device | str,
    pretrained: Path | str | None = None,
    resume: bool = False,
    progress: bool = True,
    compiled: bool = False,
    graph: bool = False,
) -> Outcome:
    """Train ``network`` on the training part of ``images``, set it to its best epoch, and test that.

    ``run_dir`` receives ``best.ckpt`` (the epoch of the highest validation accuracy, the first of equals),
    ``last.ckpt``, and ``logs/version_N`` with ``metrics.csv`` and TensorBoard's file. With ``resume``, a run that left
    ``last.ckpt`` there continues after its last full epoch. It ends in the weights of an uninterrupted run: bit for bit
    with the same backend, device, ``compiled``, and numbers of threads and processes. A finished run is tested again,
    and not trained. It may be given more epochs if its schedule is ``"steps"``: the learning rate then stays where it
    has fallen to, and the checkpoint keeps both numbers of epochs.

    A network with a fixed part (``fixed_artificial=True``) is learnt separately (section 3.1). The same architecture
    with all layers artificial is trained first, in ``run_dir/artificial``. Then the spiking part is trained behind the
    best of these layers up to the border. The output of the fixed layers is computed once and kept on the device. If
    images are augmented, it changes with every batch, and the fixed layers run each time.

    Under torchrun every process calls this with the same arguments and takes its share of each batch. Which variables
    form a launch is said in :mod:`hnn_models.training.launch`.

    Torch's generators and settings, warnings' filters and signal handlers are afterwards as before. Of several threads
    that call this or :func:`evaluate`, one trains at a time and the others wait.

    Args:
        network: the network, trained in place. It can be inside the wrappers of :func:`torch.compile`,
            ``DataParallel``, ``DistributedDataParallel`` or ``AveragedModel``: the network inside is trained. Its
            layers can be pruned or parametrised: a checkpoint then also has the weights of the plain network.
        images: all images.
        protocol: the training protocol.
        run_dir: folder of the run, made if it does not exist; ``~`` is the user's home.
        device: the device to train on, or its name: ``"cpu"``, ``"cuda"``, or ``"auto"`` for CUDA if there is a device.
        pretrained: for a network with a fixed part, the checkpoint of a purely artificial network to take the layers
            from instead. It must have been trained on the same split of the same images.
        resume: continue the run in ``run_dir``, if there is one.
        progress: show progress bars on stderr.
        compiled: run the network through :func:`torch.compile`.
        graph: replay the network's forward and backward pass as CUDA graphs (:class:`hnn_kernels.Graphed`). It
            needs a CUDA device, and one process.

    Raises:
        TypeError: ``network`` is no such network, or ``images`` is no :class:`hnn_models.ImageSet`.
        ValueError: an argument that is not allowed; a network that no checkpoint can describe, because it has other
            modules than its arguments say; or ``run_dir`` holds a run, and ``resume`` is not given, the run differs
            from this one, a file of it is missing, or another process trains there.
        OSError: a file cannot be written or read; the error names it.
        MemoryError: it certainly does not fit into memory.
        FloatingPointError: the loss, the logits, a current or a weight is not finite; the error names the tensors, the
            epoch and the step.
        KeyboardInterrupt: on Ctrl-C; with ``resume`` the run continues after its last full epoch.
        SystemExit: on SIGTERM or SIGHUP in the main thread, with the code 128 + the signal's number, unless the program
            handles these signals.
    """
    run_dir, device = paths.folder(run_dir, "run_dir"), as_device(device)
    if pretrained is not None:
        pretrained = paths.file(pretrained, "pretrained")
    protocol = protocol.checked()
    resume, progress = flag("resume", resume), flag("progress", progress)
    compiled, graph = flag("compiled", compiled), flag("graph", graph)
    trainer.warn_of_slow_precision(protocol.precision, device, stacklevel=3)  # the caller of this function
    with trainer.undisturbed(device), paths.naming(run_dir):
        return _train(network, images, protocol, run_dir, device, pretrained, resume, progress, compiled, graph)


def _train(
    given: nn.Module,
    images: ImageSet,
    protocol: Protocol,
    run_dir: Path,
    device: torch.device,
    pretrained: Path | None,
    resumed: bool,
    progress: bool,
    compiled: bool,
    graph: bool,
) -> Outcome:
    network = unwrapped(given)
    network.plain_state(keep_dtypes=False)  # refuses, before training, a network that no checkpoint can describe
    divided = parts(network, images, protocol)
    trainer.check_precision(protocol.precision, device)
    compiled_inside = compiled_in(given) is not None
    if graph:
        trainer.check_graph(device, compiled or compiled_inside or network._compiled_call_impl is not None)
    if protocol.loss == "step" and network.spiking and network.readout != "membrane":
        raise ValueError(f"loss 'step' needs a network with readout='membrane'; this one has {network.readout!r}")
    if pretrained is not None and not network.has_fixed_part:
        raise ValueError(
            f"pretrained is for separate learning (fixed_artificial=True); {network.architecture} is learnt as a whole"
        )
    _name_unseen(images, divided[0])
    batch = -(-min(protocol.batch_size, len(divided[0])) // launch().world)
    footprint.require(network, protocol, device, batch, compiled=compiled or compiled_inside)
    digest = images.fingerprint()
    before = resume.stamps(run_dir)
    earlier = resume.earlier(run_dir, network, protocol, digest, resumed)
    if earlier is not None and network.has_fixed_part and pretrained is None:
        resume.check_artificial(run_dir, earlier, protocol)
    source = None if pretrained is None else _pretrained(pretrained, protocol, digest)
    if source is not None:
        network.load_artificial(source)  # refuses another network before the folder of the run is made
    finished = earlier is not None and earlier.finished
    if not finished:
        paths.ready(run_dir)
    with nullcontext() if finished or launch().rank > 0 else paths.locked(run_dir, wait=False):
        if before != resume.stamps(run_dir):
            raise ValueError(f"another process has trained in {run_dir} just now; resume its run (--resume)")
        artificial = None
        if network.has_fixed_part:
            if source is None:
                torch.manual_seed(protocol.seed)
                source = HybridNetwork(**network.pretraining_config)
                artificial = _train(
                    source, images, protocol, run_dir / "artificial", device, None, resumed, progress, compiled, graph
                )
                network.load_artificial(source)
            if earlier is not None and not _same_fixed_part(network, earlier.found.network):
                raise ValueError(f"the run in {run_dir} cannot be resumed, it has another pretrained network")
        if not finished:
            continued = None if earlier is None else earlier.path
            _fit(given, images, divided, protocol, digest, run_dir, device, continued, progress, compiled, graph)
        kept, end = (checkpoint.load(run_dir / name) for name in (resume.BEST, resume.LAST))
    checkpoint.restore(network, run_dir / resume.BEST)
    accuracy = evaluate(network, images, protocol, device=device, progress=progress)
    return Outcome(
        accuracy, kept.validation_accuracy, kept.epoch, end.epoch, end.seconds, run_dir / resume.BEST, artificial
    )


def _fit(
    given: nn.Module,
    images: ImageSet,
    divided: tuple[Tensor, Tensor, Tensor],
    protocol: Protocol,
    digest: str,
    run_dir: Path,
    device: torch.device,
    continued: Path | None,
    progress: bool,
    compiled: bool,
    graph: bool,
) -> None:
    """Train all layers that are not fixed, from the beginning or from the checkpoint ``continued`` on."""
    network = unwrapped(given.train())
    augmentation = Augmentation(protocol.shift, protocol.flip, protocol.warp, protocol.erase)
    from_features = network.has_fixed_part and not any(augmentation)
    training, validation = (
        _features(network, images, index, protocol, device) if from_features else images.subset(index).to(device)
        for index in divided[:2]
    )
    module = Classifier(given, protocol, digest, from_features=from_features, compiled=compiled, graph=graph)
    batches = loader(training, protocol.batch_size, protocol.seed, augmentation, launch().share)
    trainer.fitting(protocol, run_dir, device, progress).fit(
        module, batches, _evaluation_loader(validation), ckpt_path=continued, weights_only=True
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
        TypeError, ValueError: an argument that is not allowed.
    """
    return _test(network, images, protocol, device, progress)[0]


def confusion(
    network: nn.Module, images: ImageSet, protocol: Protocol, *, device: torch.device | str, progress: bool = True
) -> Tensor:
    """Test ``network`` as :func:`evaluate` does, and count which classes it takes for which.

    Returns:
        int64 ``[classes, classes]``: in row i and column j the number of test images of class i that the network takes
        for class j. The accuracy is the sum of the diagonal over that of all.

    Raises:
        TypeError, ValueError: an argument that is not allowed.
    """
    return _test(network, images, protocol, device, progress)[1]


def _test(
    network: nn.Module, images: ImageSet, protocol: Protocol, device: torch.device | str, progress: bool
) -> tuple[float, Tensor]:
    """The accuracy and the confusion matrix on the test part of ``images``."""
    protocol, device, progress = protocol.checked(), as_device(device), flag("progress", progress)
    _, _, test = parts(unwrapped(network), images, protocol)
    module = Classifier(network, protocol)
    with trainer.undisturbed(device):
        (metrics,) = trainer.testing(protocol, device, progress).test(
            module, _evaluation_loader(images.subset(test).to(device)), verbose=False
        )
    return metrics["test_accuracy"], module.confused.cpu()


def parts(network: HybridNetwork, images: ImageSet, protocol: Protocol) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of the training, validation and test images in the split of ``protocol``.

    With ``leaked_split`` a network with a fixed part has the next one.

    Raises:
        TypeError: ``images`` is no :class:`hnn_models.ImageSet`.
        ValueError: the images do not fit ``network``, are too few, have no test images of their own to keep, or have
            labels out of range.
    """
    if not isinstance(images, ImageSet):
        kind = type(images).__name__
        raise TypeError(f"images must be an ImageSet; got {kind} (a Subset s of one is s.dataset.subset(s.indices))")
    images.check()
    if images.classes != network.classes or images.shape != network.input_shape:
        raise ValueError(
            f"network takes {network.input_shape} to {network.classes} classes; "
            f"images are {images.shape} of {images.classes} classes"
        )
    if protocol.split == "given" and images.test_from is None:
        raise ValueError(f"split 'given' needs images that come in two parts; {protocol.dataset} has no test part")
    own = (images.test_from, images.val_from) if protocol.split == "given" else (None, None)
    leaked = protocol.leaked_split and network.has_fixed_part
    divided = split(len(images), (protocol.split_seed + leaked) % 2**32, *own, protocol.held_out)
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
    return loader(images, -(-len(images) // batches), share=launch().share)


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
    for name in ("split", "split_seed", "held_out"):
        if getattr(found.protocol, name) != getattr(protocol, name):
            raise ValueError(
                f"pretrained {path} was trained with another {name} ({getattr(found.protocol, name)!r}, "
                f"now {getattr(protocol, name)!r}): it may have seen the test images"
            )
    if found.images != digest:
        raise ValueError(f"pretrained {path} was trained on other images: it may have seen the test images")
    return found.network


def _same_fixed_part(one: HybridNetwork, other: HybridNetwork) -> bool:
    mine, theirs = one.plain_state(), other.state_dict()
    return all(torch.equal(mine[name].cpu(), theirs[name]) for name in mine if name.startswith("artificial."))
