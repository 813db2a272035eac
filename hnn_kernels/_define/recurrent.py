"""Recurrent calls of neurons by definition, and of the built-in layer as such a neuron.

Where each neuron reaches itself alone, the recurrence is a part of the step: a state keeps the output, and a
coefficient is its weight. So all steps are in one kernel.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _dispatch
from .._layer import (
    FILTER_SIDES,
    FILTERS,
    MEMBRANE,
    MEMBRANE_COEFFICIENTS,
    RESET_GRADS,
    RESETS,
    SETTINGS,
    Layer,
    name_of,
)
from .._layer_steps import LAYER
from .._ops import kinds, recurrent
from ..reference import Filter
from ..state import state_dtype
from ..surrogates import SURROGATES
from . import operator
from .call import NEURONS, Call, with_tensors
from .compiled import CompilerError, _compiler_of_the_machine
from .fire import fire
from .layer import Neuron, _choose, run
from .trace import returned

# The names of the state and of the coefficient that a recurrent neuron has more.
_OUT, _WEIGHT = "sent_before", "recurrence"


class NeuronSteps:
    """The steps of a neuron by definition (:class:`hnn_kernels._ops.kinds.Steps`). Its first output comes back."""

    def __init__(self, call: Call, backend: str):
        self.call = call._replace(steps=None, return_state=True, checkpoint_every=0)
        self.backend = backend
        self.outputs = len(NEURONS[call.neuron].step.outputs)

    def forward(self, x: Tensor, states: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the output of a step, and the states after it."""
        results = run(self.call._replace(x=x, states=list(states)), self.backend)
        return results[0], *results[self.outputs :]

    def backward(
        self, x: Tensor, states: Sequence[Tensor], grad_out: Tensor, grad_states: Sequence[Tensor]
    ) -> Sequence[Tensor]:
        """Return the gradients of the current of a step, and of the states before it."""
        call = self.call._replace(x=x, states=list(states))
        wanted = [True, *([False] * len(call.coefficients)), *([True] * len(states))]
        return [gradient for gradient in self._gradients(call, grad_out, grad_states, wanted) if gradient is not None]

    def learnt(
        self, x: Tensor, grad_out: Tensor, grad_states: Sequence[Tensor], wanted: Sequence[bool]
    ) -> Sequence[Tensor | None]:
        """Return the gradients of the coefficients that are wanted, in one kernel over all steps."""
        return self._gradients(self.call._replace(x=x), grad_out, grad_states, wanted)

    def _gradients(
        self, call: Call, grad_out: Tensor, grad_states: Sequence[Tensor], wanted: Sequence[bool]
    ) -> list[Tensor | None]:
        needs = sum(1 << i for i, needed in enumerate(wanted) if needed)
        grads = [grad_out, *([None] * (self.outputs - 1)), *grad_states]
        found = iter(operator._runs[self.backend][1](grads, None, call, needs))
        return [next(found) if needed else None for needed in wanted]


def _chosen(device: torch.device, backend: str | None) -> str:
    chosen = _choose(device, backend)
    if chosen == "reference":
        _dispatch.warn_of_the_reference(device, backend, stacklevel=11)  # the call of the module
    return chosen


DEFINED = kinds.Kind(
    name="neuron",
    schema=operator._ARGUMENTS,
    call=Call,
    tensors=lambda call: (call.x, *call.coefficients, *call.states),
    with_tensors=with_tensors,
    states=lambda call: range(1 + len(call.coefficients), 1 + len(call.coefficients) + len(call.states)),
    state_shapes=lambda call: [call.shape()] * len(call.states),
    steps=NeuronSteps,
    plain=lambda call: len(NEURONS[call.neuron].step.outputs) == 1,
    choose=lambda call, backend: _chosen(call.x.device, backend),
)
recurrent.define(DEFINED, operator.forward_ops)

# -- each neuron reaches itself alone ----------------------------------------------------------------------------------


class OneToOne:
    """The recurrence in the neurons' own kernel (:class:`hnn_kernels._recurrence.InOneKernel`).

    Args:
        weight: a float, or a tensor that broadcasts against the features.
    """

    def __init__(self, weight: float | Tensor):
        self.weight = weight

    def run(
        self, kind: kinds.Kind, call: Any, out: Tensor | None, backend: str | None
    ) -> tuple[Tensor, Sequence[Tensor]] | None:
        """Return the output of the last step and the outputs of a call; None where it has no kernel here."""
        chosen = _kernel(kind, call, backend)
        defined = None if chosen is None else _as_neuron(call) if kind is LAYER else call
        if chosen is None or defined is None:
            return None
        dtype = state_dtype(defined.x.dtype)
        tensor = self.weight.to(dtype) if isinstance(self.weight, Tensor) else None
        key, _, names = _with_feedback(defined.neuron)
        results = run(
            defined._replace(
                coefficients=[*defined.coefficients, tensor],
                values=[*defined.values, 0.0 if isinstance(self.weight, Tensor) else self.weight],
                states=[*defined.states, out], neuron=key, return_state=True,
            ),
            chosen,
        )  # fmt: skip
        count = len(results) - len(names)
        trains, (*states, last) = results[:count], results[count:]
        if kind is LAYER:
            return last, _as_layer(call, trains[0], states)
        return last, [*trains, *(states if call.return_state else ())]


