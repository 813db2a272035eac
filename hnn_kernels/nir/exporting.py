"""From a model to a NIR graph."""

import operator
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from .. import _checks
from .draft import Draft, Value
from .equations import METHODS, Time
from .network import Network
from .package import nir
from .writers import WRITERS, flatten, write


class NIRWarning(UserWarning):
    """A graph says something in metadata, which other libraries do not read."""


def export(
    model: nn.Module,
    sample_or_shape: Tensor | Sequence[int] | None = None,
    *,
    dt: float,
    method: str = "euler",
    strict: bool = False,
) -> Any:
    """Return the NIR graph of a model.

    The weights, the time constants of ``dt``-long steps and the thresholds go into the graph
    (:mod:`hnn_kernels.nir.equations`). Surrogate gradients have no place in it. The graph's output is a train, also
    where the model returns its count.

    These classes have nodes: :class:`hnn_kernels.nn.LIF` (``IF``, ``LIF`` or ``CubaLIF``; ``LI``, ``CubaLI`` and
    ``Threshold`` without a reset), :class:`hnn_kernels.nn.IIR` with real poles (``LI``, ``Scale``, ``Delay``), Linear,
    Conv1d and Conv2d, :class:`hnn_kernels.nn.SpikeLinear` and :class:`hnn_kernels.nn.SpikeConv2d`, AvgPool2d, Flatten.
    Identity, and Dropout in evaluation mode, have none and are passed over.

    What the standard has no words for is in the nodes' metadata, under ``hnn_kernels``. :func:`hnn_kernels.nir.load`
    reads it, and other libraries do not. It has resets by subtraction and by a filter, of which a :class:`NIRWarning`
    tells, and that a tie fires (``tie_fires``), which changes a spike only where a potential is the threshold exactly.

    Args:
        model: a chain (``nn.Sequential``) or any module whose forward passes trains ``[T, B, *features]`` from layer to
            layer, with sums and ``flatten(0, 1)``, ``unflatten(0, ...)`` between them; a :class:`Network` that was
            loaded; or a model with a method ``nir_part`` that returns such a module and the shape of its features, as
            ``hnn_models.HybridNetwork`` has for its spiking part.
        sample_or_shape: an input ``[T, B, *features]``, or the shape of its features. None where the model knows it.
        dt: the time of a step, in the unit that the time constants shall have, by custom seconds; above 0.
        method: how the reader is expected to step: ``"euler"``, or ``"exponential"`` for sinabs.
        strict: refuse a reset that the standard does not have.

    Returns:
        The graph, a ``NIRGraph`` of the package ``nir``. ``nir.write`` makes a file of it.

    Raises:
        ModuleNotFoundError, ImportError: the package ``nir`` is not installed, or is too old.
        TypeError: an argument of the wrong type, or a layer that has no node in NIR.
        ValueError: a value that is not allowed, an option of a layer that NIR does not have, or a model whose forward
            is more than layers and sums.
    """
    nir()
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module; got {type(model).__name__}")
    _checks.option("method", method, METHODS)
    draft = Draft(Time(_checks.number("dt", dt, positive=True), method), _checks.flag("strict", strict))
    shape = None if sample_or_shape is None else _shape(sample_or_shape)
    part = getattr(model, "nir_part", None)
    if part is not None:
        model, own = part()
        shape = own if shape is None else shape
    if isinstance(model, Network):
        shape = model.input_shape if shape is None else shape
    if shape is None:
        raise TypeError(
            f"sample_or_shape must be an input [T, B, *features] or a shape: a {type(model).__name__} knows none"
        )
    value = draft.input(shape)
    value = _loaded(draft, model, value) if isinstance(model, Network) else _traced(draft, model, value)
    if value.lead != 2:
        raise ValueError("model must return a train [T, B, *features]; T and B are one axis of what it returns")
    graph = draft.finish(value)
    if draft.said:
        warnings.warn(
            f"{', '.join(draft.said)}: NIR's neurons are set to v_reset, so other libraries will reset to 0. "
            "hnn_kernels.nir.load reads the metadata",
            NIRWarning,
            stacklevel=2,
        )
    return graph


