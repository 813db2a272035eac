"""The steps of the built-in layer, for a loop over time in which something happens between two of them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from . import _direct, _dispatch, reference
from ._layer import FORWARD_SCHEMA, INCOMING, SETTINGS, STATE_OPERANDS, TENSORS, Layer
from ._ops import kinds, recurrent
from ._ops.autograd import apply, transformed
from ._ops.layer import _output_shape, backward_ops, forward_ops

# The settings that say what a call reads out of its steps. A step has the defaults: its output and its state.
_READ_OUTS = ("readout", "potential")
_PLAIN = {setting.name: setting.default for setting in SETTINGS if setting.name in _READ_OUTS}
_STEP = _PLAIN | {"steps": None, "return_state": True, "checkpoint_every": 0}
# By key: the plans of steps.
_plans: dict[bytes, _direct.LayerPlan] = {}


def _below(operator: Callable, *arguments: Any) -> Sequence[Tensor]:
    with torch._C._AutoDispatchBelowAutograd():
        return operator(*arguments)


class LayerSteps:
    """The steps of the built-in layer (:class:`hnn_kernels._ops.kinds.Steps`), by plans where a call may be direct.

    With gradients enabled, a step can be differentiated as a call of its own.
    """

    def __init__(self, call: Layer, backend: str):
        self.call, self.backend = call._replace(**_STEP), backend
        self.settings = self.call[len(TENSORS) :]
        self.names = self.call.outputs()
        self.places = [0, *(TENSORS.index(name) for name in self.names[1:])]
        # The tensors that a step has, by their places, and among these the current's and the states'.
        self.there = sorted({*self.places, *(i for i, t in enumerate(self.call[: len(TENSORS)]) if t is not None)})
        self.own = [self.there.index(place) for place in self.places]
        self.plan: _direct.LayerPlan | None = None
        self.may_plan = self._may_plan()
        self.run_backward: Callable | None = None

    def _may_plan(self) -> bool:
        current, backend = self.call.current, self.backend
        if transformed() or _direct._describe is None or not _direct.plain():
            return False
        # A plan of Triton is for aligned addresses, and the steps of a train follow each other.
        aligned = current.device.type == "cpu" or self.call.shape.numel() % 16 == 0
        constant = not any(isinstance(setting, Tensor) for setting in self.settings)
        return aligned and constant and (backend, current.device.type) in _direct._HOSTS

    def _tensors(self, x: Tensor, states: Sequence[Tensor]) -> list[Any]:
        tensors = list(self.call[: len(TENSORS)])
        tensors[0] = x
        for place, state in zip(self.places[1:], states, strict=True):
            tensors[place] = state
        return tensors

    def _planned(self, tensors: Sequence[Any]) -> Sequence[Tensor] | None:
        """Find or make the plan; return the outputs of a step if that made it."""
        self.may_plan = False
        assert _direct._describe is not None
        described = _direct._describe((self.backend, *tensors, *self.settings), {}, False)
        if described is None:
            return None
        key, given, _ = described
        self.plan = _plans.get(key)
        if self.plan is not None:
            return None
        if len(_plans) >= _direct.MOST:
            _plans.clear()
        with torch.no_grad():
            outputs = _below(forward_ops[self.backend], *tensors, *self.settings)
        places = [self.there.index(i) if i in self.there else -1 for i in range(len(TENSORS))]
        call = Layer(*tensors, *self.settings)
        self.plan = _plans[key] = _direct.LayerPlan(self.backend, call, outputs, given, places)
        return outputs

    def forward(self, x: Tensor, states: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the output of a step, and the states after it."""
        tensors = self._tensors(x, states)
        given = tuple([tensors[i] for i in self.there])
        learns = torch.is_grad_enabled() and any(t.requires_grad for t in given)
        if self.may_plan:
            outputs = self._planned(tensors)
            if outputs is not None and not learns:
                return outputs
        if self.plan is not None:
            return _direct._apply(self.plan, *given) if learns else self.plan.forward(given)
        if learns or transformed():
            return apply(Layer(*tensors, *self.settings), self.backend)
        return _below(forward_ops[self.backend], *tensors, *self.settings)

    def backward(
        self, x: Tensor, states: Sequence[Tensor], grad_out: Tensor, grad_states: Sequence[Tensor]
    ) -> Sequence[Tensor]:
        """Return the gradients of the current of a step, and of the states before it."""
        tensors, grads = self._tensors(x, states), (grad_out, *grad_states)
        given = tuple([tensors[i] for i in self.there])
        if self.run_backward is not None:
            found = self.run_backward((*grads, *given))
            return [found[i + 1] for i in self.own]
        if self.may_plan:
            self._planned(tensors)
        described = None
        if self.plan is not None and _direct._describe is not None:
            needed = (False, *(i in self.own for i in range(len(given))))
            described = _direct._describe((needed, grads, given), {}, False)
        if self.plan is not None and described is not None:
            self.run_backward = self.plan.backward.get(described[0])
            if self.run_backward is not None:
                return self.backward(x, states, grad_out, grad_states)
        gradients = self._gradients(tensors, grads, self.places)
        if self.plan is not None and described is not None:
            self.plan.keep_backward(described, grads, given, gradients)
        return [gradients[place] for place in self.places]  # type: ignore[misc]

    def _gradients(self, tensors: Sequence[Any], grads: Sequence[Tensor], wanted: Sequence[int]) -> list[Tensor | None]:
        """Return the gradients of the tensors at the places that are wanted, None for the others."""
        incoming = dict.fromkeys(INCOMING) | {f"grad_{n}": grad for n, grad in zip(self.names, grads, strict=True)}
        needs = sum(1 << place for place in wanted)
        found = _below(backward_ops[self.backend], *incoming.values(), *tensors, *self.settings, needs)
        result: list[Tensor | None] = [None] * len(TENSORS)
        for place, gradient in zip(sorted(wanted), found, strict=True):
            result[place] = gradient
        return result

    def learnt(
        self, x: Tensor, grad_out: Tensor, grad_states: Sequence[Tensor], wanted: Sequence[bool]
    ) -> Sequence[Tensor | None]:
        """Return the gradients of the coefficients that are wanted, in one kernel over all steps."""
        tensors = [x, *self.call[1 : len(TENSORS)]]
        return self._gradients(tensors, (grad_out, *grad_states), [i for i, needed in enumerate(wanted) if needed])


