"""The CPU's backend of defined neurons: their C++ is compiled at the first call of a dtype."""

import functools
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .. import _direct, _extensions
from .._ops.autograd import call_backward
from . import compiled, cpp, operator
from .call import NEURONS, Call, with_tensors

# By neuron, dtype, smooth mode and instruction set: the address of the kernels.
_addresses: dict[tuple[str, str, bool, str], int] = {}


def kernels(neuron: str, dtype: str, smooth: bool) -> int:
    """Return the address of a neuron's kernels for the instruction set that the built-in layer takes.

    Raises:
        RuntimeError: there is no compiler, or it fails.
    """
    assert _extensions.cpu is not None
    instruction_set = _extensions.cpu.build_info()["instruction_set"]
    key = neuron, dtype, smooth, instruction_set
    found = _addresses.get(key)
    if found is None:
        source = cpp.source(NEURONS[neuron].step, neuron, dtype, smooth, instruction_set)
        what = f"the neuron {neuron} for {dtype} and {instruction_set}"
        flags = cpp.INSTRUCTION_SETS[instruction_set]
        found = _addresses[key] = compiled.load(source, flags, what, "hnn_defined_kernels")
    return found


def _dtype(call: Call) -> str:
    return str(call.x.dtype).removeprefix("torch.")


def _shared(call: Call, checkpoints: Tensor | None) -> tuple:
    address = kernels(call.neuron, _dtype(call), call.smooth)
    return (
        address, call.x, call.steps is not None, call.length(), list(call.coefficients), list(call.values),
        list(call.states), checkpoints, call.checkpoint_every,
    )  # fmt: skip


def _forward(call: Call, outputs: Sequence[Tensor]) -> None:
    assert _extensions.cpu is not None
    count, states = len(NEURONS[call.neuron].step.outputs), len(call.states)
    checkpoints = outputs[-1] if call.checkpoint_every > 0 else None
    last = list(outputs[count : count + states]) if call.return_state else [None] * states
    _extensions.cpu.defined_forward(*_shared(call, checkpoints), list(outputs[:count]), last)


def _backward(
    grads: Sequence[Tensor | None], checkpoints: Tensor | None, call: Call, gradients: Sequence[Tensor | None]
) -> None:
    assert _extensions.cpu is not None
    count, states = len(NEURONS[call.neuron].step.outputs), len(call.states)
    learnt = 1 + len(call.coefficients)
    last = list(grads[count:]) if call.return_state else [None] * states
    if checkpoints is None:
        call = call._replace(checkpoint_every=0)
    _extensions.cpu.defined_backward(
        *_shared(call, checkpoints), list(grads[:count]), last, gradients[0], list(gradients[1:learnt]),
        list(gradients[learnt:]),
    )  # fmt: skip


operator.define("cpu", _forward, _backward)

# -- the direct way of a call ------------------------------------------------------------------------------------------


class NeuronPlan(_direct.Plan):
    """The plan of a call of a neuron by definition."""

    def __init__(self, call: Call, outputs: Sequence[Tensor], tensors: Sequence[Tensor], places: list[int]) -> None:
        super().__init__(places, len(tensors))
        assert _extensions.cpu is not None
        # Asked for at a call behind another choice of the instruction set.
        self.kernels = functools.partial(kernels, call.neuron, _dtype(call), call.smooth)
        self.call = with_tensors(call, [None] * len(places))
        self.outputs, states = len(NEURONS[call.neuron].step.outputs), len(call.states)
        self.all_outputs = self.outputs + states
        self.time = call.steps is not None, call.length(), list(call.values)
        made = [*outputs, *([None] * (self.all_outputs - len(outputs)))]  # states that are not returned
        self.forward = _extensions.cpu.plan_defined_forward(
            self.kernels, tensors, places, [_direct.model(one, tensors) for one in made], self.outputs, *self.time
        )

    @classmethod
    def of(
        cls, backend: str, call: Call, outputs: Sequence[Tensor], tensors: Sequence[Tensor], given: dict[int, int]
    ) -> "NeuronPlan | None":
        """As :meth:`hnn_kernels._direct.LayerPlan.of`."""
        places = _direct.places_of((call.x, *call.coefficients, *call.states), given)
        if places is None or backend != "cpu" or call.checkpoint_every > 0:  # a plan saves no outputs
            return None
        return cls(call, outputs, tensors, places)

    def gradients(
        self, grads: Sequence[Tensor | None], tensors: Sequence[Tensor | None], wanted: Sequence[bool]
    ) -> list[Tensor | None]:
        call, needs = with_tensors(self.call, tensors), sum(1 << i for i, needed in enumerate(wanted) if needed)
        found = iter(call_backward(operator.backward_ops["cpu"], list(grads), None, *call, needs))
        return [next(found) if needed else None for needed in wanted]

    def plan_backward(
        self, tensors: Sequence[Tensor], places: list[int], there: list[int], models: list, outgoing: list[int],
        saved: Sequence[Tensor],
    ) -> Any:  # fmt: skip
        assert _extensions.cpu is not None
        incoming = [there.index(i) if i in there else -1 for i in range(self.all_outputs)]
        return _extensions.cpu.plan_defined_backward(
            self.kernels, tensors, places, incoming, self.outputs, models, outgoing, self.count + 1, *self.time
        )


_direct.PLANS[Call] = NeuronPlan.of
