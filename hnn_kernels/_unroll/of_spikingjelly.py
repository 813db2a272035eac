"""The neurons of SpikingJelly 2 in a loop, with ``step_mode="s"``."""

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .._convert.libraries import Found, rule_of
from .._convert.rules import unfit_coefficients, without_compiler
from .._convert.spikingjelly_calls import as_states, run_steps
from .._convert.swap import laid_out, of_library
from . import marks
from .kinds import Kind, Match, promoted


class _AllSteps:
    """A module as its conversion sees it: one that may record its states."""

    def __init__(self, module: nn.Module, record: bool = False) -> None:
        self._module, self.store_v_seq, self.store_state_seqs = module, record, record

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _forward(self, x, *args, **kwargs):
    other = self.step_mode != "s" or args or kwargs or getattr(self, "store_v_seq", False)
    if not torch.compiler.is_compiling() or other:
        return self._hnn_unmarked.forward(self, x, *args, **kwargs)
    states = []
    for name in self._hnn_states:
        v = self._memories[name]
        if not isinstance(v, torch.Tensor):
            v = torch.full_like(x, v) if v else torch.zeros_like(x)
        states.append(v)
    found = marks.step(self._hnn_mark, x, *states)
    for name, value in zip(self._hnn_states, found[1:], strict=True):
        self._memories[name] = value
    return found[0]


def _found(module: nn.Module) -> Found:
    found = rule_of(type(module))
    assert found is not None
    return found


def _given(module: nn.Module, record: bool = False) -> Any:
    """Return what a call over all steps needs, or why there is none."""
    found = _found(module)
    why = found.doubt or (without_compiler() if found.rule.compiled else "")
    return why or found.rule.arguments(_AllSteps(module, record))


def _run(
    module: nn.Module, current: Tensor, steps: int | None, states: Sequence[Tensor] | None, train: Sequence[bool]
) -> list[Tensor] | str:
    names = _found(module).rule.states
    dtype = promoted(module, current, states or (None,) * len(names))[0][1]
    x = (current if steps is None else current.expand(steps, *current.shape)).to(dtype)
    given = _given(module, train[1])
    if not isinstance(given, str):
        given = laid_out(given, x)
        given = unfit_coefficients(x, given.coefficients) or given
    if isinstance(given, str):
        return given
    before = as_states((0.0,) * len(names) if states is None else tuple(states), x)
    out, after, recorded = run_steps(_AllSteps(module), given, x, before, train[1])
    return [out, recorded[0] if train[1] else after[0].to(dtype), *(value.to(dtype) for value in after[1:])]


def _single(module: Any, x: Tensor, states: Sequence[Tensor | None]) -> list[Tensor]:
    names = _found(module).rule.states
    for name, v in zip(names, states, strict=True):
        setattr(module, name, torch.zeros_like(x) if v is None else v)
    spikes = marks.of(module).original.forward(module, x)
    return [spikes, *(getattr(module, name) for name in names)]


KIND = Kind(forward=_forward, forms=promoted, run=_run, single=_single, given=_given)


# The functions that the compiler has another text of already.
_substituted: set[Any] = set()


def make_known() -> None:
    """Have the compiler trace ``functional.reset_net`` as what it does, without the list that it keeps of networks.

    That list has weak references. The compiler takes its entries by their places, which move when any other network
    is collected: by chance between its trace and its guards, or while the graph runs.
    """
    place: Any = sys.modules.get("spikingjelly.activation_based.functional.net_config")
    reset_net: Any = getattr(place, "reset_net", None)
    if not hasattr(place, "reset_collected_modules") or reset_net in _substituted:
        return

    def reset_all(net):
        place.reset_collected_modules(place.collect_reset_modules(net))

    torch.compiler.substitute_in_graph(reset_net, skip_signature_check=True)(reset_all)
    _substituted.add(reset_net)


def find(module: nn.Module) -> Match | str | None:
    """Return how a neuron of SpikingJelly is marked, why it is not, or None for any other module."""
    kind = of_library(type(module))
    found = rule_of(kind) if kind.__module__.startswith("spikingjelly.activation_based.neuron") else None
    if found is None or not found.rule.states:
        return None
    states = found.rule.states
    # Of two states only the first one is recorded at every step.
    return Match(KIND if len(states) == 1 else KIND._replace(records=False), {"_hnn_states": states})
