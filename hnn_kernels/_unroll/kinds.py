"""The form of a table entry: what a compiler sees of one step of a neuron, and what computes its train.

A kind has a ``forward`` that takes the place of the class's own while the compiler traces. It does what the class does
around a step, and calls :func:`hnn_kernels._unroll.marks.step` for the step itself.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

# The shape and dtype of a tensor.
Form = tuple[Sequence[int], torch.dtype]


class Kind(NamedTuple):
    """One class of neurons, or several that are marked alike.

    A step takes a current and the states, and returns the outputs, then the states.

    Attributes:
        forward: takes the place of the class's own.
        forms: gives, from a module, the current of a step and its states, the forms of all that a step returns.
        run: gives, from a module, the current of all steps, their number if the current is constant, the states before
            them, and which results are wanted of all steps, those results; or why its steps have to run one by one.
        single: gives the results of a step as the class itself computes it.
        given: gives the reason, a text, why the steps of a module cannot be one call; or anything else if they can,
            such as the arguments of that call.
        methods: further methods that take the place of the class's own.
        outputs: gives the number of outputs, ahead of the states.
        records: tells if the states of all steps can be had.
    """

    forward: Callable
    forms: Callable[[nn.Module, Tensor, Sequence[Tensor | None]], list[Form]]
    run: Callable[..., list[Tensor] | str]
    single: Callable[..., list[Tensor]]
    given: Callable[[nn.Module], Any]
    methods: Mapping[str, Callable] = MappingProxyType({})
    outputs: Callable[[nn.Module], int] = lambda module: 1
    records: bool = True

    def refusal(self, module: nn.Module) -> str:
        """Return why the steps of a module cannot be one call; empty if they can."""
        found = self.given(module)
        return found if isinstance(found, str) else ""


def promoted(module: nn.Module, x: Tensor, states: Sequence[Tensor | None]) -> list[Form]:
    """Return the forms of an output and of the states, all of the dtype that the current and the states have together.

    A state without axes is a number, which changes no dtype.
    """
    dtype = x.dtype
    for state in states:
        dtype = torch.promote_types(dtype, state.dtype) if state is not None and state.dim() else dtype
    return [(x.shape, dtype)] * (1 + len(states))


class Match(NamedTuple):
    """The kind of a module, with what its marked class needs to know."""

    kind: Kind
    attributes: dict[str, Any]
