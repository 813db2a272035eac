"""Fused kernels for spiking neurons: one pass over time, forward and backward."""

from . import neurons, nir, nn
from ._checks import TimeAxisWarning
from ._convert import convert, revert
from ._define.fire import fire
from ._define.layer import neuron
from ._dispatch import Backend, Explanation, ReferenceWarning, backends, explain
from ._unroll.contract import Layer as UnrolledLayer
from ._unroll.module import Unrolled, UnrollWarning, unroll
from .coding import encode_duplicate, encode_gaussian, encode_poisson
from .filters import IIR
from .functional import iir, lif
from .graphs import Graphed, TrainingStep
from .memory import PageFaultWarning, keep_what_is_freed
from .products import spike_conv2d, spike_linear, spikes_can_gain
from .state import LIFState, RecurrentState
from .surrogates import SURROGATES
from .version import __version__

__all__ = [
    "IIR",
    "SURROGATES",
    "Backend",
    "Explanation",
    "Graphed",
    "LIFState",
    "PageFaultWarning",
    "RecurrentState",
    "ReferenceWarning",
    "TimeAxisWarning",
    "TrainingStep",
    "UnrollWarning",
    "Unrolled",
    "UnrolledLayer",
    "__version__",
    "backends",
    "convert",
    "encode_duplicate",
    "encode_gaussian",
    "encode_poisson",
    "explain",
    "fire",
    "iir",
    "keep_what_is_freed",
    "lif",
    "neuron",
    "neurons",
    "nir",
    "nn",
    "revert",
    "spike_conv2d",
    "spike_linear",
    "spikes_can_gain",
    "unroll",
]
