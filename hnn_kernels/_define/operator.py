"""The operators of defined neurons: schemas, fake kernels, batching rule and derivatives.

One pair serves all neurons of a backend. A neuron is named by its key, since a compiled graph that is kept on disk
outlives every address.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import _SingleLevelFunction

from .. import _direct
from .._ops import batching
from .._ops.autograd import (
    NO_FORWARD_MODE,
    Undifferentiable,
    apply_below,
    as_in_memory,
    call_backward,
    may_be_direct,
    save,
    transformed,
)
from .._ops.layer import _coefficient, _to_position, present
from .._ops.library import operators
from .call import NEURONS, Call, allocate_gradients, allocate_outputs

_ARGUMENTS = (
    "Tensor x, Tensor?[] coefficients, float[] values, Tensor?[] states, SymInt? steps, str neuron, bool smooth, "
    "bool return_state, int checkpoint_every"
)
_NAMED = "hnn_kernels.neuron"
forward_ops: dict[str, Callable] = {}
backward_ops: dict[str, Callable] = {}


# By backend: the functions behind the operators, which take a Call.
_runs: dict[str, tuple[Callable, Callable]] = {}


def _gradients(ctx: Any, grads: Sequence[Tensor | None], runs: dict | None) -> tuple[Tensor | None, ...]:
    """Return the gradients of a function's inputs, by the operator, or by ``runs``."""
    *tensors, checkpoints = ctx.saved_tensors
    backend, call = _gathered((*tensors, ctx.plan))
    grads = grads[:-1] if checkpoints is not None else grads
    wanted = ctx.needs_input_grad[:-1]
    needs = sum(1 << i for i, needed in enumerate(wanted) if needed)
    if runs is not None:
        found = iter(runs[backend][1](grads, checkpoints, call, needs))
    else:
        found = iter(call_backward(backward_ops[backend], list(grads), checkpoints, *call, needs))
    return *(next(found) if needed else None for needed in wanted), None


class Function(_SingleLevelFunction):
    """A layer whose forward and backward are one operator call each. Backward recomputes what it needs."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        """Turn ``(*tensors, (backend, its Call with the number of coefficients in their place))`` into the outputs."""
        backend, call = _gathered(inputs)
        with torch._C._AutoDispatchBelowAutograd():
            return tuple(forward_ops[backend](*call))

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.plan = inputs
        save(ctx, tensors, [output[-1] if ctx.plan[1][-1] > 0 else None])

    @staticmethod
    def backward(ctx, *grads):
        return _gradients(ctx, grads, None)

    @staticmethod
    def jvp(ctx, *tangents):
        raise RuntimeError(f"a {_NAMED} has {NO_FORWARD_MODE}")


class _Plain(torch.autograd.Function):
    """:class:`Function` without the operators' way through the dispatcher, which is faster; no transform accepts it."""

    @staticmethod
    def forward(ctx, *inputs):
        backend, call = _gathered(inputs)
        output = tuple(_runs[backend][0](call))
        Function.setup_context(ctx, inputs, output)
        return output

    @staticmethod
    def backward(ctx, *grads):
        return _gradients(ctx, grads, _runs if may_be_direct(grads) else None)

    jvp = Function.jvp


def _spread(backend: str, call: Call) -> tuple[Any, ...]:
    """Return the inputs of :class:`Function`: an autograd function sees no tensor in a list."""
    rest = (len(call.coefficients), call.values, *call[4:])
    return call.x, *call.coefficients, *call.states, (backend, rest)


def _gathered(inputs: Sequence[Any]) -> tuple[str, Call]:
    x, *tensors, (backend, (count, values, *rest)) = inputs
    return backend, Call(x, tensors[:count], values, tensors[count:], *rest)


def apply(call: Call, backend: str) -> Sequence[Tensor]:
    """Return the outputs of a call, differentiable by autograd, torch.func and torch.compile."""
    if transformed() or not as_in_memory((call.x, *call.coefficients, *call.states)):
        return forward_ops[backend](*call)
    plain = _Plain.apply(*_spread(backend, call)) if torch.is_grad_enabled() else _runs[backend][0](call)
    _direct.note(backend, call, plain)
    return plain


# -- vmap: the mapped axis becomes the first feature axis --------------------------------------------------------------


