"""The operators under vmap: the vmap of torch.func, and the older one behind batched gradients."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .library import operators


class Mapped(NamedTuple):
    """The description of a mapped axis that a batching rule is given, by torch.func and here."""

    batch_size: int
    randomness: str = "error"


def register(name: str, rule: Callable) -> None:
    """Register ``rule(info, dims, *arguments) -> (results, their dims)`` as an operator's batching rule.

    ``torch.autograd.grad(..., is_grads_batched=True)``, and with it ``jacobian(vectorize=True)``, has a vmap of its
    own, older than that of torch.func. Its dispatch key is ``Batched``.
    """
    operators.implement(name, "Vmap", rule)
    operators.implement(name, "Batched", _for_batched_gradients(rule))


def _for_batched_gradients(rule: Callable) -> Callable:
    def kernel(*arguments):
        level = torch._C._vmapmode_increment_nesting() - 1
        torch._C._vmapmode_decrement_nesting()
        sizes = []

        def unwrap(argument):
            if not isinstance(argument, Tensor) or not torch._C._functorch.is_legacy_batchedtensor(argument):
                return argument, None
            # A tensor that is mapped at an outer level alone gets an axis of size 1 in front.
            argument = torch._remove_batch_dim(argument, level, 1, 0)
            sizes.append(argument.shape[0])
            return argument, 0

        def value(pair):
            argument, dim = pair
            return argument if dim is None or argument.shape[0] == size else argument[0]

        def place(pair):
            argument, dim = pair
            return None if dim is None or argument.shape[0] != size else 0

        # A list of tensors becomes a list of pairs, which is no tuple.
        pairs = [[unwrap(one) for one in a] if isinstance(a, list | tuple) else unwrap(a) for a in arguments]
        size = max(sizes)
        unwrapped, dims = (
            [[part(one) for one in pair] if isinstance(pair, list) else part(pair) for pair in pairs]
            for part in (value, place)
        )
        torch._C._vmapmode_decrement_nesting()
        try:
            results, out_dims = rule(Mapped(size), tuple(dims), *unwrapped)
        finally:
            torch._C._vmapmode_increment_nesting()
        if isinstance(results, Tensor):
            return torch._add_batch_dim(results, out_dims, level)
        return [
            result if dim is None else torch._add_batch_dim(result, dim, level)
            for result, dim in zip(results, out_dims, strict=True)
        ]

    return kernel


def one_by_one(operator: Callable) -> Callable:
    """Return the batching rule that calls ``operator`` for every index of the mapped axis."""

    def rule(info, dims, *arguments):
        calls = [
            operator(*(a.select(d, i) if isinstance(d, int) else a for a, d in zip(arguments, dims, strict=True)))
            for i in range(info.batch_size)
        ]
        if isinstance(calls[0], Tensor):
            return torch.stack(calls), 0
        results = [torch.stack(parts) for parts in zip(*calls, strict=True)]
        return results, [0] * len(results)

    return rule
