"""Checkpoints: Lightning's files, which also describe the network and its training. Reading one runs no code."""

import io
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import paths
from ..data import datasets
from ..data.images import ImageSet
from ..errors import DataError
from ..network.network import HybridNetwork
from ..network.state import bare_name
from .protocol import Protocol

KEY = "hnn"
VERSION = 2
_PREFIX = "network."


class CheckpointError(ValueError):
    """A file that is not a checkpoint of this package, or a damaged one."""


class Checkpoint(NamedTuple):
    """A trained network, and its training.

    Attributes:
        network: the network with its trained weights, on the CPU.
        protocol: the protocol that it was trained with.
        images: the digest of the images that it was trained on (:meth:`hnn_models.ImageSet.fingerprint`).
        epoch: the epoch, from 1.
        validation_accuracy: at that epoch, a fraction.
        seconds: training time up to the end of that epoch.
        flat: for how many epochs, up to that one, the validation accuracy has not risen since the learning rate fell; 0
            without patience.
        continued: for a finished run that was given more epochs, the number of epochs that it had before; several if it
            was given more several times.
    """

    network: HybridNetwork
    protocol: Protocol
    images: str
    epoch: int
    validation_accuracy: float
    seconds: float
    flat: int = 0
    continued: tuple[int, ...] = ()


def describe(
    network: HybridNetwork,
    protocol: Protocol,
    images: str,
    validation_accuracy: float,
    seconds: float,
    continued: tuple[int, ...] = (),
) -> dict[str, Any]:
    """The part of a checkpoint under :data:`KEY`, made of tensors and plain types alone.

    It has the weights of the plain network where the network's own state is of another form
    (:meth:`hnn_models.HybridNetwork.plain_state`).
    """
    weights = {} if network.is_plain else {"weights": network.plain_state()}
    return {
        "version": VERSION,
        "network": network.config,
        **weights,
        "protocol": protocol._asdict(),
        "images": images,
        "validation_accuracy": validation_accuracy,
        "seconds": seconds,
        **({"continued": continued} if continued else {}),
    }


def write(content: dict[str, Any], path: Path | str) -> None:
    """Write a checkpoint in one step (:func:`hnn_models.paths.write`)."""
    # In memory first: torch makes a RuntimeError, which names no file, of what a file raises.
    whole = io.BytesIO()
    torch.save(content, whole)
    paths.write(Path(path), whole)


def load(path: Path | str, *, backend: str | None = None) -> Checkpoint:
    """Read a checkpoint. No code in it is run.

    Args:
        path: a ``best.ckpt`` or ``last.ckpt`` of a run.
        backend: of the network's kernels, as for :func:`hnn_kernels.lif`.

    Raises:
        CheckpointError: there is no such file, it is damaged, or it is not a checkpoint of this package.
        TypeError, ValueError: ``path`` is no path of this machine (:func:`hnn_models.paths.local`).
    """
    path = paths.local(path, "path")
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file")
    try:
        content = _read(path)
    except Exception as error:  # a damaged file makes the reader raise almost anything
        raise CheckpointError(f"{path} is damaged or not a checkpoint: {type(error).__name__} while reading") from error
    if not isinstance(content, dict) or not isinstance(content.get(KEY), dict):
        raise CheckpointError(f"{path} is not a checkpoint of hnn_models: it does not say which network it holds")
    found = content[KEY]
    if found.get("version") != VERSION:
        raise CheckpointError(f"{path} has checkpoint version {found.get('version')!r}; this package reads {VERSION}")
    try:
        # The network has no storage: its sizes are compared with the file's before any memory is allocated.
        with torch.device("meta"):
            network = HybridNetwork(**found["network"], backend=backend)
        weights = _weights(found.get("weights") or content["state_dict"])
        for name, own in network.state_dict().items():
            if name in weights and weights[name].dtype != own.dtype:  # assign=True would take it over
                raise ValueError(f"{name} is {weights[name].dtype}, not {own.dtype}")
        network.load_state_dict(weights, assign=True)
        return Checkpoint(
            network,
            Protocol(**found["protocol"]).checked(),
            str(found["images"]),
            int(content["epoch"]) + 1,
            float(found["validation_accuracy"]),
            float(found["seconds"]),
            max((state.get("wait_count", 0) for state in content.get("callbacks", {}).values()), default=0),
            tuple(found.get("continued", ())),
        )
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise CheckpointError(f"{path} does not hold a network that can be rebuilt: {error}") from error


def restore(network: HybridNetwork, path: Path) -> None:
    """Set ``network`` to the state in the checkpoint of a run that trained it, with pruning and parametrisations."""
    network.load_state_dict(_weights(_read(path)["state_dict"]))


def load_images(found: Checkpoint, data_dir: Path | str | None = None) -> ImageSet:
    """Read the images that a network was trained on, in the same order, so that their split is the same.

    Args:
        found: the checkpoint of the network.
        data_dir: as for :func:`hnn_models.load_images`. The images of a folder are converted as they were for training.

    Raises:
        ValueError: ``data_dir`` is missing, or the data set does not take it.
        DataError: the files are missing or damaged, or hold other images.
    """
    name = found.protocol.dataset
    shape = found.network.input_shape if datasets.find(name).shape is None else None
    images = datasets.load_images(name, data_dir, shape=shape)
    if images.fingerprint() != found.images:
        raise DataError(f"the network was trained on other images than those of {data_dir}: it may have seen some")
    return images


def _read(path: Path) -> Any:
    """Read the file, once its checksums are known to be right: torch writes them, but does not compare them."""
    with zipfile.ZipFile(path) as parts:
        damaged = parts.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} has another checksum")
    return torch.load(path, map_location="cpu", weights_only=True)


def _weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {bare_name(name.removeprefix(_PREFIX)): tensor for name, tensor in state.items()}
