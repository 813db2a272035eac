"""Operators of the reference that are no compositions of torch's: as operators, every transform and tracer keeps them.

Each works element by element. Its derivative is made of torch's operations, so it can be differentiated any number of
times, in either mode.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import _SingleLevelFunction

from . import batching
from .autograd import apply_below
from .library import operators


def _element_by_element(operator: Callable) -> Callable:
    """Return the batching rule of an operator whose tensors with axes have one shape."""

    def rule(info, dims, *arguments):
        def in_front(value, dim):
            if dim is not None:
                return value.movedim(dim, 0)
            return value.expand(info.batch_size, *value.shape) if isinstance(value, Tensor) and value.dim() else value

        return operator(*map(in_front, arguments, dims)), 0

    return rule


def define(name: str, schema: str, function: Callable, derivative: Callable) -> Callable:
    """Define an operator of its first tensor, element by element; return it.

    Args:
        name: its name in the namespace ``hnn``.
        schema: its schema.
        function: the operator's value, from its arguments.
        derivative: its derivative, from the operator's output and its arguments.
    """
    operator = operators.define(name, schema)

    class Differentiated(_SingleLevelFunction):
        @staticmethod
        def forward(*inputs: Any) -> Tensor:
            with torch._C._AutoDispatchBelowAutograd():
                return operator(*inputs)

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.others = [None if isinstance(value, Tensor) else value for value in inputs]
            saved = output, *(value if isinstance(value, Tensor) else None for value in inputs)
            ctx.save_for_backward(*saved)
            ctx.save_for_forward(*saved)

        @staticmethod
        def backward(ctx, grad):
            return Differentiated.jvp(ctx, grad), *(None,) * (len(ctx.others) - 1)

        @staticmethod
        def jvp(ctx, tangent, *_):
            output, *tensors = ctx.saved_tensors
            inputs = (other if t is None else t for t, other in zip(tensors, ctx.others, strict=True))
            return tangent * derivative(output, *inputs)

    operators.implement(name, "CompositeExplicitAutograd", function)
    operators.implement(name, "Fake", lambda value, *_: torch.empty_like(value))
    operators.implement(name, "Autograd", lambda *inputs: apply_below(Differentiated, *inputs))
    batching.register(name, _element_by_element(operator))
    return operator
