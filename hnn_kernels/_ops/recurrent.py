"""The operators of recurrent layers: a loop over time whose steps are the kernels of a layer, forward and backward.

The current of a step is the layer's own plus a product of its output one step earlier with one matrix. Only that
product and the neurons are in the loop. The gradients of the matrix, of its bias and of the neurons' coefficients are
taken once, over all steps. Training keeps the summed current and the output, and nothing else.

One pair of operators serves all neurons of a kind (the built-in layer, neurons by definition) on a backend.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import _SingleLevelFunction
from torch.nn import functional

from ..state import state_dtype
from . import density
from .autograd import (
    NO_FORWARD_MODE,
    Undifferentiable,
    apply_below,
    as_in_memory,
    call_backward,
    may_be_direct,
    transformed,
)
from .kinds import Kind, initial_states, kinds, size
from .layer import present
from .library import operators
from .products import cpu_linear, weight_gradient

_NAMED = "hnn_kernels.nn.Recurrent"


class Weights(NamedTuple):
    """The recurrent connections.

    Attributes:
        weight: ``[N, N]``, for the last axis of the features.
        bias: ``[N]``, or None.
        out: the output before the first step, ``[B, *features]``; None for zeros.
        spikes: True if the output holds 0 and 1, and a product may go over its spikes alone.
    """

    weight: Tensor
    bias: Tensor | None
    out: Tensor | None
    spikes: bool


_WEIGHTS = "Tensor weight, Tensor? bias, Tensor? out, bool spikes"
# By the kind's name and the backend.
forward_ops: dict[tuple[str, str], Callable] = {}
backward_ops: dict[tuple[str, str], Callable] = {}


# -- the loops ---------------------------------------------------------------------------------------------------------


def _without_autocast(device: torch.device) -> AbstractContextManager:
    """Return a context without autocast: the weights have its dtype already, and nothing else has to change its own."""
    if device.type == "meta" or not torch.is_autocast_enabled(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def _run(kind: Kind, backend: str, weights: Weights, call: Any) -> list[Tensor]:
    """Return the summed currents and the outputs, ``[T, B, *features]``, and the states after the last step."""
    weight, bias, out, spikes = weights
    steps = kind.steps(call, backend)
    states: Sequence[Tensor] = initial_states(kind, call)
    current: Any = kind.tensors(call)[0]
    length, shape = size(kind, call)
    x = current.new_empty((length, *shape))
    last = current.new_zeros((1, *shape)) if out is None else out[None]
    currents = current[:, None].unbind(0) if call.steps is None else [current[None]] * length
    # With few rows or outputs the sums never pay, and torch's product is the same for all values.
    sizes = math.prod(shape[:-1]), shape[-1], shape[-1], weight.dtype
    spikes = spikes and backend == "cpu" and density.sparse("spike_linear", 0, *sizes)
    outs = []
    for own, sum_ in zip(currents, x[:, None].unbind(0), strict=True):
        before = last if last.dtype == weight.dtype else last.to(weight.dtype)
        recurrent = cpu_linear(before, weight, bias)[0] if spikes else functional.linear(before, weight, bias)
        # torch.add has the order and the rounding of the plain sum, and writes where the tape is.
        torch.add(own, recurrent, out=sum_)
        last, *states = steps.forward(sum_, states)
        outs.append(last)
    # A state that a call without a step returns is not the caller's own tensor.
    return [x, torch.cat(outs) if outs else x.clone(), *(states if outs else map(torch.clone, states))]


def _differentiate(
    kind: Kind,
    backend: str,
    x: Tensor,
    train: Tensor,
    grad_x: Tensor | None,
    grad_out: Tensor | None,
    grad_states: Sequence[Tensor | None],
    constant: bool,
    weights: Weights,
    call: Any,
    needs: int,
) -> list[Tensor]:
    """Return the gradients of the weight, the bias, the output before the first step, and the call's tensors.

    Those are returned whose bit is set in ``needs``, in this order. ``x`` and ``train`` are what forward returned, and
    ``call`` has ``x`` in the place of its current, which was ``constant`` in time or not.
    """
    weight = weights.weight
    tensors, places = kind.tensors(call), kind.states(call)
    wanted = [bool(needs >> i & 1) for i in range(3 + len(tensors))]
    learnt = [needed and i > 0 and i not in places for i, needed in enumerate(wanted[3:])]
    steps = kind.steps(call, backend)
    last = [
        x.new_zeros(of_state, dtype=state_dtype(x.dtype)) if grad is None else grad.contiguous()
        for grad, of_state in zip(grad_states, kind.state_shapes(call), strict=True)
    ]
    grads: Sequence[Tensor] = last
    of_x = torch.empty_like(x)
    outs: list[Tensor] = []  # the gradients of the outputs, the last one first
    own_out, own_x = (None if g is None else g.contiguous()[:, None].unbind(0) for g in (grad_out, grad_x))
    found = None
    states: list[Sequence[Tensor]] = [initial_states(kind, call)]
    for one in x[:-1, None].unbind(0):
        states.append(steps.forward(one, states[-1])[1:])
    for t in reversed(range(x.shape[0])):
        at = x.new_zeros((1, *x.shape[1:])) if found is None else _through(found, weight)
        if own_out is not None:
            at = at.add_(own_out[t])
        grad, *grads = steps.backward(x[t : t + 1], states.pop(), at, grads)
        found = of_x[t : t + 1]
        if own_x is None:
            found.copy_(grad)
        else:
            torch.add(grad, own_x[t], out=found)
        if any(learnt):
            outs.append(at)
    results: list[Tensor | None] = [
        _of_weight(backend, of_x, train, weights) if wanted[0] else None,
        of_x.reshape(-1, of_x.shape[-1]).sum(0).to(weight.dtype) if wanted[1] else None,
        None,
        (of_x.sum(0) if constant else of_x) if wanted[3] else None,
    ]
    if wanted[2]:
        results[2] = x.new_zeros(x.shape[1:]) if found is None else _through(found, weight)[0]
    of_learnt: Sequence[Tensor | None] = [None] * len(tensors)
    if any(learnt):
        of_learnt = steps.learnt(x, torch.cat(outs[::-1]) if outs else torch.empty_like(x), last, learnt)
    of_state = dict(zip(places, grads, strict=True))
    results += [of_state[i] if i in of_state else of_learnt[i] for i in range(1, len(tensors))]
    return present(result if needed else None for result, needed in zip(results, wanted, strict=True))


def _through(found: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of an output, from that of the current one step later."""
    return (found.to(weight.dtype) @ weight).to(found.dtype)


