"""From the description of a network to its modules."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from hnn_kernels.nn import IIR

from .config import ACTIVATIONS, NetworkConfig
from .flatten import Flatten
from .layers import SameDropout, SpikingLayer
from .tokens import Shape


def artificial_part(config: NetworkConfig) -> tuple[list[nn.Module], list[nn.Module]]:
    """Make the modules of the artificial part.

    Returns:
        All modules, input side first; and those of the tokens alone, one for each.
    """
    modules: list[nn.Module] = []
    of_tokens: list[nn.Module] = []
    tokens = config.tokens[: config.border]
    names = iter(config.activations)
    for token, before in zip(tokens, _before(config), strict=False):
        if token.takes(before) != before:
            modules.append(nn.Flatten())
        of_tokens.append(token.module(before, config.outputs(token)))
        modules.append(of_tokens[-1])
        if norm := token.norm_module(config.outputs(token)):
            modules.append(norm)
        if token.weighted and (name := next(names, None)):
            modules.append(ACTIVATIONS[name]())
        if token.dropout:
            modules.append(nn.Dropout(token.dropout / 100))
    if tokens != config.tokens and features_shape(config) != _before(config)[config.border]:
        modules.append(nn.Flatten())
    return modules, of_tokens


def spiking_part(config: NetworkConfig, backend: str | None) -> tuple[list[SpikingLayer], list[nn.Module]]:
    """Make the spiking layers. A token without weights becomes part of the layer behind it.

    Returns:
        The layers, input side first; and the modules of the tokens, one for each.
    """
    layers: list[SpikingLayer] = []
    of_tokens: list[nn.Module] = []
    waiting: list[nn.Module] = []
    pooled = False  # behind the last layer
    tokens = config.tokens[config.border :]
    shapes = [features_shape(config), *config.shapes[config.border :]]
    for token, (before, after) in zip(tokens, pairwise(shapes), strict=True):
        if token.takes(before) != before:
            waiting.append(Flatten())
        module = token.module(before)
        if not token.weighted:
            waiting.append(module)
            of_tokens.append(module)
            pooled = True
            continue
        shape = coefficient_shape(config.per, after)
        neurons = config.neurons(last=token is tokens[-1], shape=shape, backend=backend)
        with torch.no_grad():
            module.get_parameter("weight").mul_(config.gain)
        second = None
        if pooled and config.pool_axon:
            second = axon_of(config, token.takes(before), backend)
        norm = token.norm_module()
        if norm is not None and isinstance(neurons.threshold, float):
            with torch.no_grad():  # the current's standard deviation is that of the threshold at first
                norm.get_parameter("weight").fill_(neurons.threshold)
        dropout = SameDropout(token.dropout / 100) if token.dropout else None
        layers.append(SpikingLayer(module, neurons, waiting, second, norm, dropout))
        of_tokens.append(layers[-1])
        waiting, pooled = [], False
    return layers, of_tokens


def axon_of(config: NetworkConfig, features: Shape, backend: str | None) -> IIR | None:
    """Make an axon for a signal of shape ``features``; None for a network without axons."""
    coefficients = config.filter("axon")
    if coefficients is None:
        return None
    shape = coefficient_shape(config.per, features)
    return IIR(*coefficients, learn="axon" in config.learn, shape=shape, backend=backend)


def features_shape(config: NetworkConfig) -> Shape:
    """The shape of the features that are coded, before a coding with several outputs takes them apart.

    It is the shape that the first spiking layer takes. For a purely artificial network it is that of the logits.
    """
    before = _before(config)[config.border]
    return before if config.border == len(config.tokens) else config.tokens[config.border].takes(before)


def coefficient_shape(per: str, features: Shape) -> Shape:
    """The shape of a learnt coefficient of neurons of shape ``features``."""
    if per == "layer":
        return ()
    return (features[0], 1, 1) if per == "channel" and len(features) == 3 else features


def _before(config: NetworkConfig) -> Sequence[Shape]:
    """The shape of the image, and the shape behind each token."""
    return [tuple(config.input_shape), *config.shapes]
