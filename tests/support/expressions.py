"""The value of an expression, computed by torch."""

import operator
from typing import Any

import torch
from torch import Tensor

from hnn_kernels._generate.expressions import Expression, in_order

_FUNCTIONS: dict[str, Any] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "negative": operator.neg,
    "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
    "and": operator.and_, "or": operator.or_, "not": operator.invert, "fma": lambda a, b, c: a * b + c,
    "scaled_exp2": lambda a, b: torch.exp2(a) * b, "erfc": torch.erfc, "where": torch.where,
}  # fmt: skip


def evaluate(root: Expression | float, values: dict[Expression, Tensor]) -> Tensor:
    """Return the value of ``root``, given those of its variables, which have one shape and dtype."""
    known = dict(values)
    like = next(iter(values.values()))

    def tensor(e: Expression | float) -> Tensor:
        return known[e] if isinstance(e, Expression) else torch.full_like(like, e)

    for e in in_order([root]):
        if e not in known:
            function = _FUNCTIONS.get(e.operation) or getattr(torch, e.operation)
            known[e] = function(*map(tensor, e.operands))
    return tensor(root)
