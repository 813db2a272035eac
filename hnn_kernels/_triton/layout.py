"""The place of neuron m in each operand of a call, in the form in which the kernels take it."""

import functools
import math
from collections import namedtuple
from collections.abc import Sequence

from torch import Tensor

from .._layer import COEFFICIENT, FILTER_COEFFICIENT, FILTER_STATE, OPERANDS, STATE_OPERANDS

# Of the tensors that go in, and of the gradients that do.
_INPUTS = {operand.name: operand.kind for operand in OPERANDS}
_GRADIENTS = {f"grad_{operand.name}": operand.kind for operand in STATE_OPERANDS}
# Operands with an axis in front: of taps, or of what a filter's state keeps.
_STACKED = {name for name, kind in (_INPUTS | _GRADIENTS).items() if kind in (FILTER_COEFFICIENT, FILTER_STATE)}
# Operands that are floats where they have no strides.
_COEFFICIENTS = {name for name, kind in _INPUTS.items() if kind in (COEFFICIENT, FILTER_COEFFICIENT)}

# Per operand the strides over the collapsed dims of one step; None for a dense operand, and for none at all. An operand
# of several blocks of neurons (taps, filter states) has one more, last, from block to block; where it is None they lie
# one after another. ``kept`` stands for every tensor that the host allocated, the train and the current's gradient
# apart.
# The kernels find an input by its place in the list, too.
_FIELDS = (*_INPUTS, "out", "kept", "grad_current", *_GRADIENTS)
Strides = namedtuple("Strides", _FIELDS, defaults=(None,) * len(_FIELDS))  # type: ignore[misc]


def _outer_first(one: tuple[int, list[int]], other: tuple[int, list[int]]) -> int:
    """Order two dims by the first operand, where both move in it; others stay in their order."""
    a, b = one[1][0], other[1][0]
    return b - a if a and b else 0


def collapse(shape: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """The fewest dims, outermost first, that visit every element of all operands of ``shape``, and their strides.

    The order is that of the first operand's memory alone, so that forward and backward, whose other operands differ,
    number the neurons of a checkpoint alike. Neighbouring dims that every operand runs through as one are merged.
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
    """``number`` as the kernels take it inside a tuple (``memory.plain`` takes it apart).

    Triton compiles a kernel anew for every 1 and every multiple of 16 it finds in a tuple, do_not_specialize or not;
    4 n + 3 is neither.
    """
    return 4 * number + 3


@functools.lru_cache(maxsize=1024)
def _describe(
    shape: tuple[int, ...], names: tuple[str, ...], strides: tuple[tuple[int, ...], ...], blocks: tuple[int, ...]
) -> tuple[tuple[int, ...] | None, Strides]:
    sizes, collapsed = collapse(shape, strides)
    dense = [math.prod(sizes[d + 1 :]) for d in range(len(sizes))]
    neurons = math.prod(shape)
    strided = {}
    for name, step, block in zip(names, collapsed, blocks, strict=True):
        if name in _COEFFICIENTS or step != dense or block != neurons:
            extra = (block,) if name in _STACKED else ()
            strided[name] = tuple(map(opaque, (*step, *extra)))
    return tuple(map(opaque, sizes)) if strided else None, Strides(**strided)


def describe(shape: Sequence[int], operands: dict[str, Tensor | None]) -> tuple[tuple[int, ...] | None, Strides]:
    """The kernels' ``(sizes, strides)`` of the ``operands``, each seen as one step of ``shape``.

    An operand of more dims than ``shape`` has time or taps in front; a coefficient of fewer broadcasts. A coefficient
    always has strides, since by them a kernel tells it from a float.
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
