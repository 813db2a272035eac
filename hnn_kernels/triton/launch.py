"""The host side of the Triton kernels: allocate, describe the memory, choose the launch, register."""

import functools
import math
import struct
from collections.abc import Sequence
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import ops
from ..reference import state_dtype
from .lif import lif_backward_kernel, lif_forward_kernel

# Steps whose potentials one backward pass over time holds in registers: all of T where it fits, else T in segments of
# the last. A short list, so that another T compiles nothing; a short last one, since the kernel is unrolled over it:
# 32 needs two to three times the registers of 16, and Triton (3.6 to 3.9) takes 4 to 6 times as long to compile it.
SEGMENTS = (8, 16)
# Steps that forward loads together, one chunk ahead of the arithmetic.
CHUNK = 8


class Launch(NamedTuple):
    """Neurons per program, and warps per program."""

    block: int
    num_warps: int


def launch_config(neurons: int) -> Launch:
    """The launch of a kernel over ``neurons``: a function of their number alone, no measuring at run time.

    One neuron per thread (the backward kernel counts on it), since a neuron's time steps already give every thread
    several loads in flight. A small layer
    takes small blocks, so that its few neurons reach every multiprocessor (2^15 of them are 512 blocks of 64); a large
    one takes larger blocks, of which a multiprocessor has fewer to start. Not yet measured on a GPU.
    """
    block = 64 if neurons <= 2**17 else 128
    return Launch(block, block // 32)


def segment_steps(steps: int) -> int:
    """Steps per segment of a backward pass over ``steps``: all of them where a segment can hold them."""
    return next((s for s in SEGMENTS if steps <= s), SEGMENTS[-1])


class Strides(NamedTuple):
    """Per operand the strides over the collapsed dims of one step; None for a dense operand, and for none at all."""

    current: tuple[int, ...] | None = None
    out: tuple[int, ...] | None = None
    v: tuple[int, ...] | None = None
    r: tuple[int, ...] | None = None
    state: tuple[int, ...] | None = None
    decay: tuple[int, ...] | None = None
    reset_decay: tuple[int, ...] | None = None
    threshold: tuple[int, ...] | None = None
    grad_current: tuple[int, ...] | None = None
    grad_v: tuple[int, ...] | None = None
    grad_r: tuple[int, ...] | None = None


_COEFFICIENTS = ("decay", "reset_decay", "threshold")


def _outer_first(one: tuple[int, list[int]], other: tuple[int, list[int]]) -> int:
    """Order two dims by the first operand in which both move and differ."""
    for a, b in zip(one[1], other[1], strict=True):
        if a and b and a != b:
            return b - a
    return 0


def collapse(shape: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """The fewest dims, outermost first, that visit every element of all operands of ``shape``, and their strides.

    The order is that of the operands' memory, the first operand's before the others'. Neighbouring dims that every
    operand runs through as one are merged.
    """
    dims = [(size, [s[d] for s in strides]) for d, size in enumerate(shape) if size != 1]
    dims.sort(key=functools.cmp_to_key(_outer_first))
    merged: list[tuple[int, list[int]]] = []
    for size, inner in dims:
        if merged and all(outer == size * step for outer, step in zip(merged[-1][1], inner, strict=True)):
            merged[-1] = (merged[-1][0] * size, inner)
        else:
            merged.append((size, inner))
    merged = merged or [(1, [1] * len(strides))]
    return [size for size, _ in merged], [[step[i] for _, step in merged] for i in range(len(strides))]


def opaque(number: int) -> int:
    """``number`` as the kernels take it inside a tuple (``lif._strided_offset`` takes it apart).

    Triton compiles a kernel anew for every 1 and every multiple of 16 it finds in a tuple, do_not_specialize or not;
    4 n + 3 is neither.
    """
    return 4 * number + 3


@functools.lru_cache(maxsize=1024)
def _describe(
    shape: tuple[int, ...], names: tuple[str, ...], strides: tuple[tuple[int, ...], ...]
) -> tuple[tuple[int, ...] | None, Strides]:
    sizes, collapsed = collapse(shape, strides)
    dense = [math.prod(sizes[d + 1 :]) for d in range(len(sizes))]
    strided = {
        name: tuple(map(opaque, step))
        for name, step in zip(names, collapsed, strict=True)
        if name in _COEFFICIENTS or step != dense
    }
    return tuple(map(opaque, sizes)) if strided else None, Strides(**strided)


def describe(shape: Sequence[int], operands: dict[str, Tensor | None]) -> tuple[tuple[int, ...] | None, Strides]:
    """The kernels' ``(sizes, strides)`` of the ``operands``, each seen as one step of ``shape``.

    An operand of more dims than ``shape`` has time in front; a coefficient of fewer broadcasts. A coefficient always
    has strides, since by them a kernel tells it from a float.
    """
    given = {name: operand for name, operand in operands.items() if operand is not None}
    strides = tuple(
        operand.stride()[1:] if operand.dim() > len(shape) else operand.expand(shape).stride()
        for operand in given.values()
    )
    return _describe(tuple(shape), tuple(given), strides)


def _scalar(value: float, dtype: torch.dtype) -> float | int:
    """A float argument as ``formula.scalar`` expects it."""
    return struct.unpack("<q", struct.pack("<d", value))[0] if dtype == torch.float64 else value


def _launch(kernel, device_of: Tensor, neurons: int, *arguments, **constants) -> None:
    """Start ``kernel`` over ``neurons`` on the tensor's device and its current stream."""
    block, num_warps = launch_config(neurons)
    with torch.cuda.device_of(device_of):
        # Without contraction into multiply-adds, so that spikes are the reference's.
        kernel[(triton.cdiv(neurons, block),)](
            *arguments, **constants, BLOCK=block, num_warps=num_warps, enable_fp_fusion=False
        )


def forward(
    current: Tensor, steps: int | None, decay: Tensor | None, reset_decay: Tensor | None, threshold: Tensor | None,
    decay_value: float, reset_decay_value: float, threshold_value: float, v: Tensor | None, r: Tensor | None,
    sigma: float, surrogate: int, count: bool, smooth: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """``hnn::lif_forward_triton``."""
    out, v_out, r_out = ops.allocate_outputs(current, steps, count)
    shape, dtype = v_out.shape, state_dtype(current.dtype)
    neurons = v_out.numel()
    if neurons == 0:
        return out, v_out, r_out
    sizes, strides = describe(
        shape,
        {"current": current, "out": out, "v": v, "r": r, "state": v_out,
         "decay": decay, "reset_decay": reset_decay, "threshold": threshold},
    )  # fmt: skip
    _launch(
        lif_forward_kernel, current, neurons,
        current, out, v, r, v_out, r_out,
        _scalar(decay_value, dtype) if decay is None else decay,
        _scalar(reset_decay_value, dtype) if reset_decay is None else reset_decay,
        _scalar(threshold_value, dtype) if threshold is None else threshold,
        _scalar(1 / sigma, dtype),
        current.shape[0] if steps is None else steps, neurons,
        current.stride(0) if steps is None else 0, 0 if count else out.stride(0), sizes, strides,
        SURROGATE=surrogate, CONSTANT=steps is not None, COUNT=count, SMOOTH=smooth,
        DTYPE=tl.float64 if dtype == torch.float64 else tl.float32, CHUNK=CHUNK,
    )  # fmt: skip
    return out, v_out, r_out


def backward(
    grad_out: Tensor | None, grad_v: Tensor | None, grad_r: Tensor | None, current: Tensor, steps: int | None,
    decay: Tensor | None, reset_decay: Tensor | None, threshold: Tensor | None,
    decay_value: float, reset_decay_value: float, threshold_value: float, v: Tensor | None, r: Tensor | None,
    sigma: float, surrogate: int, count: bool, smooth: bool, reset_grad: int, needs: int,
) -> tuple[Tensor, ...]:  # fmt: skip
    """``hnn::lif_backward_triton``."""
    coefficients = (decay, reset_decay, threshold)
    shape, dtype = current.shape[1:] if steps is None else current.shape, state_dtype(current.dtype)
    neurons, length = math.prod(shape), current.shape[0] if steps is None else steps
    # The coefficients' gradients are allocated per neuron, and summed afterwards: deterministic, unlike an atomic add.
    gradients = list(ops.allocate_gradients(current, steps, coefficients, needs & 0b110001))
    for i in (1, 2, 3):
        if needs >> i & 1:
            gradients[i] = current.new_empty(shape, dtype=dtype)
    wanted = [gradient if needs >> i & 1 else None for i, gradient in enumerate(gradients)]
    if neurons:
        segment = segment_steps(length)
        segments = triton.cdiv(length, segment)
        workspace = current.new_empty((segments - 1, 2, neurons), dtype=dtype) if segments > 1 else None
        state = next((g for g in wanted[1:] if g is not None), None)
        sizes, strides = describe(
            shape,
            {"current": current, "grad_current": wanted[0], "out": grad_out, "v": v, "r": r,
             "grad_v": grad_v, "grad_r": grad_r, "state": state,
             "decay": decay, "reset_decay": reset_decay, "threshold": threshold},
        )  # fmt: skip
        _launch(
            lif_backward_kernel, current, neurons,
            grad_out, grad_v, grad_r, current, v, r, *(wanted[i] for i in (0, 4, 5, 1, 2, 3)), workspace,
            _scalar(decay_value, dtype) if decay is None else decay,
            _scalar(reset_decay_value, dtype) if reset_decay is None else reset_decay,
            _scalar(threshold_value, dtype) if threshold is None else threshold,
            _scalar(1 / sigma, dtype),
            length, neurons,
            0 if grad_out is None or count else grad_out.stride(0),
            current.stride(0) if steps is None else 0,
            gradients[0].stride(0) if steps is None and wanted[0] is not None else 0, sizes, strides,
            SURROGATE=surrogate, CONSTANT=steps is not None, COUNT=count, SMOOTH=smooth, RESET_GRAD=reset_grad,
            DTYPE=tl.float64 if dtype == torch.float64 else tl.float32, SEGMENT=segment,
        )  # fmt: skip
    for i, coefficient in enumerate(coefficients, start=1):
        if wanted[i] is not None:
            gradients[i] = wanted[i].sum_to_size(coefficient.shape).contiguous()
    return tuple(gradients)


ops.implement("triton", forward, backward)
