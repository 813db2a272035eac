"""The neurons of SpikingJelly 2 in a loop, with ``step_mode="s"``."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .._convert import spikingjelly
from .._convert.libraries import rule_of
from .._convert.rules import unfit_coefficients
from . import marks
from .kinds import Form, Kind, Match

_NAMES = ("IFNode", "LIFNode", "ParametricLIFNode")


class _AllSteps:
    """A module as its conversion sees it: one that gets all steps in a call."""

    step_mode = "m"

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _forward(self, x, *args, **kwargs):
    if not torch.compiler.is_compiling() or self.step_mode != "s" or args or kwargs or self.store_v_seq:
        return self._hnn_original.forward(self, x, *args, **kwargs)
    v = self._memories["v"]
    if not isinstance(v, torch.Tensor):
        v = torch.full_like(x, v) if v else torch.zeros_like(x)
    spikes, self._memories["v"] = marks.step(self._hnn_mark, x, v)
    return spikes


def _forms(module: nn.Module, x: Tensor, states: Sequence[Tensor | None]) -> list[Form]:
    (v,) = states
    dtype = x.dtype if v is None else torch.promote_types(x.dtype, v.dtype)
    return [(x.shape, dtype)] * 2


def _given(module: nn.Module) -> Any:
    """Return what a call over all steps needs, or why there is none."""
    kind = getattr(type(module), "_hnn_original", type(module))
    found = rule_of(kind)
    assert found is not None
    return found.doubt or found.rule.arguments(_AllSteps(module))


def _run(
    module: nn.Module, current: Tensor, steps: int | None, states: Sequence[Tensor] | None, train: Sequence[bool]
) -> list[Tensor] | str:
    (_, dtype), _ = _forms(module, current, states or (None,))
    x = (current if steps is None else current.expand(steps, *current.shape)).to(dtype)
    given = _given(module)
    if not isinstance(given, str):
        given = unfit_coefficients(x, given.coefficients) or given
    if isinstance(given, str):
        return given
    before = spikingjelly._as_states((0.0,) if states is None else tuple(states), x)
    out, after, recorded = spikingjelly._run(_AllSteps(module), given, x, before, train[1])
    return [out, recorded if train[1] else after[0].to(dtype)]


def _single(module: Any, x: Tensor, states: Sequence[Tensor | None]) -> list[Tensor]:
    module.v = torch.zeros_like(x) if states[0] is None else states[0]
    spikes = marks.of(module).original.forward(module, x)
    return [spikes, module.v]


def _refusal(module: nn.Module) -> str:
    found = _given(module)
    return found if isinstance(found, str) else ""


KIND = Kind(
    forward=_forward,
    methods={},
    outputs=lambda module: 1,
    forms=_forms,
    run=_run,
    single=_single,
    records=True,
    refusal=_refusal,
)


def find(module: nn.Module) -> Match | str | None:
    """Return how a neuron of SpikingJelly is marked, or None for any other module."""
    kind = type(module)
    known = kind.__name__ in _NAMES and kind.__module__.startswith("spikingjelly.activation_based.neuron")
    return Match(KIND, {}) if known and rule_of(kind) is not None else None
