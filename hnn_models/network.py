"""The hybrid network: artificial layers, one coding, spiking layers."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from hnn_kernels.nn import LIF

from .notation import parse

CODINGS = ("duplicate",)


class SpikingLayer(nn.Module):
    """Weights and spiking neurons: ``I[t] = W F[t] + b`` for all steps in one call, then the neurons (eq. 1).

    The axon is eq. 1d with one coefficient of 1: ``F[t]`` is the train of the layer before.

    Shape:
        ``[T, B, n]`` to ``[T, B, m]``. With ``steps``, ``[B, n]`` is the same at every step: the weights are applied
        once and the neurons read one current. ``[B, m]`` where the neurons' read-out is a count.
    """

    def __init__(self, weights: nn.Module, neurons: LIF) -> None:
        super().__init__()
        self.weights = weights
        self.neurons = neurons

    def forward(self, x: Tensor, *, steps: int | None = None) -> Tensor:
        """The neurons' read-out of ``x``, which is ``[B, n]`` where ``steps`` is given and ``[T, B, n]`` otherwise."""
        return self.neurons(self.weights(x), steps=steps)


class HybridNetwork(nn.Module):
    """Artificial layers, then spiking ones (Muramatsu & Yu 2021), from the paper's notation.

    ``A784-A500-S10`` on 28 x 28 pixels is 784 -> 784 (ReLU) -> 500 (ReLU) -> 10 (spiking). The coding sits between the
    last artificial and the first spiking layer, or at the input of a purely spiking network. The first spiking layer
    takes the coded value through its weights as its current (direct input, section 4.2). The result is the spike count
    of the last layer, the logits of eq. 2; a purely artificial network ends in plain logits, without ReLU.

    Args:
        architecture: see :func:`hnn_models.parse`.
        input_shape: shape of one image, such as ``(1, 28, 28)``.
        coding: ``"duplicate"``, the value itself at every step: constant in time, so it is computed and stored once.
        steps: T, number of time steps, at least 1.
        neuron: options of every spiking layer's :class:`hnn_kernels.nn.LIF`: ``decay``, ``reset_decay``,
            ``threshold``, ``learn``, ``sigma``, ``reset_grad``, ``backend`` ... with its defaults.

    Attributes:
        classes: the size of the last layer.
        config: the arguments that rebuild this network, without ``backend``: where a network was trained does not
            bind where it is used.

    Raises:
        TypeError, ValueError: an argument that is not allowed; :class:`hnn_models.NotationError` for the architecture.
    """

    def __init__(
        self,
        architecture: str,
        input_shape: Sequence[int],
        coding: str = "duplicate",
        steps: int = 25,
        **neuron,
    ) -> None:
        super().__init__()
        layers = parse(architecture)
        input_shape = _shape(input_shape)
        if coding not in CODINGS:
            raise ValueError(f"coding must be one of {', '.join(map(repr, CODINGS))}; got {coding!r}")
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ValueError(f"steps must be an int of at least 1, the number of time steps; got {steps!r}")
        if "readout" in neuron:
            raise TypeError("readout is not an option: the last layer gives its count, every other its spikes")
        LIF(**neuron)  # a purely artificial network has no other use for the options, but a wrong one is still wrong

        self.architecture = architecture
        self.input_shape = input_shape
        self.coding = coding
        self.steps = steps
        self.classes = layers[-1].size
        self.config = {
            "architecture": architecture,
            "input_shape": input_shape,
            "coding": coding,
            "steps": steps,
            **{name: value for name, value in neuron.items() if name != "backend"},
        }

        artificial: list[nn.Module] = [nn.Flatten()]
        spiking: list[nn.Module] = []
        sizes = [math.prod(input_shape), *(layer.size for layer in layers)]
        for i, (layer, (fan_in, fan_out)) in enumerate(zip(layers, pairwise(sizes), strict=True)):
            weights = nn.Linear(fan_in, fan_out)
            last = i == len(layers) - 1
            if layer.spiking:
                spiking.append(SpikingLayer(weights, LIF(**neuron, readout="count" if last else "spikes")))
            else:
                artificial += [weights] if last else [weights, nn.ReLU()]
        self.artificial = nn.Sequential(*artificial)
        self.spiking = nn.ModuleList(spiking)

    def forward(self, images: Tensor) -> Tensor:
        """The logits ``[B, classes]`` of ``images`` ``[B, *input_shape]``: spike counts, of the images' dtype.

        Raises:
            TypeError, ValueError: ``images`` is not a floating tensor of that shape.
        """
        if not images.is_floating_point():
            raise TypeError(f"images must be a floating tensor with pixels in [0, 1]; got {images.dtype}")
        if images.shape[1:] != self.input_shape:
            raise ValueError(f"images must be [B, {', '.join(map(str, self.input_shape))}]; got {tuple(images.shape)}")
        x = self.artificial(images)
        steps: int | None = self.steps  # duplicate coding: x is O_AL[t] at every step (section 3.2.1)
        for layer in self.spiking:
            x = layer(x, steps=steps)
            steps = None
        return x

    def extra_repr(self) -> str:
        """The arguments, for ``print(network)``."""
        return f"{self.architecture!r}, input_shape={self.input_shape}, coding={self.coding!r}, steps={self.steps}"


def _shape(value: Sequence[int]) -> tuple[int, ...]:
    """``value`` as a tuple, if it is the shape of one image."""
    if isinstance(value, Sequence) and value and all(type(n) is int and n > 0 for n in value):
        return tuple(value)
    raise ValueError(f"input_shape must be the shape of one image, such as (1, 28, 28); got {value!r}")
