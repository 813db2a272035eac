"""A trained artificial network with weights of 8 bits and values of few bits, as it would run on whole numbers."""

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..data.images import ImageSet
from ..network.network import HybridNetwork
from ..network.state import evaluating

_WEIGHT_LEVELS = 127  # on each side of zero
# Values above a limit are cut. The limit is one of these fractions of the largest value, the best on validation images.
_CLIPS = (1.0, 0.8, 0.65, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1)
_BATCH = 1000


def quantised_accuracy(
    network: HybridNetwork, images: ImageSet, validation: Tensor, test: Tensor, bits: int
) -> tuple[float, float]:
    """The accuracies of ``network`` on validation and test images, with quantised weights and values.

    Each row of weights has 255 levels around zero. The values in front of the weights, pixels among them, have the
    levels 0 to 2^bits - 1. Sums, biases and logits keep their precision. Nothing is trained again.

    Args:
        network: a purely artificial network, which does not change. Batch norm is folded.
        images: its images, on its device.
        validation: indices of the images that the limits of the values are chosen on, int64.
        test: indices of the images that the accuracy is measured on, int64.
        bits: of a value, at least 1.

    Raises:
        ValueError: ``network`` has spiking layers, or an activation with negative values; or ``bits`` is below 1.
    """
    if network.spiking or "identity" in network.activations:
        raise ValueError(
            f"network must be purely artificial, with activations of at least 0; got {network.architecture} with "
            f"{', '.join(network.activations)}"
        )
    if bits < 1:
        raise ValueError(f"bits must be at least 1; got {bits}")
    whole = copy.deepcopy(network.folded())
    layers: list[Any] = [module for token, _, module in whole.modules_by_token() if token.weighted]
    with torch.no_grad():
        for layer in layers:
            rows = layer.weight.flatten(1)
            step = rows.abs().amax(1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny) / _WEIGHT_LEVELS
            layer.weight.copy_(((rows / step).round() * step).view_as(layer.weight))
    largest = _largest(whole, layers, images, validation)
    levels = 2**bits - 1
    found = {}
    for clip in _CLIPS:
        with _quantised(layers, [clip * most for most in largest], levels):
            found[clip] = _accuracy(whole, images, validation)
    best = max(found, key=lambda clip: found[clip])
    with _quantised(layers, [best * most for most in largest], levels):
        return found[best], _accuracy(whole, images, test)


def _largest(network: HybridNetwork, layers: list[nn.Module], images: ImageSet, index: Tensor) -> list[float]:
    """The largest value in front of each layer."""
    most = dict.fromkeys(layers, 0.0)

    def look(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        most[layer] = max(most[layer], inputs[0].max().item())

    with ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.register_forward_pre_hook(look).remove)
        _accuracy(network, images, index)
    return list(most.values())


@contextmanager
def _quantised(layers: list[nn.Module], limits: list[float], levels: int) -> Iterator[None]:
    """Inside, each layer takes values of so many levels above 0, the highest of which is its limit."""

    def rounding(limit: float) -> Any:
        step = limit / levels

        def cut(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
            return ((inputs[0] / step).round().clamp(0, levels) * step,)

        return cut

    with ExitStack() as stack:
        for layer, limit in zip(layers, limits, strict=True):
            stack.callback(layer.register_forward_pre_hook(rounding(limit or 1.0)).remove)
        yield


def _accuracy(network: HybridNetwork, images: ImageSet, index: Tensor) -> float:
    right = 0
    with evaluating(network), torch.no_grad():
        for some in index.split(_BATCH):
            pixels, labels = images[some]
            right += int((network(pixels).argmax(1) == labels).sum())
    return right / len(index)
