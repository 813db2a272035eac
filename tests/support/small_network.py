"""A small network on digits, and how it is trained."""

import pytest

pytest.importorskip("lightning", reason="training needs the extra 'models'")

import torch

from hnn_models import HybridNetwork
from hnn_models.training import learning
from hnn_models.training.protocol import Protocol

CPU = torch.device("cpu")
PROTOCOL = Protocol("digits", epochs=3, batch_size=32, lr=2e-3, milestones=(0.5,), seed=5, split_seed=1)


def build(architecture="A64-S32-S10", steps=8, **options):
    """The network that PROTOCOL's seed gives."""
    torch.manual_seed(PROTOCOL.seed)
    return HybridNetwork(architecture, (1, 8, 8), steps=steps, **options)


def train(network, images, folder, protocol=PROTOCOL, **options):
    """Train on the CPU, without progress bars."""
    return learning.train(network, images, protocol, run_dir=folder, device=CPU, progress=False, **options)


def saved_weights(folder, name="last.ckpt"):
    return torch.load(folder / name, weights_only=True)["state_dict"]


def assert_same_weights(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
