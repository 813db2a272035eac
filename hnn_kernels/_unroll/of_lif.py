"""This package's own layer in a loop: calls of one time step, between which the state goes."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .._convert.libraries import subclass_of
from .._convert.rules import full_name
from ..nn.lif import LIF
from ..state import LIFState, state_dtype
from . import marks
from .kinds import Form, Kind, Match


def _state(module: Any, parts: Sequence[Tensor]) -> LIFState:
    """Return the state of its parts, of which a layer without a filter has no third or fourth."""
    filtered = parts[2:]
    synapse = None if module.synapse is None else filtered[0]
    return LIFState(parts[0], parts[1], synapse, None if module.axon is None else filtered[-1])


def _forward(self, current, *, steps=None, state=None, return_state=False, filters=None, recurrence=None):
    one = steps == 1 if steps is not None else current.shape[0] == 1
    compiled = torch.compiler.is_compiling()
    if not compiled or not one or not return_state or filters is not None or recurrence is not None:
        return self._hnn_unmarked.forward(
            self, current, steps=steps, state=state, return_state=return_state, filters=filters, recurrence=recurrence
        )
    x = current if steps is not None else current[0]
    states = [None] * self._hnn_count if state is None else [part for part in state if part is not None]
    found = marks.step(self._hnn_mark, x, *states)
    outputs = len(found) - self._hnn_count
    after = _state(self, found[outputs:])
    outs = [out.unsqueeze(0) for out in found[:outputs]]
    return (outs[0] if outputs == 1 else tuple(outs)), after


def _outputs(module: Any) -> int:
    return 1 + (module.readout == "spikes" and module.potential == "train")


def _forms(module: Any, x: Tensor, states: Sequence[Tensor | None]) -> list[Form]:
    dtype = state_dtype(x.dtype)
    forms: list[Form] = [(x.shape, x.dtype)] * _outputs(module)
    forms += [(x.shape, dtype)] * 2
    for part in (module.synapse, module.axon):
        if part is not None:
            feedback, feedforward = part.coefficients
            forms.append(((len(feedback) + len(feedforward) - 1, *x.shape), dtype))
    return forms


def _run(
    module: Any, current: Tensor, steps: int | None, states: Sequence[Tensor] | None, train: Sequence[bool]
) -> list[Tensor]:
    state = None if states is None else _state(module, states)
    out, after = marks.of(module).original.forward(module, current, steps=steps, state=state, return_state=True)
    return [*(out if isinstance(out, tuple) else (out,)), *(part for part in after if part is not None)]


def _single(module: Any, x: Tensor, states: Sequence[Tensor | None]) -> list[Tensor]:
    given = None if states[0] is None else states
    found = _run(module, x, 1, given, ())  # type: ignore[arg-type]
    outputs = _outputs(module)
    return [*(out[0] for out in found[:outputs]), *found[outputs:]]


def _refusal(module: Any) -> str:
    read = (module.readout, module.potential)
    if read in (("spikes", "none"), ("spikes", "train"), ("none", "train")):
        return ""
    return f"readout={read[0]!r} with potential={read[1]!r} has no value of a step"


KIND = Kind(forward=_forward, forms=_forms, run=_run, single=_single, given=_refusal, outputs=_outputs, records=False)


def find(module: nn.Module) -> Match | str | None:
    """Return how a layer is marked, why it is not, or None for any other module."""
    if type(module) is not LIF:
        return subclass_of(full_name(LIF)) if isinstance(module, LIF) else None
    count = 2 + (module.synapse is not None) + (module.axon is not None)
    return _refusal(module) or Match(KIND, {"_hnn_count": count})
