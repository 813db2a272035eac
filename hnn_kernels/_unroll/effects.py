"""The effects of a node of a graph beside its value: it writes into a tensor, or draws random numbers.

A node is run once on its fake tensors, and the operators below it are watched. So nothing depends on how a function is
called: an ``inplace=True``, a ``+=``, an assignment to a slice and the running mean of a batch norm are all seen.
"""

from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from . import marks


class Effects(NamedTuple):
    """The effects of a node.

    Attributes:
        written: the places of its tensors, in the order of :func:`inputs`, that it writes into.
        random: True if it draws random numbers, or may.
        plain: True if it is a function of tensors that may be called again, on other tensors of the same shapes.
    """

    written: tuple[int, ...]
    random: bool
    plain: bool


ZEROS = (torch.zeros, torch.zeros_like, "new_zeros")
PURE = Effects((), False, True)
_UNKNOWN = Effects((), True, False)


def inputs(node: fx.Node) -> list[fx.Node]:
    """Return the nodes among the arguments, in order and as often as they are there."""
    found: list[fx.Node] = []
    fx.node.map_arg((node.args, node.kwargs), found.append)
    return found


def value(node: fx.Node) -> Any:
    """Return the fake value of a node."""
    return node.meta.get("example_value")


def storages(node: fx.Node) -> set[int]:
    """Return the storages of a node's values: two nodes with a common one share memory."""
    return {t.untyped_storage()._cdata for t in tree_leaves(value(node)) if isinstance(t, Tensor)}


class _Watch(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.storages: set[int] = set()
        self.random = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        schema = func._schema
        for i, argument in enumerate(schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                given = args[i] if i < len(args) else kwargs.get(argument.name)
                self.storages |= {t.untyped_storage()._cdata for t in tree_leaves(given) if isinstance(t, Tensor)}
        self.random |= torch.Tag.nondeterministic_seeded in func.tags
        self.random |= func.namespace not in ("aten", "prim", "prims")  # an operator of which nothing is known
        return func(*args, **kwargs)


class Watcher:
    """Finds the effects of nodes; nodes that are alike are run once."""

    def __init__(self, graph: fx.Graph) -> None:
        # That of the trace: the compiler has made another one for its backend by now.
        examples = (t for node in graph.nodes for t in tree_leaves(value(node)) if isinstance(t, FakeTensor))
        self.mode = next((t.fake_mode for t in examples), None)
        self.known: dict[Any, Effects] = {}

    def __call__(self, node: fx.Node) -> Effects:
        """Return the effects of a node."""
        if node.op not in ("call_function", "call_method"):
            return PURE if node.op in ("placeholder", "get_attr", "output") else _UNKNOWN
        if node.target in (marks.step, marks.blank):
            return PURE
        given = inputs(node)
        if node.target == "detach_" and given[0].target in ZEROS:
            return PURE  # what a reset of snnTorch does to zeros, which have no history
        if isinstance(node.target, torch._ops.HigherOrderOperator) or any(value(n) is None for n in given):
            return _UNKNOWN
        key = self._key(node, given)
        if key not in self.known:
            self.known[key] = self._run(node, given)
        return self.known[key]

    def _key(self, node: fx.Node, given: Iterable[fx.Node]) -> Any:
        forms = [
            (t.shape, t.stride(), t.dtype, t.device, t.requires_grad) if isinstance(t, Tensor) else type(t)
            for n in given
            for t in tree_leaves(value(n))
        ]
        plain = fx.node.map_arg((node.args, node.kwargs), lambda n: "node")
        return node.op, node.target, repr(plain), tuple(forms)

    def _run(self, node: fx.Node, given: list[fx.Node]) -> Effects:
        places = [storages(n) for n in given]
        with torch.no_grad(), self.mode or nullcontext(), _Watch() as watch:
            try:
                call(node.op, node.target, *fx.node.map_arg((node.args, node.kwargs), value))
            except Exception:  # whatever it is that this function needs: it may write into all that it gets
                return Effects(tuple(range(len(given))), True, False)
        written = tuple(i for i, there in enumerate(places) if there & watch.storages)
        return Effects(written, watch.random, True)


def call(op: str, target: Any, args: Any, kwargs: Any) -> Any:
    """Call the function or the method of a node."""
    if op == "call_method":
        return getattr(args[0], target)(*args[1:], **kwargs)
    return target(*args, **kwargs)
