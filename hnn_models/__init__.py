"""Hybrid networks of artificial and spiking layers (Muramatsu & Yu 2021), built on :mod:`hnn_kernels`.

The names below are the interface; the modules inside may move. Each name is imported when it is first used. The
network, its notation, its checkpoints and the protocol need torch alone. Training, the command line and most data sets
need the extra ``models``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .analysis.modules import profile_module
    from .data.datasets import load_images
    from .data.images import ImageSet
    from .errors import DataError
    from .network.codings import CODINGS
    from .network.config import NetworkConfig
    from .network.layers import SpikingLayer
    from .network.network import HybridNetwork
    from .network.notation import NotationError, parse
    from .training.checkpoint import Checkpoint, CheckpointError, load
    from .training.learning import Outcome, evaluate, train
    from .training.protocol import Protocol

_PLACES = {
    "CODINGS": "network.codings",
    "Checkpoint": "training.checkpoint",
    "CheckpointError": "training.checkpoint",
    "DataError": "errors",
    "HybridNetwork": "network.network",
    "ImageSet": "data.images",
    "NetworkConfig": "network.config",
    "NotationError": "network.notation",
    "Outcome": "training.learning",
    "Protocol": "training.protocol",
    "SpikingLayer": "network.layers",
    "evaluate": "training.learning",
    "load": "training.checkpoint",
    "load_images": "data.datasets",
    "parse": "network.notation",
    "profile_module": "analysis.modules",
    "train": "training.learning",
}

__all__ = [
    "CODINGS",
    "Checkpoint",
    "CheckpointError",
    "DataError",
    "HybridNetwork",
    "ImageSet",
    "NetworkConfig",
    "NotationError",
    "Outcome",
    "Protocol",
    "SpikingLayer",
    "evaluate",
    "load",
    "load_images",
    "parse",
    "profile_module",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_PLACES[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
