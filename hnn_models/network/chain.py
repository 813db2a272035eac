"""The spiking part of a network as a plain chain of modules, which other libraries' formats know."""

from collections.abc import Iterable

from torch import nn

from hnn_kernels.nn import IIR, EachStep

from .flatten import Flatten
from .layers import SpikingLayer


def chain(axon: IIR | None, layers: Iterable[SpikingLayer]) -> nn.Sequential:
    """Return a chain that takes the coded train ``[T, B, *features]`` and gives the last layer's spike train.

    Its modules are those of the layers, and it shares their parameters.

    Args:
        axon: the filter of the coded train; None for none.
        layers: the spiking layers.
    """
    made = nn.Sequential()
    if axon is not None:
        made.add_module("axon", axon)
    for number, layer in enumerate(layers):
        # Our Flatten has the values of torch's.
        before = [nn.Flatten(m.start_dim, m.end_dim) if type(m) is Flatten else m for m in layer.before]
        made.add_module(f"weights{number}", EachStep(*before, layer.weights))
        made.add_module(f"neurons{number}", layer.neurons)
    return made