def _kernel(kind: kinds.Kind, call: Any, backend: str | None) -> str | None:
    """Return the backend whose kernels a neuron by definition takes here, or the reference; None if there is none."""
    device = kind.tensors(call)[0].device
    if kind is not LAYER:
        return _chosen(device, backend)
    try:
        chosen = _chosen(device, backend)
    except RuntimeError:  # neurons by definition have no kernels on such a device, or none of this backend
        return None
    return None if chosen == "cpu" and not _compiles() else chosen


# These are called while torch.compile traces, which takes what they return for a constant. A neuron is
# described by its key and the names of its coefficients and states.
_Described = tuple[str, tuple[str, ...], tuple[str, ...]]


def _with_feedback(key: str) -> _Described:
    """Describe a neuron whose input has its first output one step earlier, times a weight, added to it.

    It has one more state behind the others, that output, and one more coefficient, the weight.
    """
    return _describe(_feedback_neuron(key))


def _of_layer(*structure: Any) -> _Described:
    """Describe :func:`_layer_neuron`."""
    return _describe(_layer_neuron(*structure))


def _compiles() -> bool:
    """Tell if there is a compiler for the kernels on a CPU."""
    try:
        _compiler_of_the_machine()
    except CompilerError:
        return False
    return True


for _function in (_with_feedback, _of_layer, _compiles):
    setattr(_function, "_dynamo_marked_constant", True)  # noqa: B010


def _describe(neuron: Neuron) -> _Described:
    return neuron.key, tuple(neuron.coefficients), neuron.states


@functools.cache
def _feedback_neuron(key: str) -> Neuron:
    neuron = NEURONS[key]
    function, parameters = neuron.function, neuron.parameters

    def step(x, *states, **coefficients):
        x = x + coefficients.pop(_WEIGHT) * states[-1]
        outputs, after = returned(function(x, *states[:-1], **coefficients), parameters.states, function.__name__)
        return outputs, (*after, outputs[0])

    states = (*neuron.states, _OUT)
    _name_parameters(step, f"recurrent_{function.__name__}", (parameters.x, *states), (*neuron.coefficients, _WEIGHT))
    return Neuron(step, states)


def _name_parameters(step: Callable, name: str, positional: Sequence[str], coefficients: Sequence[str]) -> None:
    """Name a step that takes any arguments, and its parameters."""
    parameter = inspect.Parameter
    parameters = [parameter(one, parameter.POSITIONAL_OR_KEYWORD) for one in positional]
    parameters += [parameter(one, parameter.KEYWORD_ONLY) for one in coefficients]
    step.__name__ = step.__qualname__ = name
    step.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]


# The settings of a layer that its neuron follows, or that are the call's. Another one must have its default.
_FOLLOWED = {
    "steps", "width", "scale", "surrogate", "tie_fires", "reset", "reset_grad", "smooth", "readout", "return_state",
    "checkpoint_every",
}  # fmt: skip


