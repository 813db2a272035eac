"""From the graph of an unrolled loop to one in which a layer's calls of all steps are one call."""

import heapq
import operator
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx
from torch.nn import functional
from torch.utils._pytree import tree_leaves

from . import run
from .analysis import Analysis, RefusedError, is_step
from .circles import circles
from .effects import ZEROS, value

_LINEAR = (functional.linear, torch._C._nn.linear)
_CONVOLUTIONS = {
    getattr(space, name): int(name[4]) + 2 for space in (functional, torch) for name in ("conv1d", "conv2d", "conv3d")
}


class Layer(NamedTuple):
    """The steps of a neuron layer in a loop, and what became of them.

    Attributes:
        name: the module's name in the model.
        kind: its class.
        steps: the number of its steps.
        unrolled: True if one call has their place.
        why: why it was left as it was; else empty.
    """

    name: str
    kind: str
    steps: int
    unrolled: bool
    why: str = ""

    def __str__(self) -> str:
        done = "one call" if self.unrolled else f"left as it was: {self.why}"
        return f"{self.name or '(the model)'} ({self.kind}), {self.steps} step{'s' * (self.steps != 1)}: {done}"


def contract(graph_module: fx.GraphModule) -> tuple[fx.GraphModule, list[Layer]]:
    """Return the contracted graph, and what became of each layer.

    Raises:
        RefusedError: no layer can be contracted.
    """
    for name, inner in graph_module.named_modules():
        if name and any(is_step(node) for node in getattr(getattr(inner, "graph", None), "nodes", ())):
            raise RefusedError("a neuron is called inside of a function that is a graph of its own, as a checkpoint is")
    analysis = Analysis(graph_module.graph)
    layers = _choose(analysis)
    if not any(layer.unrolled for layer in layers):
        left = "; ".join(map(str, layers)) or "no neuron of the model is called"
        raise RefusedError(f"no layer's steps can be one call: {left}")
    graph = _Writer(analysis).write()
    graph.lint()
    return fx.GraphModule(graph_module, graph), layers


def _choose(analysis: Analysis) -> list[Layer]:
    """Leave the chains that cannot be one call; return what becomes of each."""
    why = {}
    for i, steps in enumerate(analysis.chains):
        reason = _why_not(analysis, steps)
        if reason:
            why[i] = reason
            analysis.dissolve(("chain", i))
    for part in circles(analysis.dependencies()):
        caught = [key[1] for key in part if isinstance(key, tuple) and key[0] == "chain"]
        names = sorted({analysis.layer_of(analysis.chains[i][0]).name for i in caught})
        for key in part:
            analysis.dissolve(key)
        for i in caught:
            others = [n for n in names if n != analysis.layer_of(analysis.chains[i][0]).name]
            through = f", through {', '.join(others)}" if others else ""
            why[i] = f"what it sends comes back to it at a later step{through}"
    layers = []
    for i, steps in enumerate(analysis.chains):
        mark = analysis.layer_of(steps[0])
        layers.append(Layer(mark.name, mark.original.__name__, len(steps), i not in why, why.get(i, "")))
    return layers


def _why_not(analysis: Analysis, steps: Sequence[fx.Node]) -> str:
    mark = analysis.layer_of(steps[0])
    refusal = mark.kind.refusal(mark.module)
    if refusal:
        return refusal
    if len(steps) == 1:
        return (
            "its state does not go from one of its steps into another. Is the loop over time in the forward of the "
            "model that is unrolled? Where a function has it, make it the forward of a module"
        )
    outputs = mark.kind.outputs(mark.module)
    states = range(outputs, outputs + len(steps[0].args) - 2)
    between = len(steps) - 1
    if not mark.kind.records and any(i < between for place in states for i in analysis.used(steps, place)):
        return "the state between two of its steps is used, which its kernel does not keep"
    return ""


