"""The host side of the Triton kernels: allocate, gather the operands, choose the launch, register."""

import math
import struct
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._layer import (
    COEFFICIENTS,
    FILTER_COEFFICIENTS,
    FILTERS,
    GRADIENTS,
    INCOMING,
    MEMBRANE,
    MEMBRANE_STATES,
    OPTIONS,
    OUTPUTS,
    TENSORS,
    Layer,
    record,
)
from .._ops.layer import allocate_gradients, allocate_outputs, implement, present
from ..state import state_dtype
from .formula import Options
from .layout import describe, opaque
from .lif import lif_backward_kernel, lif_forward_kernel

# Steps whose potentials a backward pass holds in registers: all of T where one of these is enough, else T in segments
# of the last. The list is short, so that another T compiles nothing. The last is small, because the kernel is unrolled
# over it: 32 needs two to three times the registers of 16, and Triton (3.6 to 3.9) compiles it 4 to 6 times as long.
SEGMENTS = (8, 16)
# With a filter whose coefficients are learnt, a step has more to hold.
LEARNT_FILTER_SEGMENTS = (8,)
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


def segment_steps(steps: int, learnt_filter: bool) -> int:
    """Return the steps per segment of a backward pass over ``steps``: all of them if a segment can hold them."""
    segments = LEARNT_FILTER_SEGMENTS if learnt_filter else SEGMENTS
    return next((s for s in segments if steps <= s), segments[-1])


def scalar(value: float, dtype: torch.dtype) -> float | tuple[int, int]:
    """Return a float argument as ``formula.scalar`` expects it: for float64 the halves of its bits.

    They are of one type and specialize nothing, whatever the value: above 2^31, and opaque.
    """
    if dtype != torch.float64:
        return value
    low, high = struct.unpack("<2I", struct.pack("<d", value))
    return opaque(low + 2**32), opaque(high + 2**32)


def _inverse_width(layer: Layer) -> float | tuple[int, int]:
    return scalar(1 / float(layer.surrogate_width()), state_dtype(layer.current.dtype))


def _options(layer: Layer) -> Options:
    return Options(
        *(layer.taps(part) for part in FILTERS), constant=layer.steps is not None, readout=layer.readout,
        **{option.name: getattr(layer, option.name) for option in OPTIONS},
    )  # fmt: skip


def _present(operands) -> list[Tensor | None]:
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
            (value,) = _present((value,))
        given.append(value)
    return Tensors(*given)


def _first(operands) -> Tensor | None:
    return next((operand for operand in operands if operand is not None), None)


def _tensors(operands: Tensors) -> dict[str, Tensor]:
    return {name: value for name, value in operands._asdict().items() if isinstance(value, Tensor)}


def _launch(kernel, layer: Layer, *arguments, **constants) -> None:
    """Start ``kernel`` over the layer's neurons on its device and current stream."""
    neurons = math.prod(layer.shape)
    block, num_warps = launch_config(neurons)
    dtype = tl.float64 if state_dtype(layer.current.dtype) == torch.float64 else tl.float32
    with torch.cuda.device_of(layer.current):
        # No contraction into multiply-adds, so that the spikes are those of the reference.
        kernel[(triton.cdiv(neurons, block),)](
            *arguments, **constants, OPTIONS=_options(layer), DTYPE=dtype, BLOCK=block, num_warps=num_warps,
            enable_fp_fusion=False,
        )  # fmt: skip


def forward(*arguments) -> list[Tensor]:
    """Implement ``hnn::lif_forward_triton``."""
    layer = Layer(*arguments)
    outputs = allocate_outputs(layer)
    neurons = math.prod(layer.shape)
    if neurons == 0:
        return present(outputs)
    out: Any
    out, *kept = outputs
    written = Outputs(out, *_present(kept))
    given = _given(layer)
    sizes, strides = describe(
        layer.shape,
        {"current": layer.current, "out": out, "kept": _first(written[1:-1]), **_tensors(given)},
    )
    _launch(
        lif_forward_kernel, layer,
        given, written, _inverse_width(layer),
        layer.length, neurons, layer.checkpoint_every,
        layer.current.stride(0) if layer.steps is None else 0, 0 if layer.count else out.stride(0), sizes, strides,
        CHUNK=CHUNK,
    )  # fmt: skip
    return present(outputs)


