"""The backend of defined neurons for GPUs: device functions that Triton compiles at the first launch."""

import functools
import linecache
import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import triton
from torch import Tensor

from .._triton.defined import Form, neuron_backward_kernel, neuron_forward_kernel
from .._triton.launch import CHUNK, launch, nonempty, scalar, segment_steps
from .._triton.layout import opaque, place
from ..state import state_dtype
from . import operator, triton_source
from .call import NEURONS, Call

# A step with more values than these, which backward holds in registers, has shorter segments.
_FEW_VALUES = 4


class Places(NamedTuple):
    """The strides of each operand over the collapsed dims of a step; None for a dense one, and an absent one.

    ``out`` stands for all outputs, and ``kept`` for what the host allocated in the order of the shape.
    """

    x: Any = None
    coefficients: Any = None
    states: Any = None
    out: Any = None
    kept: Any = None
    grads: Any = None
    grad_last: Any = None
    grad_x: Any = None


@functools.cache
def _functions(neuron: str, dtype: str, smooth: bool) -> tuple[SimpleNamespace, triton_source.Source]:
    """Return a neuron's device functions, and what was written.

    Triton reads their source where Python's tracebacks find that of a doctest: so it needs no file, and there is none
    that another process could have changed.
    """
    written = triton_source.source(NEURONS[neuron].step, neuron, dtype, smooth)
    text = written.text
    name = f"<hnn_kernels neuron {neuron} {dtype}{' smooth' if smooth else ''}>"
    linecache.cache[name] = len(text), None, text.splitlines(keepends=True), name
    found: dict[str, Any] = {"__name__": name}
    exec(compile(text, name, "exec"), found)
    return SimpleNamespace(**{key: value for key, value in found.items() if not key.startswith("__")}), written


def _of(call: Call) -> tuple[SimpleNamespace, triton_source.Source]:
    return _functions(call.neuron, str(state_dtype(call.x.dtype)).removeprefix("torch."), call.smooth)


class _Operands:
    """The operands of a launch: those that are there, and their places."""

    def __init__(self, call: Call):
        self._shape = tuple(call.shape())
        self._strides: list[tuple[int, ...]] = []
        self._always: list[bool] = []

    def add(self, operand: Any, coefficient: bool = False) -> int | None:
        """Take an operand; return its number, None if it has no place."""
        if not isinstance(operand, Tensor):
            return None
        step = operand.stride()[1:] if operand.dim() > len(self._shape) else operand.expand(self._shape).stride()
        self._strides.append(step)
        self._always.append(coefficient)
        return len(self._strides) - 1

    def add_all(self, operands: Sequence[Any], coefficient: bool = False) -> tuple[int | None, ...]:
        """Take several operands."""
        return tuple(self.add(operand, coefficient) for operand in operands)

    def placed(self, numbers: Places) -> tuple[tuple[int, ...] | None, Places]:
        """Return the kernels' sizes, and the places with strides for the numbers."""
        sizes, found = place(self._shape, tuple(self._strides), tuple(self._always))

        def strides(number):
            if isinstance(number, tuple):
                return tuple(map(strides, number)) or None
            return None if number is None else found[number]

        return sizes, Places(*map(strides, numbers))


def _coefficients(call: Call) -> tuple:
    dtype = state_dtype(call.x.dtype)
    pairs = zip(call.coefficients, call.values, strict=True)
    return tuple(scalar(value, dtype) if tensor is None else tensor for tensor, value in pairs)


def _time_step(train: Tensor | None, call: Call) -> int:
    """Return the stride in time of the input or its gradient."""
    return 0 if train is None or call.steps is not None else train.stride(0)


def _form(call: Call, sums: int) -> Form:
    outputs = len(NEURONS[call.neuron].step.outputs)
    return Form(len(call.coefficients), len(call.states), outputs, sums, call.steps is not None)


