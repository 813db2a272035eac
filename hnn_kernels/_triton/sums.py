"""The gradients of coefficients: a kernel adds up what backward leaves for each neuron.

The order of the additions depends on the sizes alone, so equal calls give equal bits. Atomic additions would not.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from .._layer import FILTER_COEFFICIENTS, Layer
from ..state import state_dtype
from .call import Call
from .layout import collapse, opaque
from .memory import SLOT_PORTION, offset_of, plain

# The numbers that a program takes at once, 16 for each thread of four warps, and those of them that belong to
# neighbouring results, where results are neighbours.
NUMBERS, TOGETHER = 2048, 32
# How often a program takes so many before the sum is divided among several.
TURNS = 16


@triton.jit(do_not_specialize=["results", "values", "chunk", "chunks", "slot_step"])
def add_up_kernel(
    partials, targets, ends, results, values, chunk, chunks, slot_step,
    kept_sizes, kept_strides, shared_sizes, shared_strides,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """Write sums over the ``values`` of each of the ``results`` of every slot to the targets, [slots, chunks, results].

    A slot is a coefficient, or one tap of a filter; ``ends`` are the slots behind the last of each target.
    """
    tiles = tl.cdiv(results, COLUMNS)
    tile = tl.program_id(0) % tiles
    rest = tl.program_id(0) // tiles
    turn = rest % chunks
    slot = rest // chunks
    result = tile.to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    mask = result < results
    partials += slot * slot_step.to(tl.int64) + offset_of(result, results, kept_sizes, kept_strides)
    first = turn * chunk.to(tl.int64)
    end = tl.minimum(first + chunk, values)
    total = tl.zeros([ROWS, COLUMNS], partials.dtype.element_ty)
    for begin in range(first, end, ROWS):
        value = begin + tl.arange(0, ROWS)
        place = offset_of(value, values, shared_sizes, shared_strides)
        here = (value < end)[:, None] & mask[None, :]
        total += tl.load(partials[None, :] + place[:, None], mask=here, other=0.0)
    total = tl.sum(total, 0)
    before = 0
    for i in tl.static_range(len(targets)):
        last = plain(ends[i])
        row = ((slot - before) * chunks + turn) * results.to(tl.int64)
        tl.store(targets[i] + row + result, total, mask=tl.where((slot >= before) & (slot < last), mask, False))
        before = last


def slot_step(neurons: int) -> int:
    """Return the elements from a slot to the next. All are aligned, so another batch needs no other compilation."""
    return triton.cdiv(neurons, SLOT_PORTION) * SLOT_PORTION


class Sums(NamedTuple):
    """The sums of a backward call.

    Attributes:
        partials: the gradients per neuron, ``[slots, B, *features]``, slots being :func:`slot_step` elements apart.
        views: those of each coefficient.
        parts: those of each shape.
        scratch: what stands between two launches.
        calls: the launches, in order.
    """

    partials: Tensor
    views: dict[str, Tensor]
    parts: list[Tensor]
    scratch: list[Tensor]
    calls: list[Call]

    @classmethod
    def of(cls, layer: Layer, gradients: Mapping[str, Tensor]) -> "Sums":
        """Allocate what the sums to the ``gradients`` of a layer's coefficients need, and prepare their launches.

        Coefficients of one shape are one launch. More values than a program should take are another one.
        """
        shape = layer.shape
        groups: dict[tuple[int, ...], list[str]] = {}
        for name, gradient in gradients.items():
            own = tuple(gradient.shape[name in FILTER_COEFFICIENTS :])
            groups.setdefault((1,) * (len(shape) - len(own)) + own, []).append(name)
        taps = {name: gradients[name].shape[0] if name in FILTER_COEFFICIENTS else 1 for name in gradients}
        count, neurons = sum(taps.values()), math.prod(shape)
        slots = layer.current.new_empty((count, slot_step(neurons)), dtype=state_dtype(layer.current.dtype))
        partials = slots[:, :neurons].view(count, *shape)
        found = cls(partials, {}, [], [], [])
        first = 0
        for own, names in groups.items():
            begin = first
            for name in names:
                stacked = name in FILTER_COEFFICIENTS
                found.views[name] = partials[first : first + taps[name]] if stacked else partials[first]
                first += taps[name]
            if math.prod(own):
                part = partials if len(groups) == 1 else partials[begin:first]
                found.parts.append(part)
                targets = tuple(gradients[name] for name in names)
                found._launch(part, targets, [taps[name] for name in names], shape, own)
        return found

    def _launch(
        self, partials: Tensor, targets: tuple[Tensor, ...], taps: list[int], shape: Sequence[int], own: Sequence[int]
    ) -> None:
        """Add the launches that sum ``partials`` over the axes that a coefficient of shape ``own`` lacks."""
        kept = [step if size > 1 else 0 for size, step in zip(own, _row_major(own), strict=True)]
        sizes, (steps, kept) = collapse(shape, [_row_major(shape), kept])
        axes = list(zip(sizes, steps, kept, strict=True))
        results, shared = [axis for axis in axes if axis[2]], [axis for axis in axes if not axis[2]]
        ends = tuple(opaque(sum(taps[: i + 1])) for i in range(len(taps)))
        chunks = 0
        while chunks != 1:
            count, values = (math.prod(axis[0] for axis in some) for some in (results, shared))
            columns = 1 if shared and shared[-1][1] == 1 else TOGETHER
            rows = NUMBERS // columns
            chunk = rows * TURNS
            chunks = max(triton.cdiv(values, chunk), 1)
            to, last = targets, ends
            if chunks > 1:
                self.scratch.append(partials.new_empty((sum(taps), chunks, count)))
                to, last = (self.scratch[-1],), ends[-1:]
            arguments = (
                partials, to, last, count, values, chunk, chunks, partials.stride(0),
                *_opaque(results), *_opaque(shared), rows, columns,
            )  # fmt: skip
            grid = (triton.cdiv(count, columns) * chunks * sum(taps),)
            self.calls.append(Call(add_up_kernel, grid, arguments, {"num_warps": 4}))
            if chunks > 1:
                partials, results, shared = self.scratch[-1], [(count, 1, 1)], [(chunks, count, 0)]


def _row_major(shape: Sequence[int]) -> list[int]:
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def _opaque(axes: list[tuple[int, int, int]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the sizes and the steps of axes as the kernel takes them."""
    axes = axes or [(1, 0, 0)]
    return tuple(opaque(axis[0]) for axis in axes), tuple(opaque(axis[1]) for axis in axes)
