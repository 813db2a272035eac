"""A small network on digits, and how it is trained."""

import pytest

pytest.importorskip("lightning", reason="training needs the extra 'models'")

import torch

from hnn_models import HybridNetwork, learning
from hnn_models.protocol import Protocol

CPU = torch.device("cpu")
PROTOCOL = Protocol("digits", batch_size=32, lr=2e-3, seed=5, split_seed=1)


def build(architecture="A64-S32-S10", steps=8, **options):
    """The network that PROTOCOL's seed gives."""
    torch.manual_seed(PROTOCOL.seed)
    return HybridNetwork(architecture, (1, 8, 8), steps=steps, **options)


def train(network, images, folder, protocol=PROTOCOL, *, epochs=3, resume=False):
    """Train on the CPU, without progress bars."""
    return learning.train(
        network, images, protocol, epochs=epochs, run_dir=folder, device=CPU, resume=resume, progress=False
    )
