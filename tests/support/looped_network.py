"""A hybrid network computed from its equations, one step after the other, with every layer's weights at every step."""

import math
import re
from functools import partial

import torch
from torch import nn

import hnn_kernels
from hnn_models import HybridNetwork

SQRT2 = math.sqrt(2)
RESET_DECAY = math.exp(-1 / 4)
ACTIVATIONS = {"relu": torch.relu, "sigmoid": torch.sigmoid, "identity": lambda x: x}


def make(architecture, shape=(1, 4, 4), **options):
    """A network whose neurons fire, in float64, so that no rounding decides a spike; and 3 images."""
    torch.manual_seed(0)
    network = HybridNetwork(architecture, shape, **options).double()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("weight"):
                parameter.add_(parameter.abs() / 2)  # more excitation than inhibition, and not too much of it
                scale = 2.0 if name.startswith("artificial") else 6.0
                parameter.mul_(scale / parameter.flatten(1).abs().sum(1).mean())
            elif not name.endswith("bias"):  # a learnt coefficient: every neuron its own
                parameter.mul_(1 + 0.1 * torch.rand_like(parameter))
    return network, torch.rand(3, *shape, dtype=torch.float64)


def record(monkeypatch):
    """Record the arguments and the results of the random codings."""
    made = []

    def noting(encode, *args, **options):
        train = encode(*args, **options)
        made.append((args[:-1], train.detach()))
        return train

    for name in ("encode_gaussian", "encode_poisson"):
        monkeypatch.setattr(hnn_kernels, name, partial(noting, getattr(hnn_kernels, name)))
    return made


def weights(network):
    """Linear and Conv2d, input side first."""
    return [module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)]


class Axon:
    """Eq. 1d's filter, one step per call."""

    def __init__(self, axon):
        self.a, self.b = ([], [1.0]) if axon is None else (axon.feedback, axon.feedforward)
        self.x, self.y = [], []

    def __call__(self, x):
        self.x = [x, *self.x]
        y = sum(b * past for b, past in zip(self.b, self.x, strict=False))
        y = y + sum(a * past for a, past in zip(self.a, self.y, strict=False))
        self.y = [y, *self.y]
        return y


def by_hand(network, images, made=(), *, decay=0.0, reset_decay=RESET_DECAY, threshold=1.0, sigma=0.4, smooth=False):
    """The counts of ``network``. ``made`` is what :func:`record` returned; its noise is used again."""
    tokens = network.architecture.split("-")
    modules = iter(weights(network))
    activations = iter(network.activations)
    border = next((i for i, token in enumerate(tokens) if token[0] == "S"), len(tokens))

    def weigh(x, module):
        return module(x.flatten(1) if isinstance(module, nn.Linear) else x)

    x = images
    for token in tokens[:border]:
        if token[0] == "P":
            x = nn.functional.max_pool2d(x, int(token[1:]))
        else:
            x = weigh(x, next(modules))
            x = ACTIVATIONS[next(activations, "identity")](x)
    if border == len(tokens):
        return x
    if re.fullmatch(r"S\d+", tokens[border]):
        x = x.flatten(1)
    own = list(modules)
    layers, at = [], -1
    for token in tokens[border:]:
        if token[0] == "P":
            layers.append(int(token[1:]))
        else:
            at += 1
            axon = network.spiking[at].neurons.axon
            layers.append({"weights": own[at], "axon": Axon(axon), "v": 0.0, "r": 0.0, "o": 0.0})
    into = Axon(network.code.axon)

    count = 0.0
    for t in range(network.steps):
        if network.coding == "gaussian":
            ((mean, log_std), train) = made[0]
            noise = (train[t] - mean.detach()) / log_std.detach().exp()
            mean, log_std = x.chunk(2, 1)
            value = mean + log_std.exp() * noise
        elif network.coding == "poisson":
            value = made[0][1][t]
        else:
            value = x
        f = into(value)
        for layer in layers:
            if isinstance(layer, int):
                f = nn.functional.max_pool2d(f, layer)
                continue
            layer["r"] = reset_decay * layer["r"] + layer["o"]
            layer["v"] = decay * layer["v"] + weigh(f, layer["weights"]) - threshold * layer["r"]
            distance = layer["v"] - threshold
            layer["o"] = torch.erfc(-distance / (SQRT2 * sigma)) / 2 if smooth else (distance >= 0).to(f.dtype)
            f = layer["axon"](layer["o"])
        count = count + f  # the last layer has no axon
    return count
