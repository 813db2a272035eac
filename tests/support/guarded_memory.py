"""Memory that shows whether a kernel reads or writes out of bounds."""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GUARD = -7.25  # fits every dtype, and is no spike, state or gradient that a test works with
_aten = torch.ops.aten
ALLOCATORS = (
    _aten.empty.memory_format, _aten.empty_strided.default, _aten.empty_like.default, _aten.new_empty.default,
    _aten.new_empty_strided.default,
)  # fmt: skip


def _in_buffer(like: Tensor, margin: int, around: float) -> tuple[Tensor, Tensor]:
    """An uninitialised tensor of ``like``'s shape and strides inside a buffer filled with ``around``."""
    extent = 1 + sum((size - 1) * stride for size, stride in zip(like.shape, like.stride(), strict=True))
    buffer = torch.full((margin + extent + margin,), around, dtype=like.dtype, device=like.device)
    return buffer, buffer.as_strided(like.shape, like.stride(), margin)


def among_nans(tensor: Tensor | None, margin: int) -> Tensor | None:
    """The same numbers and strides, with NaN before, after and between, so that a read out of bounds shows."""
    if tensor is None or tensor.numel() == 0:
        return tensor
    _, view = _in_buffer(tensor, margin, torch.nan)
    torch.as_strided(view, *_distinct(tensor), view.storage_offset()).copy_(tensor.as_strided(*_distinct(tensor)))
    return view


def _distinct(tensor: Tensor) -> tuple[list[int], tuple[int, ...]]:
    """Sizes and strides without the repetition of expanded axes."""
    return [1 if stride == 0 else size for size, stride in zip(tensor.shape, tensor.stride(), strict=True)], (
        tensor.stride()
    )


class GuardedAllocations(TorchDispatchMode):
    """Every tensor that is allocated inside starts as NaN and lies between guards.

    An element that a kernel leaves out stays NaN; a write out of bounds hits a guard. An operator's own allocations
    pass here only if its kernel is called below the mode: ``op.redispatch`` on the device's key.
    """

    def __init__(self, margin: int) -> None:
        super().__init__()
        self.margin = margin
        self.given: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func not in ALLOCATORS or result.numel() == 0 or not result.is_floating_point():
            return result
        buffer, view = _in_buffer(result, self.margin, GUARD)
        view.fill_(torch.nan)
        self.given.append((buffer, view))
        return view

    def check(self) -> None:
        for buffer, view in self.given:
            numbers = view.clone()
            view.fill_(GUARD)
            assert (buffer == GUARD).all(), f"a write outside a tensor of shape {tuple(view.shape)}"
            view.copy_(numbers)


class Allocations(TorchDispatchMode):
    """Records the size, in elements, of every tensor that is allocated inside; a view allocates nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[int] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        given = {t.untyped_storage().data_ptr() for t in _tensors((args, kwargs))}
        self.elements += [t.numel() for t in _tensors(result) if t.untyped_storage().data_ptr() not in given]
        return result


def _tensors(tree) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def call_below(op, mode: TorchDispatchMode, device: str, arguments: tuple):
    """Call ``op``'s kernel for ``device`` so that ``mode`` sees the allocations inside it."""
    key = torch._C.DispatchKey.CUDA if device == "cuda" else torch._C.DispatchKey.CPU
    with mode:
        return op.redispatch(torch._C.DispatchKeySet(key), *arguments)
