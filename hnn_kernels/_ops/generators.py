"""Operators of the reference that make noise from a seed: as operators, every transform and tracer keeps them.

torch.jit.trace, for one, cannot record the views of bits that noise is made with.
"""

from collections.abc import Callable

import torch

from . import batching
from .library import operators

_SCHEMA = "(Tensor seed, SymInt count, SymInt steps, SymInt first_step, SymInt first_element) -> Tensor"


def define(name: str, function: Callable) -> Callable:
    """Define an operator that makes noise ``[steps, count]`` in float32; return it.

    Args:
        name: its name in the namespace ``hnn``.
        function: the noise, from the arguments of the schema.
    """
    operator = operators.define(name, _SCHEMA)
    operators.implement(name, "CompositeExplicitAutograd", function)
    operators.implement(name, "Fake", lambda seed, count, steps, *_: seed.new_empty(steps, count, dtype=torch.float32))
    batching.register(name, batching.one_by_one(operator))
    return operator