def _as_neuron(call: Layer) -> Call | None:
    """Return a call of the built-in layer as one of a neuron by definition; None where it has no definition."""
    numbers = ("_value", "_values")
    others = {s.name: s.default for s in SETTINGS if s.name not in _FOLLOWED and not s.name.endswith(numbers)}
    if any(getattr(call, name) != default for name, default in others.items()):
        return None
    surrogate, period = list(SURROGATES)[call.surrogate], 1.0
    if SURROGATES[surrogate].periodic:
        if call.threshold is not None:  # the period of a spike is a number
            return None
        period = call.threshold_value
    key, names, states = _of_layer(
        call.taps(FILTERS[0]), call.taps(FILTERS[1]), name_of(RESETS, call.reset) if call.has(MEMBRANE) else "",
        name_of(RESET_GRADS, call.reset_grad), surrogate, call.width, call.scale, period, call.tie_fires,
    )  # fmt: skip
    given: dict[str, Any] = {}
    for part in FILTERS:
        for side, count in zip(FILTER_SIDES, call.taps(part), strict=True):
            tensor = getattr(call, f"{part}_{side}")
            taps = getattr(call, f"{part}_{side}_values") if tensor is None else tensor.unbind(0)
            given |= {f"{part}_{side}_{i}": taps[i] for i in range(count)}
        history = getattr(call, f"{part}_state")
        if history is not None:
            given |= {f"{part}_{i}": one for i, one in enumerate(history.unbind(0))}
    for name in MEMBRANE_COEFFICIENTS:
        tensor = getattr(call, name)
        given[name] = getattr(call, f"{name}_value") if tensor is None else tensor
    given |= {name: getattr(call, name) for name in ("v", "r") if getattr(call, name) is not None}
    coefficients = [given[name] for name in names]
    learns = torch.is_grad_enabled()
    return Call(
        call.current, [c if isinstance(c, Tensor) else None for c in coefficients],
        [0.0 if isinstance(c, Tensor) else c for c in coefficients], [given.get(name) for name in states],
        call.steps, key, call.smooth, True, call.checkpoint_every if learns else 0,
    )  # fmt: skip


@functools.cache
def _layer_neuron(
    synapse: tuple[int, int], axon: tuple[int, int], reset: str, reset_grad: str, surrogate: str, width: float,
    scale: float, period: float, tie_fires: bool,
) -> Neuron:  # fmt: skip
    """Return the built-in layer as a neuron by definition, in the reference's order of operations."""
    orders = dict(zip(FILTERS, (synapse, axon), strict=True))
    states = [*(("v",) if reset else ()), *(("r",) if reset == "filter" else ())]
    coefficients = ["decay", "threshold"] if reset else []
    coefficients += {"filter": ["reset_decay"], "zero": ["reset_potential"]}.get(reset, [])
    for part, (feedback, feedforward) in orders.items():
        states += [f"{part}_{i}" for i in range(max(feedback + feedforward - 1, 0))]
        for side, count in zip(FILTER_SIDES, (feedback, feedforward), strict=True):
            coefficients += [f"{part}_{side}_{i}" for i in range(count)]

    def step(x, *before, **c):
        s = dict(zip(states, before, strict=True))

        def filtered(part: str, x: Any) -> Any:
            feedback, feedforward = orders[part]
            if not feedforward:
                return x
            taps = zip(FILTER_SIDES, orders[part], strict=True)
            back, forth = ([c[f"{part}_{side}_{i}"] for i in range(n)] for side, n in taps)
            history = [s[f"{part}_{i}"] for i in range(feedback + feedforward - 1)]
            run = Filter(back, forth, None, x)
            run.y, run.x = history[:feedback], history[feedback:]
            y = run(x)
            s.update({f"{part}_{i}": one for i, one in enumerate([*run.y, *run.x])})
            return y

        x = filtered("synapse", x)
        if reset:
            potential = c["decay"] * s["v"] + x
            if reset == "filter":
                potential = potential - c["threshold"] * s["r"]
            x = fire(
                potential - c["threshold"], surrogate, width, scale=scale, period=period, tie_fires=tie_fires
            )  # fmt: skip
            into_reset = x.detach() if reset_grad == "detach" else x
            if reset == "filter":
                r = s["r"].detach() if reset_grad == "one_step" else s["r"]
                s["r"] = c["reset_decay"] * r + into_reset
            elif reset == "subtract":
                potential = potential - c["threshold"] * into_reset
            elif reset == "zero":
                potential = potential * (1 - into_reset) + c["reset_potential"] * into_reset
            s["v"] = potential
        return filtered("axon", x), tuple(s[name] for name in states)

    _name_parameters(step, "lif" if reset else "iir", ("x", *states), coefficients)
    return Neuron(step, states)


def _as_layer(call: Layer, train: Tensor, states: Sequence[Tensor]) -> list[Tensor]:
    """Return what a neuron returned as the outputs of a call of the built-in layer, in their order."""
    dtype = state_dtype(train.dtype)
    results = [train.sum(0, dtype=dtype).to(train.dtype) if call.count else train]
    if not call.return_state:
        return results
    rest = list(states)
    if call.has(MEMBRANE):
        results.append(rest.pop(0))
        if call.reset == RESETS["filter"]:
            results.append(rest.pop(0))
        else:  # it has no reset variable, and the layer hands on what it was given
            results.append(torch.zeros_like(results[1]) if call.r is None else call.r.clone())
    for part in FILTERS:
        if call.has(part):
            depth = call.depth(part)
            history, rest = rest[:depth], rest[depth:]
            results.append(torch.stack(history) if history else train.new_empty((0, *call.shape), dtype=dtype))
    return results