def _vmap_rule(backend: str, gradients: bool) -> Callable:
    def rule(info, dims, *arguments):
        size = info.batch_size
        grads, checkpoints, *rest = arguments if gradients else (None, None, *arguments)
        grad_dims, _, *rest_dims = dims if gradients else (None, None, *dims)
        *inputs, needs = rest if gradients else (*rest, 0)
        call, call_dims = Call(*inputs), Call(*rest_dims[: len(inputs)])  # of which a list of tensors has a list, too
        in_time, outputs = call.steps is None, len(NEURONS[call.neuron].step.outputs)
        features = call.x.dim() - (call_dims.x is not None) - in_time - 1

        def each(values, value_dims, fold):
            value_dims = [None] * len(values) if value_dims is None else value_dims
            return [v if v is None else fold(v, d) for v, d in zip(values, value_dims, strict=True)]

        folded = call._replace(
            x=_to_position(call.x, dims[2] if gradients else dims[0], size, 1 + in_time),
            coefficients=each(
                call.coefficients, call_dims.coefficients, lambda v, d: _coefficient(v, d, size, features, 0)
            ),
            states=each(call.states, call_dims.states, lambda v, d: _to_position(v, d, size, 1)),
        )
        out_dims = [2] * outputs + [1] * (len(call.states) if call.return_state else 0)
        if not gradients:
            results = forward_ops[backend](*folded)
            return results, [*out_dims, *([None] if call.checkpoint_every > 0 else [])]
        if checkpoints is not None and checkpoints.shape[-1] < math.prod(folded.shape()):
            # They come from a forward call that was not mapped so. Backward computes the states again.
            checkpoints, folded = None, folded._replace(checkpoint_every=0)
        value_dims = [None] * len(grads) if grad_dims is None else grad_dims
        incoming = [
            g if g is None else _to_position(g, d, size, at)
            for g, d, at in zip(grads, value_dims, out_dims, strict=True)
        ]
        results = iter(backward_ops[backend](incoming, checkpoints, *folded, needs))
        found, found_dims = [], []
        coefficient_dims = call_dims.coefficients or [None] * len(call.coefficients)
        if needs & 1:
            found.append(next(results))
            found_dims.append(1 + in_time)
        for i, (tensor, dim) in enumerate(zip(call.coefficients, coefficient_dims, strict=True), start=1):
            if tensor is not None and needs >> i & 1:
                # The coefficient was padded to the rank of the features; its gradient gets its own rank.
                shape = list(tensor.shape)
                if dim is not None:
                    del shape[dim]
                found.append(next(results).reshape(size, *shape))
                found_dims.append(0)
        for state in results:
            found.append(state)
            found_dims.append(1)
        return found, found_dims

    return rule


# -- registration ------------------------------------------------------------------------------------------------------


def _forward_fake(*arguments):
    return allocate_outputs(Call(*arguments))


def _backward_fake(*arguments):
    return present(allocate_gradients(Call(*arguments[2:-1]), arguments[-1]))


def _differentiated(backend: str) -> Callable:
    return lambda *arguments: list(apply_below(Function, *_spread(backend, Call(*arguments))))


def _undifferentiable(backend: str) -> Callable:
    def refuse(grads, checkpoints, *rest):
        def operator(*inputs):
            return backward_ops[backend](list(inputs[: len(grads)]), checkpoints, *rest)

        return list(apply_below(Undifferentiable, operator, f"a {_NAMED}", *grads, rest[0]))

    return refuse


def define(backend: str, forward: Callable, backward: Callable) -> None:
    """Define a backend's pair of operators with its functions.

    Args:
        backend: the name of the backend.
        forward: writes the outputs of ``(call, outputs)``, which are allocated.
        backward: writes the gradients of ``(grads, checkpoints, call, gradients)``; None stands for one that is not
            needed.
    """

    def run_forward(call: Call) -> list[Tensor]:
        outputs = allocate_outputs(call)
        forward(call, outputs)
        return outputs

    def run_backward(grads, checkpoints, call: Call, needs: int) -> list[Tensor]:
        gradients = allocate_gradients(call, needs)
        backward(grads, checkpoints, call, gradients)
        return present(gradients)

    def forward_operator(*arguments):
        return run_forward(Call(*arguments))

    def backward_operator(grads, checkpoints, *rest):
        return run_backward(grads, checkpoints, Call(*rest[:-1]), rest[-1])

    _runs[backend] = run_forward, run_backward
    for ops, name, schema, run, fake, differentiated in (
        (forward_ops, "forward", _ARGUMENTS, forward_operator, _forward_fake, _differentiated),
        (
            backward_ops, "backward", f"Tensor?[] grads, Tensor? checkpoints, {_ARGUMENTS}, int needs",
            backward_operator, _backward_fake, _undifferentiable,
        ),
    ):  # fmt: skip
        qualified = f"neuron_{name}_{backend}"
        ops[backend] = operators.define(qualified, f"({schema}) -> Tensor[]")
        operators.implement(qualified, "CompositeExplicitAutograd", run)
        operators.implement(qualified, "Fake", fake)
        operators.implement(qualified, "Autograd", differentiated(backend))
        batching.register(qualified, _vmap_rule(backend, ops is backward_ops))
