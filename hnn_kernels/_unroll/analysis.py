"""Which nodes of an unrolled loop are the calls of one layer, and which of these layers feed back into themselves."""

import operator
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from . import marks
from .effects import Effects, Watcher, inputs, storages, value


class RefusedError(Exception):
    """A loop is left as it was, for the reason that the message gives."""


class BlankUsedError(Exception):
    """The states before the first step go elsewhere than into a neuron."""


class Lane(NamedTuple):
    """A tensor that is one step of another one: ``base[t]``, ``base[:, t]``, or ``base[t:t+1]`` with ``kept``.

    Its ``place`` is t.
    """

    base: fx.Node
    dim: int
    place: int
    kept: bool


def is_step(node: Any) -> bool:
    """Tell if a node is a step of a neuron."""
    return isinstance(node, fx.Node) and node.target is marks.step


def result_of_step(node: Any) -> tuple[fx.Node, int] | None:
    """Return the step of which a node is a result, and which one."""
    if isinstance(node, fx.Node) and node.target is operator.getitem:
        args: Any = node.args
        return (args[0], args[1]) if is_step(args[0]) else None
    return None


def said_at(node: fx.Node) -> str:
    """Return the user's line that a node comes from."""
    lines = [line.strip() for line in (node.stack_trace or "").strip().splitlines()]
    places = [i for i, line in enumerate(lines) if line.startswith("File ")]
    if not places:
        return ""
    code = lines[places[-1] + 1] if places[-1] + 1 < len(lines) else ""
    return f" ({lines[places[-1]]}: {code})"


# Nodes that change what the nodes behind them do.
_SWITCHES = (
    "_set_grad_enabled", "_enter_autocast", "_exit_autocast", "_enter_inference_mode", "_exit_inference_mode",
    "_saved_tensors_hooks_disable", "_saved_tensors_hooks_enable", "_vmap_increment_nesting", "_grad_increment_nesting",
)  # fmt: skip


