"""From a NIR graph to a module."""

import graphlib
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from .. import _checks
from .equations import METHODS, Time
from .network import Network, Step, module_key
from .package import nir, release
from .readers import Reading, read

OPTIONS = ("sigma", "surrogate", "surrogate_scale", "reset_grad", "tie_fires", "checkpoint_every", "backend")
# The first version whose neurons have v_reset. In those before, a spike takes the threshold off.
_V_RESET = (1, 0, 6)
# The number of axes of the features that a node takes.
_AXES = {"Affine": 1, "Linear": 1, "Conv1d": 2, "Conv2d": 3, "AvgPool2d": 3, "SumPool2d": 3}


def load(
    source: Any,
    *,
    dt: float,
    method: str = "euler",
    reset: str | None = None,
    reset_decay: float | None = None,
    **options: Any,
) -> Network:
    """Return a module that computes a NIR graph, each node over all time steps.

    The neurons' equations become steps of ``dt`` (:mod:`hnn_kernels.nir.equations`). A neuron fires above its
    threshold, not at it, unless its metadata or ``tie_fires=True`` say so. Where several edges end in a node, it takes
    the sum. Graphs inside the graph become a part of it.

    Args:
        source: a ``NIRGraph`` of the package ``nir``, or the path of a file.
        dt: the time of a step, in the unit of the graph's time constants; above 0. With ``"euler"`` no time constant
            may be below it.
        method: ``"euler"`` or ``"exponential"``.
        reset: the reset of all neurons that fire. ``"zero"`` sets the potential to ``v_reset``, and ``"subtract"``
            takes the threshold off: sinabs means this in its graphs, and files of nir before 1.0.6 do by their
            standard. ``"filter"`` takes it off in the next step, and is given with ``reset_decay``: snnTorch's
            subtraction is the filter with 0. None takes what each node says: the metadata of
            :func:`hnn_kernels.nir.export`, else ``"zero"``; for a file of nir before 1.0.6 ``"subtract"``, with a
            warning.
        reset_decay: with ``reset="filter"``, as for :func:`hnn_kernels.lif`.
        options: ``sigma``, ``surrogate``, ``surrogate_scale``, ``reset_grad``, ``tie_fires``, ``checkpoint_every`` and
            ``backend`` of all neurons, as for :class:`hnn_kernels.nn.LIF`.

    Returns:
        The module. It takes ``[T, B, *features]``, and a state on request. Weights are parameters of torch's default
        dtype; the neurons' values are floats where all are equal, else buffers.

    Raises:
        ModuleNotFoundError, ImportError: the package ``nir`` is not installed, or is too old.
        TypeError: an argument of the wrong type.
        ValueError: a value that is not allowed; a graph with a cycle, without one input and one output, or without the
            input's shape; a node whose values do not fit.
        NotImplementedError: a node for which there is no module.
    """
    package = nir()
    dt = _checks.number("dt", dt, positive=True)
    _checks.option("method", method, METHODS)
    if reset is not None:
        _checks.option("reset", reset, ("zero", "subtract", "filter"))
    if reset_decay is not None:
        reset_decay = _checks.number("reset_decay", reset_decay)
    if (reset == "filter") != (reset_decay is not None):
        raise ValueError(f"reset_decay must be a number with reset='filter' alone; got {reset_decay} with {reset!r}")
    for name in options:
        _checks.option("options", name, OPTIONS)
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        before = release(package.serialization.read_version(path)) < _V_RESET
        source = package.read(path, type_check=False)
        if before and reset is None and _fires(source):
            warnings.warn(
                f"{path.name} was written by nir before 1.0.6, by whose equations a spike takes the threshold off: "
                "reset='subtract' is taken. Give reset='zero' or reset='subtract' to say what is meant",
                stacklevel=2,
            )
            reset = "subtract"
    if not isinstance(source, package.NIRGraph):
        raise TypeError(f"source must be a NIRGraph or the path of a file; got {type(source).__name__}")
    nodes: dict[str, Any] = {}
    edges: list[tuple[str, str]] = []
    first, last = _flat(source, "", nodes, edges)
    reading = Reading(Time(dt, method), reset, reset_decay, options)
    modules: dict[str, nn.Module] = {}
    order: list[Step] = []
    shapes = {first: _input_shape(first, nodes, edges)}
    for name, sources in _ordered(nodes, edges, first, last):
        if name != first:
            shapes[name] = _common(name, {source: shapes[source] for source in sources})
        key = None
        if type(nodes[name]).__name__ not in ("Input", "Output"):
            key = module_key(name, modules)
            modules[key], shapes[name] = read(reading, name, nodes[name], shapes[name])
        order.append(Step(name, key, sources))
    return Network(modules, order, shapes[first])


