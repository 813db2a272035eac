"""A call of a defined neuron: the checked arguments that its operators share, and the tensors that they return."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from .._ops.layer import empty_train
from ..state import state_dtype

if TYPE_CHECKING:
    from .layer import Neuron

# By key: every neuron that this process has defined. A compiled graph keeps the key alone.
NEURONS: "dict[str, Neuron]" = {}


class Call(NamedTuple):
    """The arguments of the operators, in their order.

    Attributes:
        x: ``[T, B, *features]``, or ``[B, *features]`` with ``steps``.
        coefficients, values: a tensor for each coefficient, or None and a number in its place.
        states: a tensor for each state, or None for zeros.
        steps: T, where the input is constant in time.
        neuron: the key of the neuron in :data:`NEURONS`.
        smooth, return_state: as for the layer.
        checkpoint_every: the states of every K-th step are kept where this K is above 0.
    """

    x: Tensor
    coefficients: Sequence[Tensor | None]
    values: Sequence[float]
    states: Sequence[Tensor | None]
    steps: int | None
    neuron: str
    smooth: bool
    return_state: bool
    checkpoint_every: int

    # torch.compile traces these. It cannot trace properties of a named tuple, so they are methods.

    def shape(self) -> torch.Size:
        """Return the shape of a step, ``[B, *features]``."""
        return self.x.shape[1:] if self.steps is None else self.x.shape

    def length(self) -> int:
        """Return the number of time steps."""
        return self.x.shape[0] if self.steps is None else self.steps


def with_tensors(call: Call, tensors: Sequence[Tensor | None]) -> Call:
    """Return a call with other tensors: its input, coefficients and states, in their order."""
    x, *rest = tensors
    count = len(call.coefficients)
    return call._replace(x=x, coefficients=rest[:count], states=rest[count:])  # type: ignore[arg-type]


def allocate_outputs(call: Call) -> list[Tensor]:
    """Allocate the trains, the states where they are returned, and the checkpoints where they are kept."""
    x, dtype, shape = call.x, state_dtype(call.x.dtype), call.shape()
    step = NEURONS[call.neuron].step
    found = [empty_train(x, call.steps) for _ in step.outputs]
    if call.return_state:
        found += [x.new_empty(shape, dtype=dtype) for _ in step.states]
    if call.checkpoint_every > 0:
        windows = max(-(-call.length() // call.checkpoint_every) - 1, 0)
        found.append(x.new_empty((windows, len(step.states), math.prod(shape)), dtype=dtype))
    return found


def allocate_gradients(call: Call, needs: int) -> list[Tensor | None]:
    """Allocate the gradients of the input, the coefficients and the states whose bit is set in ``needs``."""
    x, dtype = call.x, state_dtype(call.x.dtype)
    found: list[Tensor | None] = [torch.empty_like(x) if needs & 1 else None]
    for i, tensor in enumerate((*call.coefficients, *call.states), start=1):
        needed = needs >> i & 1 and tensor is not None
        found.append(x.new_empty(tensor.shape, dtype=dtype) if needed else None)  # type: ignore[union-attr]
    return found