def _shape(given: Any) -> tuple[int, ...]:
    if isinstance(given, Tensor):
        _checks.train("sample_or_shape", given)
        return tuple(given.shape[2:])
    return _checks.shape("sample_or_shape", given)


def _loaded(draft: Draft, model: Network, value: Value) -> Value:
    """Write a network that was loaded: its nodes by their names."""
    outputs: dict[str, Value] = {}
    for name, key, sources in model.order:
        if sources:
            value = draft.sum([outputs[source] for source in sources])
        outputs[name] = value if key is None else write(draft, name, model.layers[key], value)
    return outputs[model.order[-1].name]


# What is written whole: also a subclass, which is refused by its name. A chain is followed.
_LAYERS = tuple(WRITERS.keys() - {nn.Sequential})


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        ours = type(m).__module__.split(".")[0] == "hnn_kernels"
        return ours or isinstance(m, _LAYERS) or super().is_leaf_module(m, module_qualified_name)


def _traced(draft: Draft, model: nn.Module, value: Value) -> Value:
    """Follow the model's forward with torch.fx."""
    if isinstance(model, _LAYERS):
        return write(draft, type(model).__name__.lower(), model, value)
    try:
        graph = _Tracer().trace(model)
    except Exception as error:
        raise ValueError(
            f"the forward of {type(model).__name__} must be layers and sums that torch.fx can follow; {error}"
        ) from error
    modules = dict(model.named_modules())
    # What has no node is an error where a layer or the output takes it: sizes are asked for, too.
    values: dict[fx.Node, Value | ValueError] = {}
    for node in graph.nodes:
        if node.op == "placeholder":
            extra = bool(values)
            values[node] = ValueError(f"forward must have one input; {node.target!r} is another") if extra else value
        elif node.op == "output":
            return _take(values, node.args[0], "the output")
        else:
            values[node] = _call(draft, node, modules, values)
    raise AssertionError("a graph ends in its output")


def _call(draft: Draft, node: fx.Node, modules: dict[str, nn.Module], values: Any) -> Value | ValueError:
    what = f"{node.op.removeprefix('call_')} {getattr(node.target, '__name__', node.target)!r}"
    if node.op == "call_module":
        if node.kwargs or len(node.args) != 1:
            return ValueError(f"{what} must be called with its input alone: a state or an option is no part of a graph")
        name = str(node.target)
        return write(draft, name, modules[name], _take(values, node.args[0], what))
    if node.target in (operator.add, operator.iadd, torch.add, "add", "add_") and len(node.args) == 2:
        if not node.kwargs and all(isinstance(arg, fx.Node) for arg in node.args):
            return draft.sum([_take(values, arg, what) for arg in node.args])
    elif node.target in (torch.flatten, "flatten"):
        value = _take(values, node.args[0], what)
        options: dict[str, Any] = dict(zip(("start_dim", "end_dim"), node.args[1:], strict=False)) | node.kwargs
        start, end = options.get("start_dim", 0), options.get("end_dim", -1)
        if value.lead == 2 and (start, end) == (0, 1):
            return value._replace(lead=1)
        return flatten(draft, node.name, start, end, value)
    elif node.target in (torch.unflatten, "unflatten") and node.args[1:2] == (0,):
        value = _take(values, node.args[0], what)
        return value._replace(lead=2) if value.lead == 1 else ValueError(f"{what} must undo flatten(0, 1)")
    earlier = [values[arg] for arg in node.all_input_nodes if isinstance(values[arg], ValueError)]
    if earlier:
        return earlier[0]
    return ValueError(f"{what} has no node in NIR; between layers there may be sums, flatten and unflatten(0, ...)")


def _take(values: Any, argument: Any, what: str) -> Value:
    if not isinstance(argument, fx.Node):
        raise ValueError(f"{what} must be one train of the layers before it; got {type(argument).__name__}")
    value = values[argument]
    if isinstance(value, ValueError):
        raise value
    return value
