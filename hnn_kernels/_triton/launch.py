"""The host side of the Triton kernels: allocate, gather the operands, choose the launch, register."""

import math
import struct
from collections.abc import Sequence
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


def _first(operands) -> Tensor | None:
    return next((operand for operand in operands if operand is not None), None)


def _tensors(operands: Tensors) -> dict[str, Tensor]:
    return {name: value for name, value in operands._asdict().items() if isinstance(value, Tensor)}


class Call(NamedTuple):
    """A launch: the kernel, its grid, its arguments in order, and the options of the compiler."""

    kernel: Any
    grid: tuple[int]
    arguments: tuple
    options: dict[str, Any]

    def start(self, tensor: Tensor) -> None:
        """Launch the kernel on the tensor's device and current stream."""
        with torch.cuda.device_of(tensor):
            self.kernel[self.grid](*self.arguments, **self.options)


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
    out: Any
    out, *kept = outputs
    written = Outputs(out, *nonempty(kept))
    given = _given(layer)
    sizes, strides = describe(
        layer.shape,
        {"current": layer.current, "out": out, "kept": _first(written[1:-1]), **_tensors(given)},
    )
    return _call(
        lif_forward_kernel, layer,
        given, written, _inverse_width(layer),
        layer.length, neurons, layer.checkpoint_every,
        layer.current.stride(0) if layer.steps is None else 0, 0 if layer.count else out.stride(0), sizes, strides,
        unrolled=CHUNK,
    )  # fmt: skip


def backward(*arguments) -> list[Tensor]:
    """Implement ``hnn::lif_backward_triton``."""
    count = len(INCOMING)
    incoming, layer, needs = Outputs(*arguments[:count]), Layer(*arguments[count:-1]), arguments[-1]
    learnt = learnt_of(needs)
    others = sum(1 << i for i, name in enumerate(TENSORS) if name not in learnt)
    gradients: dict[str, Any] = dict(zip(TENSORS, allocate_gradients(layer, needs & others), strict=True))
    for name in learnt:
        gradients[name] = per_neuron(layer, name)
    if math.prod(layer.shape):
        call, _ = backward_call(incoming, layer, Tensors(*gradients.values()), learnt)
        call.start(layer.current)
    for name in learnt:
        shape = getattr(layer, name).shape
        axes = summed_axes(gradients[name], shape, name in FILTER_COEFFICIENTS)
        gradients[name] = gradients[name].sum(axes, keepdim=True).view(shape)
    return present(gradients.values())


def learnt_of(needs: int) -> set[str]:
    """Return the coefficients among the tensors whose bit is set."""
    return {name for i, name in enumerate(TENSORS) if needs >> i & 1 and name in _LEARNABLE}


def per_neuron(layer: Layer, name: str) -> Tensor:
    """Allocate the gradient of a coefficient per neuron, which is summed afterwards.

    That is deterministic, unlike an atomic add.
    """
    taps = getattr(layer, name).shape[:1] if name in FILTER_COEFFICIENTS else ()
    return layer.current.new_empty((*taps, *layer.shape), dtype=state_dtype(layer.current.dtype))


def backward_call(incoming: Outputs, layer: Layer, gradients: Tensors, learnt: set[str]) -> tuple[Call, Tensor | None]:
    """Return the launch that writes the ``gradients``, those of ``learnt`` per neuron, and its workspace."""
    shape, steps, neurons = layer.shape, layer.length, math.prod(layer.shape)
    given = _given(layer)
    incoming, gradients = Outputs(incoming.out, *nonempty(incoming[1:])), Tensors(*nonempty(gradients))
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
    call = _call(
        lif_backward_kernel, layer,
        incoming, given, gradients, workspace, _inverse_width(layer), steps, neurons, layer.checkpoint_every,
        0 if incoming.out is None or layer.count else incoming.out.stride(0),
        0 if constant else layer.current.stride(0),
        0 if constant or gradients.current is None else gradients.current.stride(0), sizes, strides,
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


def summed_axes(gradient: Tensor, shape: torch.Size, stacked: bool) -> list[int]:
    """Return the axes of a gradient per neuron over which a coefficient of this shape is broadcast.

    With ``stacked`` both have the axis of taps in front. B is always one of the axes.
    """
    padding = (1,) * (gradient.dim() - len(shape))
    full = (-1, *padding, *shape[1:]) if stacked else (*padding, *shape)
    return [axis for axis, size in enumerate(full) if size == 1]


implement("triton", forward, backward)
