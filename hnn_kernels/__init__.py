"""Fused kernels for spiking neurons: one pass over time, forward and backward."""

from . import nn
from .coding import encode_duplicate
from .dispatch import Backend, Explanation, backends, explain
from .functional import lif
from .reference import LIFState
from .surrogates import SURROGATES

__version__ = "0.1.0"

__all__ = [
    "SURROGATES",
    "Backend",
    "Explanation",
    "LIFState",
    "backends",
    "encode_duplicate",
    "explain",
    "lif",
    "nn",
]