def _of_weight(backend: str, of_x: Tensor, train: Tensor, weights: Weights) -> Tensor:
    """Return the gradient of the weight: one product over all steps."""
    size, dtype = of_x.shape[-1], weights.weight.dtype
    grad, before = (rows.reshape(-1, size).to(dtype) for rows in (of_x[1:], train[:-1]))
    result = weight_gradient(grad, before) if backend == "cpu" else grad.t() @ before
    if weights.out is not None and len(of_x):
        grad, before = (rows.reshape(-1, size).to(dtype) for rows in (of_x[0], weights.out))
        result.addmm_(grad.t(), before)
    return result


# -- derivatives -------------------------------------------------------------------------------------------------------


class _Plan(NamedTuple):
    """The operands of a function that are no tensors. Its call is without its tensors."""

    kind: Kind
    backend: str
    spikes: bool
    call: Any


def _operands(weights: Weights, call: Any, plan: _Plan) -> tuple[Any, ...]:
    """Return the inputs of :class:`Function`: an autograd function sees no tensor in a tuple."""
    return *weights[:3], *plan.kind.tensors(call), plan


def _gathered(operands: Sequence[Any]) -> tuple[_Plan, Weights, Any]:
    weight, bias, out, *tensors, plan = operands
    return plan, Weights(weight, bias, out, plan.spikes), plan.kind.with_tensors(plan.call, tensors)


def _gradients(ctx: Any, grads: Sequence[Tensor | None], direct: bool) -> tuple[Tensor | None, ...]:
    """Return the gradients of a function's inputs, by the operator, or by the function behind it."""
    x, train, weight, bias, out, *tensors = ctx.saved_tensors
    plan, weights, call = _gathered((weight, bias, out, x, *tensors, ctx.plan))
    wanted = ctx.needs_input_grad[:-1]
    needs = sum(1 << i for i, needed in enumerate(wanted) if needed)
    grad_x, grad_out, *grad_states = grads
    constant, call = call.steps is not None, call._replace(steps=None)
    found: Sequence[Tensor]
    if direct:
        found = _differentiate(
            plan.kind, plan.backend, x, train, grad_x, grad_out, grad_states, constant, weights, call, needs
        )
    else:
        operator = backward_ops[plan.kind.name, plan.backend]
        found = call_backward(operator, train, grad_x, grad_out, grad_states, constant, *weights, *call, needs)
    results = iter(found)
    return *(next(results) if needed else None for needed in wanted), None


class Function(_SingleLevelFunction):
    """A recurrent layer whose forward and backward are one operator call each."""

    @staticmethod
    def forward(*operands: Any) -> tuple[Tensor, ...]:
        """Turn ``(weight, bias, out, *tensors, plan)`` into the summed currents, the outputs and the states."""
        plan, weights, call = _gathered(operands)
        with torch._C._AutoDispatchBelowAutograd():
            return tuple(forward_ops[plan.kind.name, plan.backend](*weights, *call))

    @staticmethod
    def setup_context(ctx, inputs, output):
        weight, bias, out, _, *tensors, ctx.plan = inputs
        ctx.save_for_backward(*output[:2], weight, bias, out, *tensors)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, *grads):
        return _gradients(ctx, grads, False)

    @staticmethod
    def jvp(ctx, *tangents):
        raise RuntimeError(f"{_NAMED} has {NO_FORWARD_MODE}")


