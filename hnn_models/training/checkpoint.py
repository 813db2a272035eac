"""Checkpoints: Lightning's files, with what rebuilds the network beside the weights, read without running code."""

import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..network.network import HybridNetwork
from .protocol import Protocol

KEY = "hnn"
VERSION = 2
_PREFIX = "network."


class CheckpointError(ValueError):
    """A file that is not a checkpoint of this package, or a damaged one."""


class Checkpoint(NamedTuple):
    """A network with its trained weights on the CPU, and how it was trained.

    ``images`` is the digest of the images (:meth:`hnn_models.data.images.ImageSet.fingerprint`); ``epoch`` counts
    from 1; ``validation_accuracy`` is a fraction; ``seconds`` is the training time up to there.
    """

    network: HybridNetwork
    protocol: Protocol
    images: str
    epoch: int
    validation_accuracy: float
    seconds: float


def describe(
    network: HybridNetwork, protocol: Protocol, images: str, validation_accuracy: float, seconds: float
) -> dict[str, Any]:
    """What a checkpoint holds under :data:`KEY`: tensors and plain types only."""
    return {
        "version": VERSION,
        "network": network.config,
        "protocol": protocol._asdict(),
        "images": images,
        "validation_accuracy": validation_accuracy,
        "seconds": seconds,
    }


def write(content: dict[str, Any], path: Path | str) -> None:
    """Write a checkpoint. Whatever happens meanwhile, ``path`` is the former file whole, or the new one whole."""
    # Lightning's own way writes into the system's folder for temporary files; moving from there can be a copy.
    part = Path(f"{path}.part")
    with part.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def load(path: Path | str, *, backend: str | None = None) -> Checkpoint:
    """The checkpoint at ``path``, its network set to use ``backend``.

    Raises:
        CheckpointError: there is no such file, or it is damaged or not such a checkpoint.
    """
    path = Path(path)
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
        # Without storage: the weights come from the file, and their sizes are compared before any are allocated.
        with torch.device("meta"):
            network = HybridNetwork(**found["network"], backend=backend)
        weights = _weights(content["state_dict"])
        for name, own in network.state_dict().items():
            if name in weights and weights[name].dtype != own.dtype:  # assigning would take it over
                raise ValueError(f"{name} is {weights[name].dtype}, not {own.dtype}")
        network.load_state_dict(weights, assign=True)
        return Checkpoint(
            network,
            Protocol(**found["protocol"]).checked(),
            str(found["images"]),
            int(content["epoch"]) + 1,
            float(found["validation_accuracy"]),
            float(found["seconds"]),
        )
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise CheckpointError(f"{path} does not hold a network that can be rebuilt: {error}") from error


def _read(path: Path) -> Any:
    """What the file holds, its checksums compared first: torch writes them, but does not look at them."""
    with zipfile.ZipFile(path) as parts:
        damaged = parts.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} has another checksum")
    return torch.load(path, map_location="cpu", weights_only=True)


def _weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(_PREFIX): tensor for name, tensor in state.items()}
