"""The neurons of snnTorch in a loop."""

import importlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .._convert import snntorch_steps as steps
from . import marks
from .kinds import Form, Kind, Match


def _forward(self, input_, *given, **named):
    if not torch.compiler.is_compiling():
        return self._hnn_unmarked.forward(self, input_, *given, **named)
    names = self._hnn_states
    steps.keep(self, names, input_, {**dict(zip(names, given, strict=False)), **named})
    found = marks.step(self._hnn_mark, input_, *[self._buffers[name] for name in names])
    for name, value in zip(names, found[1:], strict=True):
        self._buffers[name] = value
    return steps.result(self, names, found)


def _reset(self):
    """Return zeros without a look at the shape of the last state, on which the compiled loop would then depend.

    A call of the neuron makes zeros of the shape of its input from them. If the loop does anything else with them, it
    is compiled again without this.
    """
    if not torch.compiler.is_compiling() or not self._hnn_blank:
        return self._hnn_unmarked.reset_mem(self)
    blanks = []
    for name in self._hnn_states:
        blanks.append(marks.blank(self._hnn_mark))
        self._buffers[name] = blanks[-1]
    return blanks[0] if len(blanks) == 1 else tuple(blanks)


def _forms(module: nn.Module, x: Tensor, states: Sequence[Tensor | None]) -> list[Form]:
    name = steps.known(module) or ""
    given = [state for state in states if state is not None]
    return [(x.shape, dtype) for dtype in steps.dtypes(module, name, x, given or None)]


def _single(module: Any, x: Tensor, states: Sequence[Tensor | None]) -> list[Tensor]:
    mark = marks.of(module)
    names = steps.STATES[steps.known(module) or ""]
    for name, value in zip(names, states, strict=True):
        setattr(module, name, torch.zeros_like(x) if value is None else value)
    found = mark.original.forward(module, x)
    return [found[0] if isinstance(found, tuple) else found, *(getattr(module, name) for name in names)]


KIND = Kind(
    forward=_forward,
    forms=_forms,
    run=steps.run,
    single=_single,
    given=steps.arguments_of,
    methods={"reset_mem": _reset},
)


def _define_flags() -> None:
    """Define the global names that ``snntorch.utils.reset`` writes first and then reads in another function.

    The compiler does not find there what the function that it follows has just defined.
    """
    utils = importlib.import_module("snntorch.utils")
    for name in utils.reset.__code__.co_names:
        if name.startswith("is_"):
            vars(utils).setdefault(name, False)


def find(module: nn.Module) -> Match | str | None:
    """Return how a neuron of snnTorch is marked, why its class is not, or None for any other module."""
    name = steps.known(module)
    if name in steps.STATES:
        _define_flags()
        return Match(KIND, {"_hnn_states": steps.STATES[name]})
    return None if name is None else KIND.refusal(module)