def backward(*arguments) -> list[Tensor]:
    """Implement ``hnn::lif_backward_triton``."""
    count = len(INCOMING)
    incoming, layer, needs = Outputs(*arguments[:count]), Layer(*arguments[count:-1]), arguments[-1]
    shape, dtype = layer.shape, state_dtype(layer.current.dtype)
    # The gradients of coefficients are computed per neuron and summed afterwards: deterministic, unlike an atomic add.
    learnt = {name for i, name in enumerate(TENSORS) if needs >> i & 1 and name in _LEARNABLE}
    others = sum(1 << i for i, name in enumerate(TENSORS) if name not in learnt)
    gradients: dict[str, Any] = dict(zip(TENSORS, allocate_gradients(layer, needs & others), strict=True))
    for name in learnt:
        taps = getattr(layer, name).shape[:1] if name in FILTER_COEFFICIENTS else ()
        gradients[name] = layer.current.new_empty((*taps, *shape), dtype=dtype)
    if math.prod(shape):
        _launch_backward(incoming, layer, Tensors(*_present(gradients.values())), learnt)
    for name in learnt:
        gradients[name] = _sum_to(gradients[name], getattr(layer, name).shape, name in FILTER_COEFFICIENTS)
    return present(gradients.values())


def _launch_backward(incoming: Outputs, layer: Layer, gradients: Tensors, learnt: set[str]) -> None:
    shape, steps, neurons = layer.shape, layer.length, math.prod(layer.shape)
    given = _given(layer)
    incoming = Outputs(incoming.out, *_present(incoming[1:]))
    window = steps if incoming.checkpoints is None else layer.checkpoint_every
    segment = segment_steps(window, not learnt.isdisjoint(FILTER_COEFFICIENTS))
    workspace = _workspace(layer, triton.cdiv(window, segment), learnt)
    sizes, strides = describe(
        shape,
        {"current": layer.current, "grad_current": gradients.current, "out": incoming.out,
         **dict(zip(GRADIENTS[1:], incoming[1:], strict=False)), "kept": _first(gradients[1:]),
         **_tensors(given)},
    )  # fmt: skip
    constant = layer.steps is not None
    _launch(
        lif_backward_kernel, layer,
        incoming, given, gradients, workspace, _inverse_width(layer), steps, neurons, layer.checkpoint_every,
        0 if incoming.out is None or layer.count else incoming.out.stride(0),
        0 if constant else layer.current.stride(0),
        0 if constant or gradients.current is None else gradients.current.stride(0), sizes, strides,
        SEGMENT=segment,
    )  # fmt: skip


def _workspace(layer: Layer, segments: int, learnt: set[str]) -> Tensor | None:
    """Allocate the states at the starts of a window's segments but the last; None where nothing is recomputed."""
    # The axon is linear: only the gradients of its coefficients need the values that went through it.
    synapse, axon = (any(name.startswith(part) for name in learnt) for part in FILTERS)
    if segments <= 1 or not (layer.has(MEMBRANE) or synapse):
        return None
    slots = len(MEMBRANE_STATES) + layer.depth("synapse") + (layer.depth("axon") if axon else 0)
    dtype = state_dtype(layer.current.dtype)
    return layer.current.new_empty((segments - 1, slots, math.prod(layer.shape)), dtype=dtype)


def _sum_to(gradient: Tensor, shape: torch.Size, stacked: bool) -> Tensor:
    """Sum a gradient per neuron to the coefficient's ``shape``, behind the axis of taps if it has one."""
    if not stacked:
        return gradient.sum_to_size(shape).contiguous()
    padding = (1,) * (gradient.dim() - len(shape))
    return gradient.sum_to_size((shape[0], *padding, *shape[1:])).reshape(shape).contiguous()


implement("triton", forward, backward)
