"""The host side of the Triton kernels: allocate, gather the operands, choose the launch, register."""

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._layer import (
    COEFFICIENTS,
    FILTER_COEFFICIENTS,
    FILTERS,
    INCOMING,
    MEMBRANE,
    MEMBRANE_STATES,
    OPTIONS,
    OUTPUTS,
    STATES,
    TENSORS,
    Layer,
    record,
)
from .._ops.layer import allocate_gradients, allocate_outputs, implement, present
from ..state import state_dtype
from .call import Call
from .formula import Options
from .layout import describe, opaque
from .lif import lif_backward_kernel, lif_forward_kernel
from .sums import Sums

# Steps whose potentials a backward pass holds in registers: all of T where one of these is enough, else T in segments
# of the last. The list is short, so that another T compiles nothing. The last is small, because the kernel is unrolled
# over it: 32 needs two to three times the registers of 16, and Triton (3.6 to 3.9) compiles it 4 to 6 times as long.
SEGMENTS = (8, 16)
# For where a step has more to hold: a filter whose coefficients are learnt, or smooth mode beside a filter.
SHORT_SEGMENTS = (8,)
# Steps that forward loads together, one chunk ahead of the arithmetic that uses them.
CHUNK = 8

# A layer's tensors (or the floats in their place) or the gradients of these; its outputs or their gradients.
Tensors: Any = record("Tensors", TENSORS)
Outputs: Any = record("Outputs", OUTPUTS)

_LEARNABLE = (*COEFFICIENTS, *FILTER_COEFFICIENTS)


class Launch(NamedTuple):
    """The neurons and the warps of a program."""

    block: int
    num_warps: int


