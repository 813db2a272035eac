"""The kinds of neurons that a loop over time can step: the built-in layer, and neurons by definition."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from ..state import state_dtype


class Steps(Protocol):
    """The steps of a call's neurons on a backend. The train of a step is ``[1, B, *features]``."""

    def forward(self, x: Tensor, states: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the output of a step, and the states after it."""

    def backward(
        self, x: Tensor, states: Sequence[Tensor], grad_out: Tensor, grad_states: Sequence[Tensor]
    ) -> Sequence[Tensor]:
        """Return the gradients of the current of a step, and of the states before it."""

    def learnt(
        self, x: Tensor, grad_out: Tensor, grad_states: Sequence[Tensor], wanted: Sequence[bool]
    ) -> Sequence[Tensor | None]:
        """Return the gradients of the call's tensors that are wanted, from the currents of all steps."""


class Kind(NamedTuple):
    """A kind of neurons.

    Attributes:
        name: its name in those of the operators.
        schema: the arguments of the operators that describe a call of such neurons.
        call: the type of a call, a named tuple of these arguments.
        tensors: returns a call's tensors, the current first.
        with_tensors: returns a call with other tensors.
        states: returns the places of the states among the tensors.
        state_shapes: returns the shapes of the states.
        steps: returns the steps of a call on a backend; those of the reference have no backward.
        plain: tells if a call returns the output and the states of its steps, and nothing else.
        choose: chooses the backend of a call from the one that is asked for.
    """

    name: str
    schema: str
    call: type
    tensors: Callable[[Any], Sequence[Any]]
    with_tensors: Callable[[Any, Sequence[Any]], Any]
    states: Callable[[Any], Sequence[int]]
    state_shapes: Callable[[Any], Sequence[Sequence[int]]]
    steps: Callable[[Any, str], Any]
    plain: Callable[[Any], bool]
    choose: Callable[[Any, str | None], str]


# By the type of a call.
kinds: dict[type, Kind] = {}


def size(kind: Kind, call: Any) -> tuple[int, Sequence[int]]:
    """Return the number of steps of a call, and the shape of a step."""
    current = kind.tensors(call)[0]
    return (current.shape[0], current.shape[1:]) if call.steps is None else (call.steps, current.shape)


def initial_states(kind: Kind, call: Any) -> list[Tensor]:
    """Return the states before the first step: the call's, or zeros."""
    current, *_ = tensors = kind.tensors(call)
    return [
        current.new_zeros(shape, dtype=state_dtype(current.dtype)) if tensors[place] is None
        else tensors[place].contiguous()
        for place, shape in zip(kind.states(call), kind.state_shapes(call), strict=True)
    ]  # fmt: skip
