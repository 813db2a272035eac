"""Spiking neurons, filters, codings and products with spikes as ``nn.Module``.

They keep no state; state goes in and out on request.
"""

from .coding import Duplicate, Gaussian, Poisson
from .each_step import EachStep
from .iir import IIR
from .lif import LIF
from .neuron import Neuron
from .products import SpikeConv2d, SpikeLinear
from .recurrent import Recurrent

__all__ = [
    "IIR",
    "LIF",
    "Duplicate",
    "EachStep",
    "Gaussian",
    "Neuron",
    "Poisson",
    "Recurrent",
    "SpikeConv2d",
    "SpikeLinear",
]