class Analysis:
    """An unrolled loop, as groups of nodes that may each become one.

    Attributes:
        nodes: the live nodes but placeholders and the output, in their order; equal ones are one (:attr:`same`).
        lanes: the steps of tensors, by node.
        pinned: nodes whose memory is written into, which keep their order.
        group: by node, its group; a node that is in none is its own.
        chains: the steps of each neuron layer.
    """

    def __init__(self, graph: fx.Graph) -> None:
        self.graph = graph
        self.watch = Watcher(graph)
        self.same: dict[fx.Node, fx.Node] = {}
        self.lanes: dict[fx.Node, Lane] = {}
        self.effects: dict[fx.Node, Effects] = {}
        self.before: dict[fx.Node, set[fx.Node]] = {}  # what must come before a node beside its arguments
        self._find_live()
        self._find_order_of_writes()
        self._find_equal()
        self._find_lanes()
        self._find_chains()
        self._find_groups()

    # -- what is there ----------------------------------------------------------------------------------------------

    def _find_live(self) -> None:
        live: set[fx.Node] = set()
        for node in reversed(self.graph.nodes):
            if getattr(node.target, "__name__", "") in _SWITCHES:
                raise RefusedError(
                    f"the loop switches gradients or autocast inside{said_at(node) or said_at(node.next)}"
                )
            self.effects[node] = self.watch(node)
            if node.op == "output" or node in live or self.effects[node].written:
                live.update((node, *inputs(node)))
        self.nodes = [node for node in self.graph.nodes if node in live and node.op not in ("placeholder", "output")]
        self.output = next(node for node in self.graph.nodes if node.op == "output")
        if any(node.target is marks.blank for node in self.nodes):
            raise BlankUsedError

    def _find_order_of_writes(self) -> None:
        """Keep the order of all that touches memory which is written into."""
        written: set[int] = set()
        for node in self.nodes:
            given = inputs(node)
            for place in self.effects[node].written:
                written |= storages(given[place])
        self.pinned: set[fx.Node] = set()
        writer: dict[int, fx.Node] = {}
        readers: dict[int, list[fx.Node]] = {}
        for node in self.nodes if written else ():
            given = inputs(node)
            mine = {s for place in self.effects[node].written for s in storages(given[place])}
            touched = (storages(node).union(*map(storages, given))) & written
            for storage in touched:
                self.pinned.add(node)
                earlier = {writer[storage]} if storage in writer else set()
                if storage in mine:
                    earlier |= set(readers.pop(storage, ()))
                    writer[storage] = node
                else:
                    readers.setdefault(storage, []).append(node)
                self.before.setdefault(node, set()).update(earlier - {node})

    def _find_equal(self) -> None:
        """Take calls of one function with the same arguments for one: a layer of what is constant in time."""
        found: dict[Hashable, fx.Node] = {}
        kept = []
        for node in self.nodes:
            effects = self.effects[node]
            if node.op == "get_attr" or node in self.pinned or effects.random or not effects.plain or is_step(node):
                kept.append(node)
                continue
            key = (node.op, node.target, repr(self._with_same(node)))
            first = self._without_its_step(node) or found.setdefault(key, node)
            if first is node:
                kept.append(node)
            else:
                self.same[node] = first
        self.nodes = kept
        self._users: dict[fx.Node, list[fx.Node]] = {}
        for user in [*self.nodes, self.output]:
            for given in self.inputs(user):
                self._users.setdefault(given, []).append(user)

    def _without_its_step(self, node: fx.Node) -> fx.Node | None:
        """Return ``x`` for ``x.unsqueeze(0)[0]``, which a call over one step makes of its output."""
        if node.target is not operator.getitem or node.args[1] != 0 or type(node.args[1]) is not int:
            return None
        whole = self.argument(node, 0)
        added = isinstance(whole, fx.Node) and (whole.op, whole.target, whole.args[1:]) == (
            "call_method",
            "unsqueeze",
            (0,),
        )
        return self.argument(whole, 0) if added else None

    def _with_same(self, node: fx.Node) -> Any:
        return fx.node.map_arg((node.args, node.kwargs), lambda n: self.same.get(n, n))

    def inputs(self, node: fx.Node) -> list[fx.Node]:
        """Return the nodes among the arguments of a node, the first of those that are equal."""
        return [self.same.get(n, n) for n in inputs(node)]

    def argument(self, node: fx.Node, place: int) -> Any:
        """Return an argument of a node."""
        given = node.args[place]
        return self.same.get(given, given) if isinstance(given, fx.Node) else given

    # -- time -------------------------------------------------------------------------------------------------------

    def _find_lanes(self) -> None:
        """Find the steps that are taken out of tensors over time, and all that depends on a step."""
        self.timed: set[fx.Node] = set()
        for node in self.nodes:
            lane = None if node in self.pinned else self._lane(node)
            if lane is not None and lane.base not in self.timed:
                self.lanes[node] = lane
            if lane is not None or is_step(node) or any(n in self.timed for n in self.inputs(node)):
                self.timed.add(node)

    def _lane(self, node: fx.Node) -> Lane | None:
        if node.target is not operator.getitem:
            return None
        index: Any = node.args[1]
        base = self.argument(node, 0)
        if not isinstance(base, fx.Node) or is_step(base):
            return None
        if base.target in ("unbind", torch.unbind) and isinstance(index, int):
            whole = self.argument(base, 0)
            axis: Any = base.args[1] if len(base.args) > 1 else base.kwargs.get("dim", 0)
            return Lane(whole, axis % value(whole).dim(), index % value(whole).shape[axis], False)
        if not isinstance(value(base), Tensor):
            return None
        indices = index if isinstance(index, tuple) else (index,)
        dims = [i for i, at in enumerate(indices) if not (isinstance(at, slice) and at == slice(None))]
        if len(dims) != 1 or not all(type(at) in (int, slice) for at in indices):
            return None
        dim, at = dims[0], indices[dims[0]]
        size = value(base).shape[dim]
        if type(at) is int:
            return Lane(base, dim, at % size, False)
        if not all(part is None or type(part) is int for part in (at.start, at.stop, at.step)):
            return None
        taken: Any = range(size)[at]
        return Lane(base, dim, taken[0], True) if len(taken) == 1 and size > 1 else None

    def _find_chains(self) -> None:
        """Find the layers: steps of one module of which each continues with the states of the last one."""
        self.chains: list[list[fx.Node]] = []
        self.chain_of: dict[fx.Node, int] = {}
        for node in self.nodes:
            if not is_step(node):
                continue
            last = self._continued(node)
            if last is None:
                self.chain_of[node] = len(self.chains)
                self.chains.append([node])
            else:
                self.chain_of[node] = self.chain_of[last]
                self.chains[self.chain_of[node]].append(node)

    def _continued(self, node: fx.Node) -> fx.Node | None:
        """Return the last step of the layer that a step continues; None if it begins one."""
        mark = self.layer_of(node)
        first = mark.kind.outputs(mark.module)
        origins = [result_of_step(self.argument(node, i)) for i in range(2, len(node.args))]
        if not origins or origins[0] is None:
            return None
        last = origins[0][0]
        if last.args[0] != node.args[0] or origins != [(last, first + i) for i in range(len(origins))]:
            return None
        return last if self.chains[self.chain_of[last]][-1] is last else None

    # -- groups -----------------------------------------------------------------------------------------------------

    def _find_groups(self) -> None:
        numbers: dict[Hashable, int] = {}
        signature: dict[fx.Node, int] = {}
        members: dict[int, list[fx.Node]] = {}
        for node in self.nodes:
            sign = self._signature(node, signature)
            signature[node] = numbers.setdefault(sign, len(numbers))
            if self._may_fold(node):
                members.setdefault(signature[node], []).append(node)
        self.group: dict[fx.Node, Hashable] = {}
        for number, nodes in members.items():
            if len(nodes) > 1:
                self.group |= dict.fromkeys(nodes, ("fold", number))
        for node in self.nodes:
            found = result_of_step(node)
            step = found[0] if found else node
            if step in self.chain_of:
                self.group[node] = ("chain", self.chain_of[step])

    def _may_fold(self, node: fx.Node) -> bool:
        effects = self.effects[node]
        return (
            node in self.timed
            and node not in self.lanes
            and node not in self.pinned
            and node.op in ("call_function", "call_method")
            and effects.plain
            and not effects.random
            and not is_step(node)
            and result_of_step(node) is None
            and isinstance(value(node), Tensor)
        )

    def _signature(self, node: fx.Node, known: dict[fx.Node, int]) -> Hashable:
        """Return what the calls of one layer at several steps have in common."""
        if is_step(node):
            return "step", self.chain_of[node]
        if node in self.lanes:
            lane = self.lanes[node]
            return "lane", lane.base.name, lane.dim, lane.kept
        if node not in self.timed or not self.effects[node].plain:
            return "node", node.name
        example = value(node)
        form = (tuple(example.shape), example.dtype) if isinstance(example, Tensor) else None

        def name(leaf: Any) -> Any:
            leaf = self.same.get(leaf, leaf) if isinstance(leaf, fx.Node) else leaf
            return ("node", known.get(leaf, leaf.name)) if isinstance(leaf, fx.Node) else repr(leaf)

        arguments = fx.node.map_aggregate((node.args, tuple(node.kwargs.items())), name)
        return node.op, node.target, form, repr(arguments)

    def key(self, node: fx.Node) -> Hashable:
        """Return the group of a node; a node that is in none is its own."""
        return self.group.get(node, node)

    def dissolve(self, key: Hashable) -> None:
        """Make the nodes of a group their own groups."""
        self.group = {node: group for node, group in self.group.items() if group != key}

    def needs(self, node: fx.Node) -> Iterable[fx.Node]:
        """Return all that must come before a node, but the states that a layer hands from step to step."""
        given = self.inputs(node)
        if is_step(node) and node in self.group and node is not self.chains[self.chain_of[node]][0]:
            given = given[:1]  # the current
        return [*given, *map(self._same, self.before.get(node, ()))]

    def _same(self, node: fx.Node) -> fx.Node:
        return self.same.get(node, node)

    def dependencies(self) -> dict[Hashable, set[Hashable]]:
        """Return, by group, the groups that it needs: itself if one of its nodes needs another one."""
        found: dict[Hashable, set[Hashable]] = {}
        for node in self.nodes:
            key = self.key(node)
            mine = found.setdefault(key, set())
            for other in self.needs(node):
                if other.op == "placeholder":
                    continue
                if node in self.group and is_step(other) and self.key(other) == key:
                    continue  # a result of a step is a part of its layer
                mine.add(self.key(other))
        return found

    def users(self, node: fx.Node) -> list[fx.Node]:
        """Return the live nodes with a node among their arguments."""
        return self._users.get(node, [])

    def results(self, step: fx.Node, place: int) -> list[fx.Node]:
        """Return the nodes that have the result of a step at a place."""
        return [node for node in self.users(step) if result_of_step(node) == (step, place)]

    def used(self, steps: Sequence[fx.Node], place: int) -> list[int]:
        """Return the steps of a layer whose result at a place has another use than as the state of the next step."""
        found = []
        for i, step in enumerate(steps):
            following = steps[i + 1] if i + 1 < len(steps) else None
            for result in self.results(step, place):
                if any(user is not following or self.argument(user, 1) is result for user in self.users(result)):
                    found.append(i)
        return found

    @staticmethod
    def layer_of(node: fx.Node) -> marks.Mark:
        """Return the mark of a step."""
        number: Any = node.args[0]
        return marks.by_number(number)
