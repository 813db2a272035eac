"""The place of neuron m in each operand of a call, in the form in which the kernels take it."""

import functools
import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .._layer import COEFFICIENT, FILTER_COEFFICIENT, FILTER_STATE, OPERANDS, STATE_OPERANDS, record

# The tensors that go in, and the gradients that go in.
_INPUTS = {operand.name: operand.kind for operand in OPERANDS}
_GRADIENTS = {f"grad_{operand.name}": operand.kind for operand in STATE_OPERANDS}
# Operands with an axis in front, over taps or over the values of a filter's state.
_STACKED = {name for name, kind in (_INPUTS | _GRADIENTS).items() if kind in (FILTER_COEFFICIENT, FILTER_STATE)}
# Operands that are floats if they have no strides.
_COEFFICIENTS = {name for name, kind in _INPUTS.items() if kind in (COEFFICIENT, FILTER_COEFFICIENT)}

# The strides of each operand over the collapsed dims of one step; None for a dense operand, and an absent one. An
# operand of several blocks of neurons (taps, filter states) has one more stride at the end, from block to block. If the
# strides are None, the blocks lie one after another. ``kept`` stands for every tensor that the host allocated, except
# the train and the gradient of the current.
# The kernels find an input also by its place in the list.
_FIELDS = (*_INPUTS, "out", "potential", "kept", "grad_current", *_GRADIENTS)
Strides: Any = record("Strides", _FIELDS, (None,) * len(_FIELDS))


def _outer_first(one: tuple[int, list[int]], other: tuple[int, list[int]]) -> int:
    """Compare two dims by their strides in the first operand; dims that have no stride there stay in their order."""
    a, b = one[1][0], other[1][0]
    return b - a if a and b else 0


def collapse(shape: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """Return the fewest dims, outermost first, that visit all elements of operands of ``shape``, and their strides.

    The order is that of the first operand's memory alone. So forward and backward, whose other operands differ, number
    the neurons of a checkpoint alike. Neighbouring dims that are contiguous in every operand are merged.
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
    """Return ``number`` in the form that the kernels take inside a tuple (``memory.plain`` undoes it).

    Triton compiles a kernel anew for every 1 and every multiple of 16 that it finds in a tuple, even with
    do_not_specialize. 4 n + 3 is neither.
    """
    return 4 * number + 3


@functools.lru_cache(maxsize=1024)
def place(
    shape: tuple[int, ...], strides: tuple[tuple[int, ...], ...], always: tuple[bool, ...]
) -> tuple[tuple[int, ...] | None, tuple[tuple[int, ...] | None, ...]]:
    """Return the kernels' sizes, and for each operand its strides, from its strides over a step of ``shape``.

    A dense operand has None, but where ``always`` is true it has strides. Where none has any, the sizes are None.
    """
    sizes, collapsed = collapse(shape, strides)
    dense = [math.prod(sizes[d + 1 :]) for d in range(len(sizes))]
    found = tuple(
        tuple(map(opaque, step)) if must or step != dense else None
        for step, must in zip(collapsed, always, strict=True)
    )
    return tuple(map(opaque, sizes)) if any(found) else None, found


@functools.lru_cache(maxsize=1024)
def _describe(
    shape: tuple[int, ...], names: tuple[str, ...], strides: tuple[tuple[int, ...], ...], blocks: tuple[int, ...]
) -> tuple[tuple[int, ...] | None, Strides]:
    neurons = math.prod(shape)
    always = tuple(name in _COEFFICIENTS or block != neurons for name, block in zip(names, blocks, strict=True))
    sizes, found = place(shape, strides, always)
    strided = {}
    for name, step, block in zip(names, found, blocks, strict=True):
        if step is not None:
            strided[name] = (*step, opaque(block)) if name in _STACKED else step
    return sizes, Strides(**strided)


def describe(shape: Sequence[int], operands: dict[str, Tensor | None]) -> tuple[tuple[int, ...] | None, Strides]:
    """Return the kernels' ``(sizes, strides)`` of the ``operands``, each seen as one step of ``shape``.

    An operand with more dims than ``shape`` has time or taps in front. A coefficient with fewer dims broadcasts. A
    coefficient that is a tensor always has strides, by which a kernel tells it from a float.
    """
    neurons = math.prod(shape)
    names, strides, blocks = [], [], []
    for name, operand in operands.items():
        if operand is None:
            continue
        block = neurons
        if name in _STACKED:
            block = operand.stride(0) if operand.shape[0] > 1 else neurons
            step = operand[0].expand(shape).stride()
        elif operand.dim() > len(shape):
            step = operand.stride()[1:]
        else:
            step = operand.expand(shape).stride()
        names.append(name)
        strides.append(step)
        blocks.append(block)
    return _describe(tuple(shape), tuple(names), tuple(strides), tuple(blocks))
