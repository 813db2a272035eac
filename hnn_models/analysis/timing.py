"""Time of a training step, and of its spiking neurons alone, on several backends."""

import copy
import statistics
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..network.network import HybridNetwork
from ..network.weights import refresh
from ..network.wrappers import unwrapped

_WARM_UP = 3


class Comparison(NamedTuple):
    """Median times in seconds, by backend.

    Attributes:
        step: of a whole training step.
        neurons: of the neurons of all spiking layers alone.
    """

    step: dict[str, float]
    neurons: dict[str, float]


def compare(
    network: nn.Module, images: Tensor, labels: Tensor, backends: tuple[str, ...], *, repeats: int = 30
) -> Comparison:
    """Time a training step of copies of ``network`` on each of ``backends``, in turns.

    A step is forward, loss, backward and Adam. For the neurons alone, forward and backward are timed on the currents
    that the neurons receive in such a step.

    Args:
        network: the network; it does not change.
        images: ``[B, *input_shape]``, on the device of the network.
        labels: int64 ``[B]``.
        backends: names of backends.
        repeats: measured runs of each, after three runs that are not counted.

    Raises:
        ValueError: the network has no spiking layer, or ``repeats`` is not at least 1.
    """
    network = unwrapped(network)
    if not network.spiking:
        raise ValueError(f"{network.architecture} has no spiking layer to compare backends on")
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1; got {repeats}")
    device = images.device
    steps: dict[str, Callable[[], None]] = {}
    neurons: dict[str, Callable[[], None]] = {}
    for backend in backends:
        twin = on_backend(network, backend)
        neurons[backend] = _neurons(twin, images)
        steps[backend] = partial(_step, twin, torch.optim.Adam(twin.parameters(), lr=1e-4), images, labels)
    return Comparison(_medians(steps, repeats, device), _medians(neurons, repeats, device))


def on_backend(network: HybridNetwork, backend: str) -> HybridNetwork:
    """A copy of ``network``, with its hooks and parametrisations, that runs on ``backend``."""
    for module in network.modules():
        refresh(module)  # a weight with a graph cannot be copied
    twin = copy.deepcopy(network)
    modules: Iterable[Any] = twin.modules()
    for module in modules:
        if hasattr(module, "backend"):
            module.backend = backend
    return twin


def _step(network: HybridNetwork, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> None:
    optimizer.zero_grad()
    nn.functional.cross_entropy(network(images), labels).backward()
    optimizer.step()


def currents(network: HybridNetwork, images: Tensor) -> list[tuple[nn.Module, Tensor, dict]]:
    """The calls of each spiking layer's neurons for ``images``: the module, its current, its keyword arguments."""
    found: list[tuple[nn.Module, Tensor, dict]] = []

    def keep(module: nn.Module, args: tuple[Tensor], kwargs: dict) -> None:
        found.append((module, args[0].detach(), kwargs))

    hooks = [layer.neurons.register_forward_pre_hook(keep, with_kwargs=True) for layer in network.spiking]
    network(images)
    for hook in hooks:
        hook.remove()
    return found


def _neurons(network: HybridNetwork, images: Tensor) -> Callable[[], None]:
    """Make a function that runs forward and backward of all layers' neurons, on their currents for ``images``."""
    inputs = [(module, current.requires_grad_(), kwargs) for module, current, kwargs in currents(network, images)]
    gradients = [torch.ones_like(module(current, **kwargs)) for module, current, kwargs in inputs]

    def run() -> None:
        for (module, current, kwargs), gradient in zip(inputs, gradients, strict=True):
            current.grad = None
            module(current, **kwargs).backward(gradient)

    return run


def _medians(runs: dict[str, Callable[[], None]], repeats: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each run. The runs take turns, so that a change of the machine's speed affects all of them."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(_WARM_UP + repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(measured[_WARM_UP:]) for name, measured in times.items()}
