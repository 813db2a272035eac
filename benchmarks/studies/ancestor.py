"""A spiking MLP written in the way of SNN-IIR, the program of Fang et al. 2020 that the paper's code is built on."""

import torch
from torch import Tensor, nn

from hnn_kernels import SURROGATES
from hnn_models import HybridNetwork

from ..providers.loops import Spike


class Ancestor(nn.Module):
    """A purely spiking, dense network with a second-order axon, computed one time step of one layer at a time.

    Every layer filters its input and applies its weights inside the loop over time. Time is the last axis of every
    train, the images are repeated over it, and autograd keeps every state.

    Args:
        network: the network whose parameters are copied. Its neurons have ``decay=0``, as SNN-IIR's have.
    """

    def __init__(self, network: HybridNetwork) -> None:
        super().__init__()
        self.steps = network.steps
        axons = [network.code.axon, *(layer.neurons.axon for layer in network.spiking[:-1])]
        self.axons = nn.ParameterList(
            [_parameter(torch.cat([*axon.coefficients])) for axon in axons if axon is not None]
        )
        self.weights = nn.ParameterList([_parameter(layer.weights.weight) for layer in network.spiking])
        self.biases = nn.ParameterList([_parameter(layer.weights.bias) for layer in network.spiking])
        neurons = network.spiking[0].neurons
        self.reset_decay, self.threshold, self.sigma = neurons.reset_decay, neurons.threshold, neurons.sigma

    def forward(self, images: Tensor) -> Tensor:
        """The spike counts ``[B, classes]`` for ``images`` ``[B, ...]``."""
        train = images.flatten(1).unsqueeze(-1).repeat(1, 1, self.steps)
        unfiltered = len(self.weights) - len(self.axons)  # with direct input the first layer's input has no filter
        for layer in range(len(self.weights)):
            if layer >= unfiltered:
                train = self.filtered(train, self.axons[layer - unfiltered])
            train = self.spikes(train, self.weights[layer], self.biases[layer])
        return train.sum(-1)

    def filtered(self, train: Tensor, coefficients: Tensor) -> Tensor:
        """The output of the axon filter, eq. 1d of the paper, for ``train`` ``[B, N, T]``."""
        first, second, gain = coefficients
        last = before = torch.zeros_like(train[..., 0])
        filtered = []
        for x in train.unbind(-1):
            before, last = last, gain * x + first * last + second * before
            filtered.append(last)
        return torch.stack(filtered, dim=-1)

    def spikes(self, train: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
        """The spikes ``[B, N, T]`` of a layer, eqs. 1a to 1c, 1e and 1f of the paper."""
        reset = torch.zeros_like(bias)
        spikes = []
        for x in train.unbind(-1):
            v = nn.functional.linear(x, weights, bias) - self.threshold * reset
            spike = Spike.apply(v - self.threshold, SURROGATES["gaussian"].density, self.sigma)
            reset = self.reset_decay * reset + spike
            spikes.append(spike)
        return torch.stack(spikes, dim=-1)


def _parameter(value: Tensor) -> nn.Parameter:
    return nn.Parameter(value.detach().clone())