class _Plain(torch.autograd.Function):
    """:class:`Function` without the operators' way through the dispatcher, on which no step takes the direct way."""

    @staticmethod
    def forward(ctx, *operands):
        plan, weights, call = _gathered(operands)
        with _without_autocast(operands[0].device):
            output = tuple(_run(plan.kind, plan.backend, weights, call))
        Function.setup_context(ctx, operands, output)
        return output

    @staticmethod
    def backward(ctx, *grads):
        return _gradients(ctx, grads, may_be_direct(grads))

    jvp = Function.jvp


def apply(kind: Kind, backend: str, weights: Weights, call: Any) -> Sequence[Tensor]:
    """Return the summed currents, the outputs and the states, differentiable by autograd and compilers."""
    if transformed() or not as_in_memory((*weights[:3], *kind.tensors(call))):
        return forward_ops[kind.name, backend](*weights, *call)
    if not torch.is_grad_enabled():
        return _run(kind, backend, weights, call)
    return _Plain.apply(*_operands(weights, call, _plan(kind, backend, weights, call)))


def _plan(kind: Kind, backend: str, weights: Weights, call: Any) -> _Plan:
    return _Plan(kind, backend, weights.spikes, kind.with_tensors(call, [None] * len(kind.tensors(call))))


# -- registration ------------------------------------------------------------------------------------------------------

_BACKWARD = "Tensor train, Tensor? grad_x, Tensor? grad_out, Tensor?[] grad_states, bool constant"
_INCOMING, _OF_WEIGHTS = 5, len(Weights._fields)


def _refuse_vmap(info, dims, *arguments):
    raise RuntimeError(
        f"{_NAMED} with a matrix has no rule for vmap: put what is mapped into the batch, or use backend='reference'"
    )


def define(kind: Kind, backends: Iterable[str]) -> None:
    """Define the operators of a kind of neurons on some backends."""
    kinds[kind.call] = kind
    for backend in backends:
        _define(kind, backend)


def _define(kind: Kind, backend: str) -> None:

    def forward(*arguments):
        return _run(kind, backend, Weights(*arguments[:_OF_WEIGHTS]), kind.call(*arguments[_OF_WEIGHTS:]))

    def split(arguments: Sequence[Any]) -> tuple[Any, Weights, Any, int]:
        incoming, rest, needs = arguments[:_INCOMING], arguments[_INCOMING:-1], arguments[-1]
        return incoming, Weights(*rest[:_OF_WEIGHTS]), kind.call(*rest[_OF_WEIGHTS:]), needs

    def backward(*arguments):
        incoming, weights, call, needs = split(arguments)
        train, grad_x, grad_out, grad_states, constant = incoming
        x = kind.tensors(call)[0]
        return _differentiate(kind, backend, x, train, grad_x, grad_out, grad_states, constant, weights, call, needs)

    def forward_fake(*arguments):
        call = kind.call(*arguments[_OF_WEIGHTS:])
        length, shape = size(kind, call)
        x = kind.tensors(call)[0].new_empty((length, *shape))
        dtype = state_dtype(x.dtype)
        return [x, torch.empty_like(x), *(x.new_empty(one, dtype=dtype) for one in kind.state_shapes(call))]

    def backward_fake(*arguments):
        (*_, constant), weights, call, needs = split(arguments)
        x, *tensors = kind.tensors(call)
        like = [*weights[:3], x[0] if constant else x, *tensors]
        made = [None if t is None else t.new_empty(t.shape) for t in like]
        for place, one in zip(kind.states(call), kind.state_shapes(call), strict=True):
            made[3 + place] = x.new_empty(one, dtype=state_dtype(x.dtype))
        return present(tensor if needs >> i & 1 else None for i, tensor in enumerate(made))

    def differentiated(*arguments):
        weights, call = Weights(*arguments[:_OF_WEIGHTS]), kind.call(*arguments[_OF_WEIGHTS:])
        return list(apply_below(Function, *_operands(weights, call, _plan(kind, backend, weights, call))))

    def undifferentiable(train, grad_x, grad_out, grad_states, *rest):
        def operator(train, grad_x, grad_out, *grad_states):
            return backward_ops[kind.name, backend](train, grad_x, grad_out, list(grad_states), *rest)

        return list(apply_below(Undifferentiable, operator, _NAMED, train, grad_x, grad_out, *grad_states))

    for ops, name, schema, functions in (
        (forward_ops, "forward", f"{_WEIGHTS}, {kind.schema}", (forward, forward_fake, differentiated)),
        (
            backward_ops, "backward", f"{_BACKWARD}, {_WEIGHTS}, {kind.schema}, int needs",
            (backward, backward_fake, undifferentiable),
        ),
    ):  # fmt: skip
        qualified = f"recurrent_{kind.name}_{name}_{backend}"
        ops[kind.name, backend] = operators.define(qualified, f"({schema}) -> Tensor[]")
        for key, function in zip(("CompositeExplicitAutograd", "Fake", "Autograd"), functions, strict=True):
            operators.implement(qualified, key, function)
        operators.implement(qualified, "Vmap", _refuse_vmap)
        operators.implement(qualified, "Batched", _refuse_vmap)
