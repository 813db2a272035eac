"""The reference: a plain loop over time that runs the user's own function, differentiated by autograd."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..reference import _stack
from ..state import state_dtype
from .call import NEURONS, Call
from .fire import set_smooth
from .trace import Signature, returned


def run(function: Callable, parameters: Signature, call: Call) -> list[Tensor]:
    """Run a call; return its trains, and its states where they are asked for."""
    x, dtype, shape = call.x, state_dtype(call.x.dtype), call.shape()
    given = {
        name: torch.as_tensor(number if tensor is None else tensor, dtype=dtype, device=x.device)
        for name, tensor, number in zip(parameters.coefficients, call.coefficients, call.values, strict=True)
    }
    zero = x.new_zeros(shape, dtype=dtype)
    states = [zero if state is None else state for state in call.states]
    # unbind, not x[t]: the backward of an index fills a whole [T, ...] tensor for every step.
    inputs = x.unbind(0) if call.steps is None else [x] * call.steps
    trains: list[list[Tensor]] = []

    def whole(value) -> Tensor:
        return torch.as_tensor(value, dtype=dtype, device=x.device).expand(shape)

    before = set_smooth(call.smooth)
    try:
        for current in inputs:
            result = function(current.to(dtype), *states, **given)
            outputs, after = returned(result, parameters.states, function.__name__)
            states = [whole(state) for state in after]
            trains.append([whole(output) for output in outputs])
    finally:
        set_smooth(before)
    count = len(trains[0]) if trains else len(NEURONS[call.neuron].step.outputs)
    found = [_stack([outputs[i] for outputs in trains], x, shape) for i in range(count)]
    if call.return_state:
        # Copies, so that with no steps the returned state is not the caller's own tensor.
        found += [state.clone() for state in states]
    return found
