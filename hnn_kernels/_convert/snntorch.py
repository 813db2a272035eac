"""snnTorch 1: its filters over time are converted. Its other neurons get one step in a call, and stay."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from ..functional import iir
from .rules import Library, Rule, coefficients_of
from .swap import arguments


class Filter(NamedTuple):
    """The decay of a filter over time."""

    coefficients: Mapping[str, Any]


def _filter(module: Any) -> Filter | str:
    if module.kernel_truncation_steps is not None:
        return "its filter ends after kernel_truncation_steps"
    return Filter({"decay": torch.exp(-1 / module.tau)})


def _potential(self: Any, x: Any) -> Any:
    """Return the potential of all steps; what fires on it is the library's."""
    given = arguments(self, x)
    if given is None:
        return self._hnn_original._base_state_function(self, x)
    return iir(x, tuple(coefficients_of(given, x).values()), (1.0,), return_state=False)[0]


_STEP = (
    "it gets one step in a call, and a kernel for one step gains nothing: hnn_kernels.unroll computes the loop over "
    "time with one kernel for each layer"
)
_NEURONS = "snntorch._neurons."
_SINGLE = {
    "leaky": ("Leaky",), "synaptic": ("Synaptic",), "alpha": ("Alpha",), "lapicque": ("Lapicque",),
    "deltaleaky": ("DeltaLeaky",), "rleaky": ("RLeaky",), "rsynaptic": ("RSynaptic",), "slstm": ("SLSTM",),
    "sconv2dlstm": ("SConv2dLSTM",),
}  # fmt: skip
_REASONS = {f"{_NEURONS}{file}.{name}": _STEP for file, names in _SINGLE.items() for name in names} | {
    f"{_NEURONS}leakyparallel.LeakyParallel": "it computes all steps already, as torch.nn.RNN with a ReLU",
    f"{_NEURONS}associative.AssociativeLeaky": "it computes all steps already, as sums over time without a reset",
}
_RULE = Rule("iir in the place of its convolution over time", _filter, {"_base_state_function": _potential})

LIBRARY = Library(
    "snntorch",
    ("1.",),
    {f"{_NEURONS}{name}": _RULE for name in ("stateleaky.StateLeaky", "linearleaky.LinearLeaky")},
    _REASONS,
    (_NEURONS,),
)