class _Writer:
    """Writes the contracted graph."""

    def __init__(self, analysis: Analysis) -> None:
        self.analysis = analysis
        self.graph = fx.Graph()
        self.new: dict[fx.Node, fx.Node] = {}
        # By node: the tensor over all steps that has it, and its step there.
        self.places: dict[fx.Node, tuple[fx.Node, int]] = {}
        self.unbound: dict[fx.Node, fx.Node] = {}
        self.gathered: dict[tuple[fx.Node, ...], fx.Node] = {}
        self.lengths: dict[fx.Node, int] = {}  # the number of steps of a tensor over all of them

    def write(self) -> fx.Graph:
        """Return the graph."""
        analysis = self.analysis
        for node in analysis.graph.nodes:
            if node.op == "placeholder":
                self.new[node] = self.graph.node_copy(node, self.new.__getitem__)
        members: dict[Hashable, list[fx.Node]] = {}
        for node in analysis.nodes:
            members.setdefault(analysis.key(node), []).append(node)
        for key in self._order(members):
            nodes = members[key]
            if not isinstance(key, tuple):
                self._write_one(nodes[0])
            elif key[0] == "chain":
                self._write_layer(analysis.chains[key[1]])
            elif not self._write_all(nodes):
                for node in nodes:
                    self._write_one(node)
        self._write_output()
        return self.graph

    def _order(self, members: dict[Hashable, list[fx.Node]]) -> list[Hashable]:
        """Return the groups in an order in which each has what it needs, and else as they were."""
        needs = self.analysis.dependencies()
        rank = {key: i for i, key in enumerate(members)}
        waiting = {key: len(needs[key] - {key}) for key in members}
        follows: dict[Hashable, list[Hashable]] = {}
        for key in members:
            for other in needs[key] - {key}:
                follows.setdefault(other, []).append(key)
        ready = [(rank[key], key) for key in members if not waiting[key]]
        heapq.heapify(ready)
        order = []
        while ready:
            _, key = heapq.heappop(ready)
            order.append(key)
            for other in follows.get(key, ()):
                waiting[other] -= 1
                if not waiting[other]:
                    heapq.heappush(ready, (rank[other], other))
        assert len(order) == len(members)
        return order

    # -- values -----------------------------------------------------------------------------------------------------

    def value(self, node: fx.Node) -> fx.Node:
        """Return the new node of a value of one step, written where it is first asked for."""
        node = self.analysis.same.get(node, node)
        if node in self.new:
            return self.new[node]
        if node in self.analysis.lanes:
            self.new[node] = self.graph.node_copy(node, self.value)
            return self.new[node]
        whole, step = self.places[node]
        if whole not in self.unbound:
            # All at once: the gradient of a single step would be a whole tensor of zeros around it.
            self.unbound[whole] = self.graph.call_method("unbind", (whole,))
        self.new[node] = self.graph.call_function(operator.getitem, (self.unbound[whole], step))
        return self.new[node]

    def gather(self, nodes: Sequence[fx.Node]) -> fx.Node:
        """Return the values of several steps as one tensor, without a copy where they lie in one."""
        key = tuple(self.analysis.same.get(n, n) for n in nodes)
        if key not in self.gathered:
            self.gathered[key] = self._run_of_places(key) or self._run_of_lanes(key) or self._stack(key)
        return self.gathered[key]

    def _stack(self, nodes: Sequence[fx.Node]) -> fx.Node:
        return self.graph.call_function(torch.stack, ([self.value(n) for n in nodes],))

    def _run_of_places(self, nodes: Sequence[fx.Node]) -> fx.Node | None:
        found = [self.places.get(n) for n in nodes]
        if found[0] is None:
            return None
        whole, first = found[0]
        if found != [(whole, first + i) for i in range(len(nodes))]:
            return None
        return self._part(whole, 0, first, len(nodes), self.lengths[whole])

    def _run_of_lanes(self, nodes: Sequence[fx.Node]) -> fx.Node | None:
        lanes = [self.analysis.lanes.get(n) for n in nodes]
        first = lanes[0]
        if first is None or lanes != [first._replace(place=first.place + i) for i in range(len(nodes))]:
            return None
        size = value(first.base).shape[first.dim]
        every = self._part(self.value(first.base), first.dim, first.place, len(nodes), size)
        if first.dim:
            every = self.graph.call_method("movedim", (every, first.dim, 0))
        return self.graph.call_method("unsqueeze", (every, first.dim + 1)) if first.kept else every

    def _part(self, whole: fx.Node, dim: int, first: int, length: int, size: int) -> fx.Node:
        return whole if length == size else self.graph.call_method("narrow", (whole, dim, first, length))

    # -- nodes ------------------------------------------------------------------------------------------------------

    def _write_one(self, node: fx.Node) -> None:
        if node in self.analysis.lanes or node in self.new:
            return
        if is_step(node):
            call = run.Single(self.analysis.layer_of(node))
            self.new[node] = self.graph.call_function(call, fx.node.map_arg(node.args[1:], self.value))
        elif not self._write_stack(node):
            self.new[node] = self.graph.node_copy(node, self.value)

    def _write_stack(self, node: fx.Node) -> bool:
        """Write ``torch.stack`` of the steps of a tensor that is there already."""
        if node.target is not torch.stack or node in self.analysis.pinned:
            return False
        parts: Any = node.args[0] if node.args else node.kwargs.get("tensors")
        dim: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        if not isinstance(parts, list | tuple) or not parts or "out" in node.kwargs:
            return False
        nodes: list[Any] = [self.analysis.same.get(n, n) for n in parts]
        every = self._run_of_places(nodes) or self._run_of_lanes(nodes)
        if every is None:
            return False
        self.new[node] = self.graph.call_method("movedim", (every, 0, dim)) if dim else every
        return True

    def _write_layer(self, steps: Sequence[fx.Node]) -> None:
        """Write a layer over all its steps."""
        analysis = self.analysis
        mark = analysis.layer_of(steps[0])
        currents = [analysis.argument(step, 1) for step in steps]
        constant = all(current is currents[0] for current in currents)
        current = self.value(currents[0]) if constant else self.gather(currents)
        states = [analysis.argument(steps[0], i) for i in range(2, len(steps[0].args))]
        dtype = value(currents[0]).dtype
        if all(self._is_zero(state, dtype) for state in states):
            states = [None] * len(states)
        states = [None if state is None else self.value(state) for state in states]
        outputs = mark.kind.outputs(mark.module)
        used = [analysis.used(steps, place) for place in range(outputs + len(states))]
        train = [place < outputs or bool(at and at[0] < len(steps) - 1) for place, at in enumerate(used)]
        call = run.Train(mark, len(steps), constant, train)
        found = self.graph.call_function(call, (current, *states))
        for place, whole in enumerate(train):
            if not used[place]:
                continue
            result = self.graph.call_function(operator.getitem, (found, place))
            if whole:
                self.lengths[result] = len(steps)
            for i, step in enumerate(steps):
                for node in analysis.results(step, place):
                    if whole:
                        self.places[node] = result, i
                    elif i == len(steps) - 1:
                        self.new[node] = result

    def _is_zero(self, state: fx.Node | None, dtype: torch.dtype) -> bool:
        """Tell if a state before the first step is zeros, and of the dtype that the layer's own zeros have."""
        if state is None:
            return True
        return state.target in ZEROS and state not in self.analysis.pinned and value(state).dtype == dtype

    def _write_all(self, nodes: Sequence[fx.Node]) -> bool:
        """Write the calls of a function at several steps as one call; return False if they have to be several."""
        first = nodes[0]
        columns = list(zip(*map(self.analysis.inputs, nodes), strict=True))
        changing = [i for i, column in enumerate(columns) if any(n is not column[0] for n in column)]
        if not changing:
            return False
        batched = run.Batched(first, changing, len(columns))
        if not self._agrees(batched, first, columns, len(nodes)):
            return False
        every = {i: self.gather(columns[i]) for i in changing}
        given = [every[i] if i in every else self.value(columns[i][0]) for i in range(len(columns))]
        simple = changing == [0] and bool(first.args) and isinstance(first.args[0], fx.Node)
        if simple and first.target in _LINEAR:
            result = self.graph.call_function(first.target, *self._with(first, given))
        elif simple and _CONVOLUTIONS.get(first.target) == value(columns[0][0]).dim():
            function: Any = first.target
            result = self.graph.call_function(run.Convolved(function), *self._with(first, given))
        else:
            result = self.graph.call_function(batched, tuple(given))
        self.lengths[result] = len(nodes)
        for i, node in enumerate(nodes):
            self.places[node] = result, i
        return True

    @staticmethod
    def _with(node: fx.Node, given: Sequence[fx.Node]) -> tuple[tuple, dict]:
        """Return the arguments of a node with other nodes in their places."""
        rest = iter(given)
        return fx.node.map_arg((node.args, node.kwargs), lambda _: next(rest))

    def _agrees(self, batched: run.Batched, node: fx.Node, columns: Sequence[Sequence[fx.Node]], length: int) -> bool:
        """Tell if the function over all steps can be called, and has the results of the steps."""
        example = value(node)
        fakes = [value(column[0]) for column in columns]
        mode = self.analysis.watch.mode
        if mode is None or not all(isinstance(fake, Tensor) for fake in fakes):
            return False
        try:
            with torch.no_grad(), mode:
                given = [
                    fake.unsqueeze(0).expand(length, *fake.shape) if i in batched.changing else fake
                    for i, fake in enumerate(fakes)
                ]
                found = batched(*given)
        except Exception:  # what cannot be mapped over steps stays as it was
            return False
        return isinstance(found, Tensor) and found.shape == (length, *example.shape) and found.dtype == example.dtype

    def _write_output(self) -> None:
        """Write the results, each as a tensor of its own where it was one."""
        seen: set[fx.Node] = set()

        def result(node: fx.Node) -> fx.Node:
            new = self.value(node)
            part = new.target is operator.getitem and new.args[0] in self.unbound.values()
            if part or (new in seen and new.op != "placeholder"):
                new = self.graph.call_method("clone", (new,))
            seen.add(new)
            return new

        results: dict[fx.Node, fx.Node] = {}
        for leaf in tree_leaves(self.analysis.output.args[0]):
            if isinstance(leaf, fx.Node) and leaf not in results:
                results[leaf] = result(leaf)
        self.graph.output(fx.node.map_arg(self.analysis.output.args[0], results.__getitem__))
