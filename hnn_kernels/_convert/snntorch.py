"""snnTorch 1: neurons that get one step in a call, each a kernel of its own, and filters over time."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch

from ..functional import iir
from . import snntorch_steps as steps
from .rules import ONE_STEP, Library, Rule, coefficients_of
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


def _forward(kind: str) -> Callable:
    """Return the forward of a class that gets one step."""
    names = steps.STATES[kind]

    def forward(self, input_: Any, *given: Any, **named: Any) -> Any:
        defined = arguments(self, input_, one=True)
        if defined is None or len(given) > len(names) or not named.keys() <= set(names):
            return self._hnn_original.forward(self, input_, *given, **named)
        steps.keep(self, names, input_, {**dict(zip(names, given, strict=False)), **named})
        return steps.result(self, names, steps.one_step(self, kind, defined, input_))

    return forward


_NEURONS = "snntorch._neurons."
_SINGLE = {
    "leaky": "Leaky", "synaptic": "Synaptic", "alpha": "Alpha", "lapicque": "Lapicque", "rleaky": "RLeaky",
    "rsynaptic": "RSynaptic",
}  # fmt: skip
_REASONS = {
    f"{_NEURONS}deltaleaky.DeltaLeaky": "it resets nothing, and a call takes longer than torch's few sums of a step",
    f"{_NEURONS}slstm.SLSTM": "its steps have products of their own",
    f"{_NEURONS}sconv2dlstm.SConv2dLSTM": "its steps have convolutions of their own",
    f"{_NEURONS}leakyparallel.LeakyParallel": "it computes all steps already, as torch.nn.RNN with a ReLU",
    f"{_NEURONS}associative.AssociativeLeaky": "it computes all steps already, as sums over time without a reset",
}
# The weights inside of a neuron, and no neuron: they have no entry of their own.
_REASONS |= {f"{_NEURONS}{file}.RecurrentOneToOne": "" for file in ("rleaky", "rsynaptic")}
_FILTER = Rule("iir in the place of its convolution over time", _filter, {"_base_state_function": _potential})


def _rule(name: str) -> Rule:
    return Rule(ONE_STEP, partial(steps.definition_of, name), {"forward": _forward(name)}, True)


LIBRARY = Library(
    "snntorch",
    ("1.",),
    {f"{_NEURONS}{name}": _FILTER for name in ("stateleaky.StateLeaky", "linearleaky.LinearLeaky")}
    | {f"{_NEURONS}{file}.{name}": _rule(name) for file, name in _SINGLE.items()},
    _REASONS,
    (_NEURONS,),
)
