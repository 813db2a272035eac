"""The cells of Norse 1 in a loop: calls of one time step, between which the state goes."""

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .._convert import norse
from .._convert.rules import unfit_coefficients, without_compiler
from .._convert.steps import run as run_defined
from . import marks
from .kinds import Kind, Match, promoted


def _forward(self, input_tensor, state=None):
    if not torch.compiler.is_compiling() or input_tensor.is_sparse:
        return self._hnn_unmarked.forward(self, input_tensor, state)
    if self._hnn_weighted:
        input_tensor = torch.nn.functional.linear(input_tensor, self.input_weights)
    if state is None:
        parts = norse.first_parts(self, self._hnn_names, self._hnn_start, input_tensor)
    else:
        parts = norse.flat(state)
    spikes, *values = marks.step(self._hnn_mark, input_tensor, *parts)
    return spikes, norse.state_of(self._hnn_state, self._hnn_inner, values)


def _given(module: Any, record: bool) -> Any:
    kind, _ = norse.known_step(module)
    assert kind is not None
    return without_compiler() or norse.arguments_of(kind, module, record)


def _run(
    module: Any, current: Tensor, steps: int | None, states: Sequence[Tensor] | None, train: Sequence[bool]
) -> list[Tensor] | str:
    given = _given(module, any(train[1:]))
    whole = current if steps is None else current[None]
    why = given if isinstance(given, str) else unfit_coefficients(whole, given.coefficients)
    if why:
        return why
    count = len(train) - 1
    dtype = promoted(module, current, states or (None,) * count)[0][1]
    before = [torch.zeros_like(whole[0])] * count if states is None else states
    (out, *recorded), after = run_defined(given, current.to(dtype), before, steps)
    return [out, *((recorded if train[i + 1] else after)[i].to(dtype) for i in range(count))]


def _single(module: Any, x: Tensor, states: Sequence[Tensor | None]) -> list[Tensor]:
    parts = [torch.zeros_like(x) if state is None else state for state in states]
    state = norse.state_of(module._hnn_state, module._hnn_inner, parts)
    if module._hnn_weighted:  # they were before the step
        step = sys.modules["norse.torch.functional.leaky_integrator"].li_feed_forward_step
        out, after = step(x, state, module.p, module.dt)
    else:
        out, after = marks.of(module).original.forward(module, x, state)
    return [out, *norse.flat(after)]


KIND = Kind(
    forward=_forward,
    forms=promoted,
    run=_run,
    single=_single,
    given=lambda module: norse.LIBRARY.unknown_version() or _given(module, False),
)


def find(module: nn.Module) -> Match | str | None:
    """Return how a cell of Norse is marked, or None for any other module."""
    kind, weighted = norse.known_step(module)
    if kind is None:
        return None
    attributes = {
        "_hnn_names": norse.part_names(kind), "_hnn_start": kind.start, "_hnn_state": norse.state_class(kind),
        "_hnn_inner": norse.inner_state_class(kind), "_hnn_weighted": weighted,
    }  # fmt: skip
    return Match(KIND, attributes)
