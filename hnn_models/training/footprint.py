"""The memory that training needs, compared with what is available before anything is allocated."""

import math

import torch

from ..memory import available, require_bytes
from ..network.network import HybridNetwork
from ..network.table import kept_for_backward
from .protocol import Protocol

_MOST_KEPT = 128  # bytes per neuron and step; the reference keeps less


def require(network: HybridNetwork, protocol: Protocol, device: torch.device, batch: int, *, compiled: bool) -> None:
    """Refuse training that certainly does not fit into memory.

    Counted are a gradient and Adam's two moments for each parameter that is learnt, the parameters themselves where
    they have to move to ``device``, and what a batch keeps from forward to backward
    (:func:`hnn_models.network.table.kept_for_backward`): half of it in mixed precision, and nothing of it for a
    compiled network, which may compute it again.

    Args:
        network: the network.
        protocol: the training protocol.
        device: the device to train on.
        batch: images per step in this process.
        compiled: True if the network runs through :func:`torch.compile`.

    Raises:
        MemoryError: it does not fit. The message has both numbers.
    """
    parameters = list(network.parameters())
    needed = 3 * sum(p.numel() * p.itemsize for p in parameters if p.requires_grad)
    needed += sum(p.numel() * p.itemsize for p in parameters if p.device.type != device.type)
    purpose = f"training {network.architecture}"
    require_bytes(purpose, needed, device)
    if compiled:
        return
    left = available(device)
    neurons = math.prod(network.input_shape) + sum(map(math.prod, network.shapes))
    if left is None or needed + batch * network.steps * neurons * _MOST_KEPT <= left:
        return
    with torch.device("meta"):  # without the hooks and the state of the network itself
        twin = HybridNetwork.of(network.settings)
    kept = batch * sum(kept_for_backward(twin, device))
    require_bytes(
        f"{purpose} in batches of {batch}", needed + (kept if protocol.precision == "32-true" else kept // 2), device
    )