def launch_config(neurons: int) -> Launch:
    """Return the launch of a kernel over ``neurons``, by their number alone: nothing is measured at run time.

    A thread has one neuron (the backward kernel relies on it), because the time steps of a neuron already give every
    thread several loads in flight. A small layer takes small blocks, so that its few neurons reach every multiprocessor
    (2^15 of them are 512 blocks of 64). A large layer takes larger blocks, so that a multiprocessor has fewer to start.
    Not yet measured on a GPU.
    """
    block = 64 if neurons <= 2**17 else 128
    return Launch(block, block // 32)


def segment_steps(steps: int, short: bool) -> int:
    """Return the steps per segment of a backward pass over ``steps``: all of them if a segment can hold them.

    ``short`` is for kernels of which a step holds more.
    """
    segments = SHORT_SEGMENTS if short else SEGMENTS
    return next((s for s in segments if steps <= s), segments[-1])


def scalar(value: float, dtype: torch.dtype) -> float | tuple[int, int]:
    """Return a float argument as ``formula.scalar`` expects it: for float64 the halves of its bits.

    They are of one type and specialize nothing, whatever the value: above 2^31, and opaque.
    """
    if dtype != torch.float64:
        return value
    low, high = struct.unpack("<2I", struct.pack("<d", value))
    return opaque(low + 2**32), opaque(high + 2**32)


def _extent(layer: Layer) -> tuple[float | tuple[int, int], ...]:
    """Return 1 / w of the surrogate, and its scale."""
    dtype = state_dtype(layer.current.dtype)
    width, scale = map(float, layer.surrogate_shape())
    return scalar(1 / width, dtype), scalar(scale, dtype)


def _options(layer: Layer) -> Options:
    return Options(
        *(layer.taps(part) for part in FILTERS), constant=layer.steps is not None, readout=layer.readout,
        **{option.name: getattr(layer, option.name) for option in OPTIONS},
    )  # fmt: skip


def nonempty(operands) -> list[Tensor | None]:
    """Return the operands, with None for empty ones: a pointer that is None compiles to nothing."""
    return [None if operand is None or operand.numel() == 0 else operand for operand in operands]


def _given(layer: Layer) -> Tensors:
    """Return the layer's tensors; in place of a coefficient that is not a tensor, its float or a tuple of floats."""
    dtype = state_dtype(layer.current.dtype)
    given = []
    for name in TENSORS:
        value = getattr(layer, name)
        if value is None and name in COEFFICIENTS:
            value = scalar(getattr(layer, f"{name}_value"), dtype)
        elif value is None and name in FILTER_COEFFICIENTS:
            value = tuple(scalar(v, dtype) for v in getattr(layer, f"{name}_values")) or None
        elif name != "current":
            (value,) = nonempty((value,))
        given.append(value)
    return Tensors(*given)


def kept_of(outputs: Outputs) -> list[Tensor | None]:
    """Return the outputs that the host allocates as one step in order of memory: the states and the peak."""
    return [*(getattr(outputs, name) for name in STATES), outputs.peak]


def _time_step(layer: Layer, name: str, train: Tensor | None) -> int:
    """Return the stride of a train's time axis; 0 where it has none, or is absent."""
    return 0 if train is None or not layer.timed(name) else train.stride(0)


def _first(operands) -> Tensor | None:
    return next((operand for operand in operands if operand is not None), None)


def _tensors(operands: Tensors) -> dict[str, Tensor]:
    return {name: value for name, value in operands._asdict().items() if isinstance(value, Tensor)}


def launch(kernel, neurons: int, dtype: torch.dtype, *arguments, unrolled: int) -> Call:
    """Return the launch of ``kernel`` over the neurons.

    Behind its ``arguments`` it takes the dtype of its arithmetic, its own constant ``unrolled``, and the block.
    """
    block, num_warps = launch_config(neurons)
    constants = (tl.float64 if dtype == torch.float64 else tl.float32, unrolled, block)
    # No contraction into multiply-adds, so that the spikes are those of the reference.
    options = {"num_warps": num_warps, "enable_fp_fusion": False}
    return Call(kernel, (triton.cdiv(neurons, block),), (*arguments, *constants), options)


def _call(kernel, layer: Layer, *arguments, unrolled: int) -> Call:
    dtype = state_dtype(layer.current.dtype)
    return launch(kernel, math.prod(layer.shape), dtype, *arguments, _options(layer), unrolled=unrolled)


def forward(*arguments) -> list[Tensor]:
    """Implement ``hnn::lif_forward_triton``."""
    layer = Layer(*arguments)
    outputs = allocate_outputs(layer)
    if math.prod(layer.shape):
        forward_call(layer, outputs).start(layer.current)
    return present(outputs)


def forward_call(layer: Layer, outputs: Sequence[Tensor | None]) -> Call:
    """Return the launch that writes the ``outputs`` of a layer."""
    neurons = math.prod(layer.shape)
    written = Outputs(*nonempty(outputs))
    given = _given(layer)
    sizes, strides = describe(
        layer.shape,
        {
            "current": layer.current,
            "out": written.out,
            "potential": written.potential,
            "kept": _first(kept_of(written)),
            **_tensors(given),
        },
    )
    return _call(
        lif_forward_kernel, layer,
        given, written, _extent(layer),
        layer.length, neurons, layer.checkpoint_every,
        _time_step(layer, "current", layer.current), _time_step(layer, "out", written.out),
        _time_step(layer, "potential", written.potential), sizes, strides,
        unrolled=CHUNK,
    )  # fmt: skip


def backward(*arguments) -> list[Tensor]:
    """Implement ``hnn::lif_backward_triton``."""
    count = len(INCOMING)
    incoming, layer, needs = Outputs(*arguments[:count]), Layer(*arguments[count:-1]), arguments[-1]
    gradients = dict(zip(TENSORS, allocate_gradients(layer, needs), strict=True))
    learnt = learnt_of(gradients)
    sums = Sums.of(layer, learnt) if learnt else None
    if math.prod(layer.shape):
        written = Tensors(**(gradients | (sums.views if sums else {})))
        call, _ = backward_call(incoming, layer, written, set(learnt))
        call.start(layer.current)
    for call in sums.calls if sums else ():
        call.start(layer.current)
    return present(gradients.values())


def learnt_of(gradients: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    """Return those of coefficients among the gradients."""
    return {name: gradient for name, gradient in gradients.items() if name in _LEARNABLE and gradient is not None}


def backward_call(incoming: Outputs, layer: Layer, gradients: Tensors, learnt: set[str]) -> tuple[Call, Tensor | None]:
    """Return the launch that writes the ``gradients``, those of ``learnt`` per neuron, and its workspace."""
    shape, steps, neurons = layer.shape, layer.length, math.prod(layer.shape)
    given = _given(layer)
    incoming, gradients = Outputs(*nonempty(incoming)), Tensors(*nonempty(gradients))
    window = steps if incoming.checkpoints is None else layer.checkpoint_every
    smooth_filter = layer.smooth and any(layer.has(part) for part in FILTERS)
    segment = segment_steps(window, smooth_filter or not learnt.isdisjoint(FILTER_COEFFICIENTS))
    workspace = _workspace(layer, triton.cdiv(window, segment), learnt)
    sizes, strides = describe(
        shape,
        {"current": layer.current, "grad_current": gradients.current, "out": incoming.out,
         "potential": incoming.potential, **{f"grad_{name}": getattr(incoming, name) for name in STATES},
         "kept": _first((*gradients[1:], incoming.peak)), **_tensors(given)},
    )  # fmt: skip
    call = _call(
        lif_backward_kernel, layer,
        incoming, given, gradients, workspace, _extent(layer), steps, neurons, layer.checkpoint_every,
        _time_step(layer, "out", incoming.out), _time_step(layer, "potential", incoming.potential),
        _time_step(layer, "current", layer.current), _time_step(layer, "current", gradients.current), sizes, strides,
        unrolled=segment,
    )  # fmt: skip
    return call, workspace


def _workspace(layer: Layer, segments: int, learnt: set[str]) -> Tensor | None:
    """Allocate the states at the starts of a window's segments but the last; None where nothing is recomputed."""
    # The axon is linear: only the gradients of its coefficients need the values that went through it.
    synapse, axon = (any(name.startswith(part) for name in learnt) for part in FILTERS)
    if segments <= 1 or not (layer.has(MEMBRANE) or synapse):
        return None
    slots = len(MEMBRANE_STATES) + layer.depth("synapse") + (layer.depth("axon") if axon else 0)
    dtype = state_dtype(layer.current.dtype)
    return layer.current.new_empty((segments - 1, slots, math.prod(layer.shape)), dtype=dtype)


implement("triton", forward, backward)
