"""From parsed layers to modules, and the checks of what goes together."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

import hnn_kernels
from hnn_kernels.nn import LIF

from .layers import ACTIVATIONS, AXONS, SpikingLayer
from .notation import Layer, Shape

PER = ("layer", "channel", "neuron")
Filter = tuple[tuple[float, ...], tuple[float, ...]]


def one_of(name: str, value: object, allowed: Sequence[str]) -> None:
    """``value`` is one of the names ``allowed``."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}")


def image_shape(value: Sequence[int]) -> Shape:
    """``value`` as a tuple, if it is the shape of one image."""
    if isinstance(value, Sequence) and value and all(type(n) is int and n > 0 for n in value):
        return tuple(value)
    raise ValueError(f"input_shape must be the shape of one image, such as (1, 28, 28); got {value!r}")


def filter_of(name: str, given: str | Sequence[Sequence[float]] | None) -> Filter | None:
    """A filter by name or by its coefficients, as plain floats."""
    if given is None:
        return None
    if isinstance(given, str):
        one_of(name, given, tuple(AXONS))
        given = AXONS[given]
    if not isinstance(given, Sequence) or len(given) != 2 or any(isinstance(part, Tensor) for part in given):
        raise TypeError(f"{name} must be a name, an IIR of floats or None; got {given!r}")
    module = hnn_kernels.nn.IIR(*given)  # checks the coefficients, and copies them
    if isinstance(module.feedback, Tensor) or isinstance(module.feedforward, Tensor):
        raise TypeError(f"{name} must be an IIR of floats, from which learn= makes tensors; got {given!r}")
    return module.feedback, module.feedforward


def activation_names(given: str | Sequence[str], layers: Sequence[Layer], coding: str) -> tuple[str, ...]:
    """The activation of each artificial layer that has one, input side first."""
    weighted = [layer for layer in layers if layer.kind != "pool"]
    artificial = [layer for layer in weighted if not layer.spiking]
    hybrid = 0 < len(artificial) < len(weighted)
    count = len(artificial) if hybrid else max(len(artificial) - 1, 0)
    if isinstance(given, str):
        names = [given] * count
        if hybrid and coding == "poisson":
            names[-1] = "sigmoid"
        one_of("activation", given, tuple(ACTIVATIONS))
    else:
        names = list(given)
        for name in names:
            one_of("activation", name, tuple(ACTIVATIONS))
        if len(names) != count:
            raise ValueError(f"activation must have {count} names for {layers[0].text!r}; got {len(names)}")
        if hybrid and coding == "poisson" and names[-1] != "sigmoid":
            raise artificial[-1].error(f"Poisson coding needs activation 'sigmoid' at the border; got {names[-1]!r}")
    return tuple(names)


def check_learning(fixed: bool, layers: Sequence[Layer], coding: str) -> None:
    """The artificial layers can be fixed (``fixed``) or trained, with this coding.

    Raises:
        TypeError, ValueError: they cannot; a NotationError marks the border where it is the coding's fault.
    """
    if not isinstance(fixed, bool):
        raise TypeError(f"fixed_artificial must be True or False; got {fixed!r}")
    artificial = [layer for layer in layers if not layer.spiking and layer.kind != "pool"]
    spiking = [layer for layer in layers if layer.spiking]
    if fixed and not artificial:
        raise layers[0].error("fixed_artificial needs an artificial layer; every layer here is spiking")
    if fixed and not spiking:
        raise layers[-1].error("fixed_artificial leaves nothing to train; no layer here is spiking")
    if coding == "gaussian" and spiking and not artificial:
        raise spiking[0].error(
            "Gaussian coding needs an artificial layer before this one, which puts out mean and ln sigma "
            "(the paper codes its purely spiking baseline by duplicating)"
        )
    if coding == "gaussian" and fixed:
        raise artificial[-1].error(
            "Gaussian coding needs trainable artificial layers: this one has twice the neurons of a pretrained one"
        )
    if coding == "poisson" and artificial and spiking and not fixed:
        raise artificial[-1].error(
            "Poisson coding has no gradient: the artificial layers up to this one must be fixed (fixed_artificial=True)"
        )


def artificial_part(
    layers: Sequence[Layer], shapes: Sequence[Shape], activations: Sequence[str], double: bool
) -> list[nn.Module]:
    """Modules of the artificial part; ``shapes`` has the image's in front, ``double`` asks for mean and ln sigma."""
    modules: list[nn.Module] = []
    weighted = [layer for layer in layers if layer.kind != "pool"]
    names = iter(activations)
    for layer, before in zip(layers, shapes[:-1], strict=True):
        if layer.kind == "pool":
            modules.append(nn.MaxPool2d(layer.kernel))
            continue
        if layer.kind == "dense" and len(before) > 1:
            modules.append(nn.Flatten())
        modules.append(_weights(layer, before, 2 if double and layer is weighted[-1] else 1))
        if name := next(names, None):
            modules.append(ACTIVATIONS[name]())
    return modules


def spiking_part(
    layers: Sequence[Layer],
    shapes: Sequence[Shape],
    filters: Mapping[str, Filter | None],
    learn: Sequence[str],
    per: str,
    gain: float,
    options: Mapping[str, Any],
) -> list[SpikingLayer]:
    """The spiking layers; ``shapes`` has that of what is coded in front. A pool becomes part of the layer behind it."""
    made: list[SpikingLayer] = []
    pools: list[nn.Module] = []
    for layer, (before, after) in zip(layers, pairwise(shapes), strict=True):
        if layer.kind == "pool":
            pools.append(nn.MaxPool2d(layer.kernel))
            continue
        if layer.kind == "dense" and len(before) > 1:
            pools.append(nn.Flatten())
        last = layer is layers[-1]
        own = {**filters, "axon": None} if last else filters
        neurons = LIF(
            **{name: value and hnn_kernels.IIR(*value) for name, value in own.items()},
            learn=[name for name in learn if not (last and name == "axon")],
            shape=coefficient_shape(per, after),
            readout="count" if last else "spikes",
            **options,
        )
        weights = _weights(layer, before)
        with torch.no_grad():
            weights.weight.mul_(gain)
        made.append(SpikingLayer(weights, neurons, pools))
        pools = []
    return made


def coefficient_shape(per: str, features: Shape) -> Shape:
    """Shape of a learnt coefficient of neurons of shape ``features``."""
    if per == "layer":
        return ()
    return (features[0], 1, 1) if per == "channel" and len(features) == 3 else features


def _weights(layer: Layer, before: Shape, times: int = 1) -> nn.Linear | nn.Conv2d:
    if layer.kind == "dense":
        return nn.Linear(math.prod(before), times * layer.size)
    convolution = nn.Conv2d(before[0], times * layer.size, layer.kernel)
    # A convolution gives its weights' layout to its output; this one is the faster on CPUs and on tensor cores.
    return convolution.to(memory_format=torch.channels_last)
