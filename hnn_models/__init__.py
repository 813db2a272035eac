"""Hybrid networks of artificial and spiking layers (Muramatsu & Yu 2021), built on :mod:`hnn_kernels`.

The network is importable with torch alone; training and the command line (:mod:`hnn_models.training.learning`,
:mod:`hnn_models.cli`) need the extra ``models``.
"""

from .network.layers import CODINGS, SpikingLayer
from .network.network import HybridNetwork
from .network.notation import NotationError, parse

__all__ = ["CODINGS", "HybridNetwork", "NotationError", "SpikingLayer", "parse"]
