"""Marks: while a model is traced, a step of a neuron is one opaque node, which knows its module by a number."""

import itertools
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from .._convert.swap import of_library

_numbers = itertools.count(1)
# By number: the marks of all models that are unrolled.
_marks: "weakref.WeakValueDictionary[int, Mark]" = weakref.WeakValueDictionary()
_lock = threading.RLock()


class UnrollWarning(UserWarning):
    """A loop, or a part of it, is left as it was."""


class Mark:
    """A neuron module whose steps are marked.

    Attributes:
        number: the number by which a node knows it.
        name: the module's name in the model.
        module: the neuron module.
        kind: the :class:`hnn_kernels._unroll.kinds.Kind` of its class.
        original, marked: its class, and the subclass that it has while the compiler may trace it.
    """

    def __init__(self, name: str, module: nn.Module, kind: Any, attributes: dict[str, Any]) -> None:
        self.number, self.name, self.module, self.kind = next(_numbers), name, module, kind
        self._attributes = {"_hnn_mark": self.number, "_hnn_blank": True, **attributes, **kind.methods}
        _marks[self.number] = self
        self._mark(type(module))

    def _mark(self, original: type) -> None:
        own = {"forward": self.kind.forward, "__module__": original.__module__, "__doc__": original.__doc__}
        self.marked: Any = type(original.__name__, (original,), {"_hnn_unmarked": original, **self._attributes, **own})
        self.original: Any = original

    def follow(self) -> None:
        """Mark the class that the module has now, where a conversion has changed it, or undone one."""
        kind = type(self.module)
        if kind not in (self.original, self.marked) and of_library(kind) is of_library(self.original):
            self._mark(kind)

    def without_blanks(self) -> None:
        """Have the states before the first step be what the class makes them."""
        self._attributes["_hnn_blank"] = self.marked._hnn_blank = False


def by_number(number: int) -> Mark:
    """Return a mark by its number."""
    return _marks[number]


def of(module: nn.Module) -> Mark:
    """Return the mark of a module that is marked now."""
    return _marks[type(module)._hnn_mark]  # type: ignore[attr-defined]


@contextmanager
def marked(marks: Sequence[Mark]) -> Iterator[None]:
    """Have the modules their marked classes, in which a call that is not traced does what it always does."""
    with _lock:
        for mark in marks:
            mark.follow()
        changed = [mark for mark in marks if type(mark.module) is mark.original]
        for mark in changed:
            mark.module.__class__ = mark.marked
        try:
            yield
        finally:
            for mark in changed:
                mark.module.__class__ = mark.original


def step(number: int, x: Tensor, *states: Tensor | None) -> tuple[Tensor, ...]:
    """Stand for a step of a neuron in a graph. It is called on fake tensors alone, to tell what a step returns."""
    if not isinstance(x, FakeTensor):
        raise RuntimeError("a marked step ran in the place of its neuron's")  # what it returns has no values
    mark = _marks[number]
    return tuple(x.new_empty(shape, dtype=dtype) for shape, dtype in mark.kind.forms(mark.module, x, states))


def blank(number: int) -> Tensor:
    """Stand for the states before the first step."""
    return torch.empty(0)


_known = False


def make_known() -> None:
    """Have the compiler take :func:`step` and :func:`blank` for nodes. It costs an import, so the first use does it."""
    global _known
    if not _known:
        for function in (step, blank):
            torch.compiler.allow_in_graph(function)
        _known = True
