"""Learnt time constants: each neuron finds its own decay, which stays between 0 and 1.

    python examples/learnt_time_constants.py

A cue of five steps has to be remembered through twenty steps of noise. Neurons that forget within three steps cannot do
that, whatever their weights are; neurons whose time constants are learnt along can.
"""

import argparse

import torch
from torch import Tensor
from torch.nn import Linear, Sequential
from torch.nn.functional import cross_entropy
from torch.nn.utils import parametrize

from hnn_kernels import nn

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--iterations", type=int, default=200)
args = parser.parse_args()
CUE, WAIT, BATCH, HIDDEN = 5, 20, 64, 32


class TimeConstant(torch.nn.Module):
    """A decay from a free number: exp(-1 / tau) with tau = exp(number). Without it, nothing keeps a decay below 1."""

    def forward(self, number: Tensor) -> Tensor:
        return torch.exp(-1 / number.exp())

    def right_inverse(self, decay: Tensor) -> Tensor:
        return (-1 / decay.log()).log()


def batch() -> tuple[Tensor, Tensor]:
    """Inputs [T, BATCH, 2], noise but for the cue on one of the two channels, and that channel's number."""
    labels = torch.randint(2, (BATCH,))
    inputs = 0.2 * torch.randn(CUE + WAIT, BATCH, 2)
    inputs[:CUE] += torch.eye(2)[labels]
    return inputs, labels


decay = torch.exp(torch.tensor(-1 / 3))  # of a time constant of 3 steps
for learn in ((), ("decay",)):
    torch.manual_seed(0)
    network = Sequential(
        Linear(2, HIDDEN),
        nn.LIF(decay, reset="subtract", learn=learn, shape=(HIDDEN,)),  # a parameter per neuron
        Linear(HIDDEN, 2),
        nn.LIF(decay, reset="none", readout="none", potential="last", learn=learn, shape=(2,)),
    )
    neurons = [layer for layer in network if isinstance(layer, nn.LIF)]
    for layer in neurons if learn else ():
        parametrize.register_parametrization(layer, "decay", TimeConstant())
    # The time constants' numbers are logarithms, and few: they take larger steps than the weights.
    own = [p for layer in neurons for p in layer.parameters()]
    weights = [p for layer in network if isinstance(layer, Linear) for p in layer.parameters()]
    optimizer = torch.optim.Adam([{"params": weights}, *([{"params": own, "lr": 0.05}] if own else [])], lr=0.01)
    right = 0.0
    for _ in range(args.iterations):
        inputs, labels = batch()
        out = network(inputs)
        loss = cross_entropy(out, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        right += 0.1 * ((out.argmax(1) == labels).float().mean().item() - right)  # a running mean
    with torch.no_grad():
        taus = [(-1 / torch.as_tensor(layer.decay).log()).max().item() for layer in neurons]
    print(f"learnt: {', '.join(learn) or 'weights alone'}: {right:.0%} right, largest time constants {taus[0]:.1f} and "
          f"{taus[1]:.1f} steps")  # fmt: skip
