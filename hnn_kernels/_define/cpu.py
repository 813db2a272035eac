"""The CPU's backend of defined neurons: their C++ is compiled at the first call of a dtype."""

from collections.abc import Sequence

from torch import Tensor

from .. import _extensions
from . import compiled, cpp, operator
from .call import NEURONS, Call

# By neuron, dtype, smooth mode and instruction set: the address of the kernels.
_addresses: dict[tuple[str, str, bool, str], int] = {}


def kernels(neuron: str, dtype: str, smooth: bool) -> int:
    """Return the address of a neuron's kernels for the instruction set that the built-in layer takes.

    Raises:
        RuntimeError: there is no compiler, or it fails.
    """
    assert _extensions.cpu is not None
    instruction_set = _extensions.cpu.build_info()["instruction_set"]
    key = neuron, dtype, smooth, instruction_set
    found = _addresses.get(key)
    if found is None:
        source = cpp.source(NEURONS[neuron].step, neuron, dtype, smooth, instruction_set)
        what = f"the neuron {neuron} for {dtype} and {instruction_set}"
        flags = cpp.INSTRUCTION_SETS[instruction_set]
        found = _addresses[key] = compiled.load(source, flags, what, "hnn_defined_kernels")
    return found


def _shared(call: Call, checkpoints: Tensor | None) -> tuple:
    address = kernels(call.neuron, str(call.x.dtype).removeprefix("torch."), call.smooth)
    return (
        address, call.x, call.steps is not None, call.length(), list(call.coefficients), list(call.values),
        list(call.states), checkpoints, call.checkpoint_every,
    )  # fmt: skip


def _forward(call: Call, outputs: Sequence[Tensor]) -> None:
    assert _extensions.cpu is not None
    count, states = len(NEURONS[call.neuron].step.outputs), len(call.states)
    checkpoints = outputs[-1] if call.checkpoint_every > 0 else None
    last = list(outputs[count : count + states]) if call.return_state else [None] * states
    _extensions.cpu.defined_forward(*_shared(call, checkpoints), list(outputs[:count]), last)


def _backward(
    grads: Sequence[Tensor | None], checkpoints: Tensor | None, call: Call, gradients: Sequence[Tensor | None]
) -> None:
    assert _extensions.cpu is not None
    count, states = len(NEURONS[call.neuron].step.outputs), len(call.states)
    learnt = 1 + len(call.coefficients)
    last = list(grads[count:]) if call.return_state else [None] * states
    if checkpoints is None:
        call = call._replace(checkpoint_every=0)
    _extensions.cpu.defined_backward(
        *_shared(call, checkpoints), list(grads[:count]), last, gradients[0], list(gradients[1:learnt]),
        list(gradients[learnt:]),
    )  # fmt: skip


operator.define("cpu", _forward, _backward)
