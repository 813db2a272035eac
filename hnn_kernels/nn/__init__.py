"""Spiking neurons, filters and codings as ``nn.Module``. They keep no state; state goes in and out on request."""

from .coding import Duplicate, Gaussian, Poisson
from .iir import IIR
from .lif import LIF

__all__ = ["IIR", "LIF", "Duplicate", "Gaussian", "Poisson"]