def _fires(graph: Any) -> bool:
    kinds = {type(node).__name__ for node in graph.nodes.values()}
    return bool(kinds & {"IF", "LIF", "CubaLIF"}) or any(
        map(_fires, graph.nodes.values() if "NIRGraph" in kinds else ())
    )


def _flat(graph: Any, prefix: str, nodes: dict[str, Any], edges: list[tuple[str, str]]) -> tuple[str, str]:
    """Collect the nodes and edges of a graph and of those inside it; return the names of its input and output."""
    where = f"the graph {prefix[:-1]!r}" if prefix else "the graph"
    ends = {}
    for kind in ("Input", "Output"):
        named = [name for name, node in graph.nodes.items() if type(node).__name__ == kind]
        if len(named) != 1:
            raise ValueError(f"{where} must have one {kind}; got {named or 'none'}")
        ends[kind] = prefix + named[0]
    inside = {}
    for name, node in graph.nodes.items():
        if type(node).__name__ == "NIRGraph":
            inside[name] = _flat(node, f"{prefix}{name}.", nodes, edges)
        else:
            nodes[prefix + name] = node
    for source, target in graph.edges:
        for name in (source, target):
            if name not in graph.nodes:
                raise ValueError(f"{where} has an edge {source!r} -> {target!r}, and no node {name!r}")
        after = inside[source][1] if source in inside else prefix + source
        to = inside[target][0] if target in inside else prefix + target
        if (after, to) not in edges:
            edges.append((after, to))
    return ends["Input"], ends["Output"]


def _ordered(
    nodes: dict[str, Any], edges: list[tuple[str, str]], first: str, last: str
) -> Iterable[tuple[str, tuple[str, ...]]]:
    """Return every node that the output depends on, behind its sources."""
    sources = {name: tuple(source for source, target in edges if target == name) for name in nodes}
    try:
        order = list(graphlib.TopologicalSorter(sources).static_order())
    except graphlib.CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        raise ValueError(f"the graph must have no cycle; got {circle}. hnn_kernels.nn.Recurrent has one") from None
    needed = {last}
    for name in reversed(order):
        if name in needed:
            needed.update(sources[name])
    for name in needed - {first}:
        if not sources[name]:
            raise ValueError(
                f"node {name!r}, a {type(nodes[name]).__name__}, must have an edge that ends in it; got none"
            )
    # The output comes last: what the output does not depend on is left out.
    return [(name, sources[name]) for name in order if name in needed]


def _input_shape(first: str, nodes: dict[str, Any], edges: list[tuple[str, str]]) -> tuple[int, ...]:
    """Return the shape of the input's features."""
    types = nodes[first].input_type
    declared = next(iter(types.values()), None) if types else None
    if declared is None:
        raise ValueError(f"node {first!r}, an Input, must have a shape; got none")
    shape = tuple(int(size) for size in np.atleast_1d(np.asarray(declared)))
    takers = {type(nodes[target]).__name__ for source, target in edges if source == first}
    axes = {_AXES[kind] for kind in takers if kind in _AXES}
    # Norse writes the shape of a sample with its batch of one.
    return shape[1:] if axes == {len(shape) - 1} and shape[0] == 1 else shape


def _common(name: str, shapes: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Return the shape that the sources of a node have."""
    if len(set(shapes.values())) != 1:
        raise ValueError(f"node {name!r} must have sources of one shape, which are added; got {shapes}")
    return next(iter(shapes.values()))