def _forward(call: Call, outputs: Sequence[Tensor]) -> None:
    neurons = math.prod(call.shape())
    if neurons == 0:
        return
    form, (found, _) = _form(call, 0), _of(call)
    trains = outputs[: form.outputs]
    last = tuple(outputs[form.outputs : form.outputs + form.states]) if call.return_state and form.states else None
    (checkpoints,) = nonempty([outputs[-1] if call.checkpoint_every > 0 else None])
    coefficients = _coefficients(call)
    operands = _Operands(call)
    sizes, places = operands.placed(
        Places(
            x=operands.add(call.x), coefficients=operands.add_all(coefficients, True),
            states=operands.add_all(call.states), out=operands.add(trains[0]),
            kept=operands.add(last[0] if last else None),
        )
    )  # fmt: skip
    launch(
        neuron_forward_kernel, neurons, state_dtype(call.x.dtype),
        call.x, coefficients or None, tuple(call.states) or None, tuple(trains), last, checkpoints,
        call.length(), neurons, call.checkpoint_every, _time_step(call.x, call), trains[0].stride(0), sizes, places,
        form, found.hoist, found.step,
        unrolled=CHUNK,
    ).start(call.x)  # fmt: skip


def _backward(
    grads: Sequence[Tensor | None], checkpoints: Tensor | None, call: Call, gradients: Sequence[Tensor | None]
) -> None:
    dtype, learnt = state_dtype(call.x.dtype), gradients[1 : 1 + len(call.coefficients)]
    # Per neuron, and summed afterwards: that is deterministic, unlike an atomic add.
    per_neuron = [None if g is None else call.x.new_empty(call.shape(), dtype=dtype) for g in learnt]
    if math.prod(call.shape()):
        _launch_backward(grads, checkpoints, call, gradients, per_neuron)
    for target, found in zip(learnt, per_neuron, strict=True):
        if target is not None and found is not None:
            target.copy_(found.sum_to_size(target.shape))


def _launch_backward(
    grads: Sequence[Tensor | None], checkpoints: Tensor | None, call: Call, gradients: Sequence[Tensor | None],
    per_neuron: Sequence[Tensor | None],
) -> None:  # fmt: skip
    neurons, dtype, steps = math.prod(call.shape()), state_dtype(call.x.dtype), call.length()
    found, written = _of(call)
    learns = any(g is not None for g in per_neuron)
    form = _form(call, written.sums if learns else 0)
    (checkpoints,) = nonempty([checkpoints])
    window = steps if checkpoints is None else call.checkpoint_every
    segment = segment_steps(window, written.values[learns] > _FEW_VALUES)
    segments = triton.cdiv(window, segment)
    workspace = call.x.new_empty((segments - 1, form.states, neurons), dtype=dtype) if segments > 1 else None
    incoming = tuple(nonempty(grads[: form.outputs]))
    last = tuple(grads[form.outputs :][: form.states]) if call.return_state else (None,) * form.states
    grad_x, grad_states = gradients[0], tuple(gradients[1 + form.coefficients :])
    coefficients = _coefficients(call)
    operands = _Operands(call)
    sizes, places = operands.placed(
        Places(
            x=operands.add(call.x), coefficients=operands.add_all(coefficients, True),
            states=operands.add_all(call.states), grads=operands.add_all(incoming), grad_last=operands.add_all(last),
            grad_x=operands.add(grad_x),
            kept=operands.add(next((one for one in (*per_neuron, *grad_states) if one is not None), None)),
        )
    )  # fmt: skip
    launch(
        neuron_backward_kernel, neurons, dtype,
        call.x, coefficients or None, tuple(call.states) or None, checkpoints, *nonempty([workspace]), incoming,
        last or None, *nonempty([grad_x]), tuple(per_neuron) if learns else None, grad_states or None,
        steps, neurons, call.checkpoint_every, _time_step(call.x, call), _time_step(grad_x, call),
        tuple(opaque(0 if g is None else g.stride(0)) for g in incoming), sizes, places,
        form, found.hoist, found.step, found.adjoint_learns if learns else found.adjoint, found.chain,
        unrolled=segment,
    ).start(call.x)  # fmt: skip


operator.define("triton", _forward, _backward)
