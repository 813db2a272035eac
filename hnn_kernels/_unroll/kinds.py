"""The neurons that a loop may call step by step, in one table: class, what a compiler sees of a step, and its train.

A kind has a ``forward`` that takes the place of the class's own while the compiler traces. It does what the class does
around a step, and calls :func:`hnn_kernels._unroll.marks.step` for the step itself.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .._convert import snntorch
from ..nn import lif as own
from ..state import LIFState, state_dtype
from . import marks

# The shape and dtype of a tensor.
Form = tuple[Sequence[int], torch.dtype]


class Kind(NamedTuple):
    """One class of neurons, or several that are marked alike.

    A step takes a current and the states, and returns the outputs, then the states.

    Attributes:
        forward: takes the place of the class's own.
        methods: further methods that do.
        outputs: gives the number of outputs, ahead of the states.
        forms: gives, from a module, the current of a step and its states, the forms of all that a step returns.
        run: gives, from a module, the current of all steps, their number if the current is constant, the states before
            them, and which results are wanted of all steps, those results; or the reason why its steps have to run one by
            one.
        single: gives the results of a step as the class itself computes it.
        records: tells if the states of all steps can be had.
        refusal: gives the reason why the steps of a module cannot be one call; empty if they can.
    """

    forward: Callable
    methods: dict[str, Callable]
    outputs: Callable[[nn.Module], int]
    forms: Callable[[nn.Module, Tensor, Sequence[Tensor | None]], list[Form]]
    run: Callable[..., list[Tensor] | str]
    single: Callable[..., list[Tensor]]
    records: bool
    refusal: Callable[[nn.Module], str]


# -- snnTorch -----------------------------------------------------------------------------------------------------


def _snntorch_forward(self, input_, *given, **named):
    if not torch.compiler.is_compiling():
        return self._hnn_original.forward(self, input_, *given, **named)
    names = self._hnn_states
    states = {**dict(zip(names, given, strict=False)), **named}
    for name, value in states.items():
        if value is not None:
            if self.init_hidden:
                raise TypeError(f"`{name}` should not be passed as an argument while `init_hidden=True`")
            self._buffers[name] = value
    for name in names:
        if self._buffers[name].shape != input_.shape:
            self._buffers[name] = torch.zeros_like(input_)
    found = marks.step(self._hnn_mark, input_, *[self._buffers[name] for name in names])
    for name, value in zip(names, found[1:], strict=True):
        self._buffers[name] = value
    return found[0] if self.init_hidden and not self.output else found


def _snntorch_reset(self):
    """Return zeros without a look at the shape of the last state, on which the compiled loop would then depend.

    A call of the neuron makes zeros of the shape of its input from them. If the loop does anything else with them, it
    is compiled again without this.
    """
    if not torch.compiler.is_compiling() or not self._hnn_blank:
        return self._hnn_original.reset_mem(self)
    blanks = []
    for name in self._hnn_states:
        blanks.append(marks.blank(self._hnn_mark))
        self._buffers[name] = blanks[-1]
    return blanks[0] if len(blanks) == 1 else tuple(blanks)


def _snntorch_forms(module: nn.Module, x: Tensor, states: Sequence[Tensor | None]) -> list[Form]:
    kept, spikes = snntorch.dtypes(module, x, [s for s in states if s is not None])
    return [(x.shape, spikes), *((x.shape, kept) for _ in states)]


def _snntorch_single(module: Any, x: Tensor, states: Sequence[Tensor | None]) -> list[Tensor]:
    mark = marks.of(module)
    names = snntorch.STATES[mark.original.__name__]
    for name, value in zip(names, states, strict=True):
        setattr(module, name, torch.zeros_like(x) if value is None else value)
    found = mark.original.forward(module, x)  # type: ignore[attr-defined]
    return [found[0] if isinstance(found, tuple) else found, *(getattr(module, name) for name in names)]


def _snntorch_refusal(module: nn.Module) -> str:
    found = snntorch.lif_arguments(module)
    return found if isinstance(found, str) else ""


_SNNTORCH = Kind(
    forward=_snntorch_forward,
    methods={"reset_mem": _snntorch_reset},
    outputs=lambda module: 1,
    forms=_snntorch_forms,
    run=snntorch.run,
    single=_snntorch_single,
    records=True,
    refusal=_snntorch_refusal,
)


# -- this package -------------------------------------------------------------------------------------------------


def _own_forward(self, current, *, steps=None, state=None, return_state=False, filters=None, recurrence=None):
    one = steps == 1 if steps is not None else current.shape[0] == 1
    compiled = torch.compiler.is_compiling()
    if not compiled or not one or not return_state or filters is not None or recurrence is not None:
        return self._hnn_original.forward(
            self, current, steps=steps, state=state, return_state=return_state, filters=filters, recurrence=recurrence
        )
    x = current if steps is not None else current[0]
    states = [None] * self._hnn_count if state is None else [part for part in state if part is not None]
    found = marks.step(self._hnn_mark, x, *states)
    outputs = len(found) - self._hnn_count
    v, r, *filtered = found[outputs:]
    after = LIFState(
        v, r, filtered.pop(0) if self.synapse is not None else None, filtered.pop(0) if self.axon is not None else None
    )
    outs = [out.unsqueeze(0) for out in found[:outputs]]
    return (outs[0] if outputs == 1 else tuple(outs)), after


def _own_outputs(module: Any) -> int:
    return 1 + (module.readout == "spikes" and module.potential == "train")


def _own_forms(module: Any, x: Tensor, states: Sequence[Tensor | None]) -> list[Form]:
    dtype = state_dtype(x.dtype)
    forms: list[Form] = [(x.shape, x.dtype)] * _own_outputs(module) + [(x.shape, dtype)] * 2
    for part in (module.synapse, module.axon):
        if part is not None:
            feedback, feedforward = part.coefficients
            forms.append(((len(feedback) + len(feedforward) - 1, *x.shape), dtype))
    return forms


def _own_run(
    module: Any, current: Tensor, steps: int | None, states: Sequence[Tensor] | None, train: Sequence[bool]
) -> list[Tensor]:
    state = None
    if states is not None:
        v, r, *filtered = states
        synapse = filtered.pop(0) if module.synapse is not None else None
        state = LIFState(v, r, synapse, filtered.pop(0) if module.axon is not None else None)
    out, after = marks.of(module).original.forward(  # type: ignore[attr-defined]
        module, current, steps=steps, state=state, return_state=True
    )
    return [*(out if isinstance(out, tuple) else (out,)), *(part for part in after if part is not None)]


def _own_single(module: Any, x: Tensor, states: Sequence[Tensor | None]) -> list[Tensor]:
    given = None if states[0] is None else states
    found = _own_run(module, x, 1, given, ())  # type: ignore[arg-type]
    outputs = _own_outputs(module)
    return [*(out[0] for out in found[:outputs]), *found[outputs:]]


def _own_refusal(module: Any) -> str:
    read = (module.readout, module.potential)
    if read in (("spikes", "none"), ("spikes", "train"), ("none", "train")):
        return ""
    return f"readout={read[0]!r} with potential={read[1]!r} has no value of a step"


_OWN = Kind(
    forward=_own_forward,
    methods={},
    outputs=_own_outputs,
    forms=_own_forms,
    run=_own_run,
    single=_own_single,
    records=False,
    refusal=_own_refusal,
)


class Match(NamedTuple):
    """The kind of a module, with what its marked class needs to know."""

    kind: Kind
    attributes: dict[str, Any]


def find(module: nn.Module) -> Match | str | None:
    """Return the kind of a module, why its class has none, or None if it is no neuron that is known."""
    if type(module) is own.LIF:
        count = 2 + (module.synapse is not None) + (module.axon is not None)
        return _own_refusal(module) or Match(_OWN, {"_hnn_count": count})
    name = snntorch.known(module)
    if name in snntorch.STATES:
        return Match(_SNNTORCH, {"_hnn_states": snntorch.STATES[name]})
    return None if name is None else _snntorch_refusal(module)
