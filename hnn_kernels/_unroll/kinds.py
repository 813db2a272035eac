"""The form of a table entry: what a compiler sees of one step of a neuron, and what computes its train.

A kind has a ``forward`` that takes the place of the class's own while the compiler traces. It does what the class does
around a step, and calls :func:`hnn_kernels._unroll.marks.step` for the step itself.
"""

from collections.abc import Callable, Sequence
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
        methods: further methods that do.
        outputs: gives the number of outputs, ahead of the states.
        forms: gives, from a module, the current of a step and its states, the forms of all that a step returns.
        run: gives, from a module, the current of all steps, their number if the current is constant, the states before
            them, and which results are wanted of all steps, those results; or why its steps have to run one by one.
        single: gives the results of a step as the class itself computes it.
        records: tells if the states of all steps can be had.
        refusal: gives the reason why the steps of a module cannot be one call; empty if they can.
    """

    forward: Callable
    methods: dict[str, Callable]
    outputs: Callable[[nn.Module], int]
    forms: Callable[[nn.Module, Tensor, Sequence[Tensor | None]], list[Form]]
    run: Callable[..., list[Tensor] | str]
    single: Callable[..., list[Tensor]]
    records: bool
    refusal: Callable[[nn.Module], str]


class Match(NamedTuple):
    """The kind of a module, with what its marked class needs to know."""

    kind: Kind
    attributes: dict[str, Any]
