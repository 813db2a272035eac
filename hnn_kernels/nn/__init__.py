"""Spiking layers as ``nn.Module``: stateless by default, state in and out on request."""

from .coding import Duplicate, Gaussian, Poisson
from .iir import IIR
from .lif import LIF

__all__ = ["IIR", "LIF", "Duplicate", "Gaussian", "Poisson"]