class ReferenceSteps:
    """The steps of the built-in layer in plain PyTorch."""

    def __init__(self, call: Layer):
        self.call = call._replace(**_STEP)
        self.states = [TENSORS[place] for place in _states(call)]

    def forward(self, x: Tensor, states: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the output of a step, and the states after it."""
        return reference.layer(self.call._replace(current=x, **dict(zip(self.states, states, strict=True))))


def _state_shape(call: Layer, place: int) -> tuple[int, ...]:
    return _output_shape(call, next(operand for operand in STATE_OPERANDS if operand.name == TENSORS[place]))


def _states(call: Layer) -> list[int]:
    return [TENSORS.index(name) for name in call._replace(**_STEP).outputs()[1:]]


def _choose(call: Layer, backend: str | None) -> str:
    chosen = _dispatch.choose(call.current.device, backend, call)
    if chosen == "reference":
        _dispatch.warn_of_the_reference(call.current.device, backend, stacklevel=9)  # the call of the module
    return chosen


LAYER = kinds.Kind(
    name="lif",
    schema=FORWARD_SCHEMA[1 : FORWARD_SCHEMA.index(") ->")],
    call=Layer,
    tensors=lambda call: call[: len(TENSORS)],
    with_tensors=lambda call, tensors: Layer(*tensors, *call[len(TENSORS) :]),
    states=_states,
    state_shapes=lambda call: [_state_shape(call, place) for place in _states(call)],
    steps=lambda call, backend: ReferenceSteps(call) if backend == "reference" else LayerSteps(call, backend),
    plain=lambda call: all(getattr(call, name) == default for name, default in _PLAIN.items()),
    choose=_choose,
)
recurrent.define(LAYER, _dispatch.KERNEL_BACKENDS)
