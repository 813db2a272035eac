"""The cost of a trained network on its images."""

import torch
from torch import Tensor

from ..data.images import ImageSet
from ..training.checkpoint import Checkpoint
from . import energy
from .costs import LayerCost

_BATCH = 32  # the currents of the paper's largest layer take 4 MB per image


def profile(found: Checkpoint, images: ImageSet, index: Tensor, device: torch.device) -> list[LayerCost]:
    """The cost per image of every layer of a trained network; see :func:`hnn_models.analysis.energy.profile`.

    Args:
        found: the checkpoint; its network moves to ``device``.
        images: the images.
        index: indices of the images to count on, int64 ``[n]``.
        device: the device to run on.
    """
    network = found.network.to(device).eval()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(found.protocol.seed)  # of the coding's noise
        return energy.profile(network, (images[some][0].to(device) for some in index.split(_BATCH)))
