"""The raw operators of a layer: one schema for all backends, their fake kernels, and their batching rule.

Each backend implements the same pair under its own name (``hnn::lif_forward_cpu``, ``hnn::lif_backward_triton`` ...),
so a call goes from Python to its kernel in one hop, and no device has two implementations of one operator. The
operators are private: they check nothing that :mod:`hnn_kernels.functional` has checked already, and autograd lives
in :mod:`hnn_kernels._ops.autograd`. Their arguments are those of :class:`hnn_kernels._layer.Layer`.
"""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from .._layer import (
    BACKWARD_SCHEMA,
    CHECKPOINTS,
    COEFFICIENT,
    FILTER_COEFFICIENT,
    FILTER_STATE,
    FORWARD_SCHEMA,
    INCOMING,
    OPERANDS,
    OUTPUT_OPERANDS,
    STATE,
    TRAIN,
    Layer,
    Operand,
)
from ..state import state_dtype
from . import batching
from .library import operators

# By backend.
forward_ops: dict[str, Callable] = {}
backward_ops: dict[str, Callable] = {}


def _output_shape(layer: Layer, output: Operand) -> tuple[int, ...]:
    """Return the shape of an output, but of a train."""
    if output.kind == STATE:
        return layer.shape
    if output.kind == FILTER_STATE:
        return layer.depth(output.part), *layer.shape
    checkpoints = max(-(-layer.length // layer.checkpoint_every) - 1, 0)
    return checkpoints, layer.state_depth(), math.prod(layer.shape)


def empty_train(current: Tensor, steps: int | None) -> Tensor:
    """Allocate a train in the layout of a current, which ``steps`` says is constant in time."""
    if steps is None:
        return torch.empty_like(current)
    strides = torch.empty_like(current).stride()
    return current.new_empty_strided((steps, *current.shape), (current.numel(), *strides))


def allocate_outputs(layer: Layer) -> tuple[Tensor | None, ...]:
    """Allocate the :data:`hnn_kernels._layer.OUTPUTS` of a forward call, None where it has none.

    The spike train takes the current's layout.
    """
    current, dtype, there = layer.current, state_dtype(layer.current.dtype), layer.outputs()

    def allocate(output: Operand) -> Tensor:
        if output.kind != TRAIN:
            return current.new_empty(_output_shape(layer, output), dtype=dtype)
        return empty_train(current, layer.steps) if layer.timed(output.name) else current.new_empty(layer.shape)

    return tuple(allocate(output) if output.name in there else None for output in OUTPUT_OPERANDS)


def allocate_gradients(layer: Layer, needs: int) -> tuple[Tensor | None, ...]:
    """Allocate the gradients of :data:`hnn_kernels._layer.TENSORS`, None where one is not needed."""
    current = layer.current
    dtype = state_dtype(current.dtype)
    result: list[Tensor | None] = [torch.empty_like(current) if needs & 1 else None]
    for i, operand in enumerate(OPERANDS[1:], start=1):
        if needs >> i & 1:
            shape = layer.shape if operand.kind == STATE else getattr(layer, operand.name).shape
            result.append(current.new_empty(shape, dtype=dtype))
        else:
            result.append(None)
    return tuple(result)


def present(tensors: Iterable[Tensor | None]) -> list[Tensor]:
    """Return the tensors that are not None, which an operator returns."""
    return [tensor for tensor in tensors if tensor is not None]


def _forward_fake(*arguments):
    return present(allocate_outputs(Layer(*arguments)))


def _backward_fake(*arguments):
    return present(allocate_gradients(Layer(*arguments[len(INCOMING) : -1]), arguments[-1]))


# -- vmap: the mapped axis becomes the first feature axis --------------------------------------------------------------

_INPUTS = {operand.name: operand for operand in OPERANDS}
_GRADIENTS = dict(zip(INCOMING, OUTPUT_OPERANDS, strict=True))  # of which the last are what forward kept
# Axes in front of a coefficient's own.
_LEADING = {COEFFICIENT: 0, FILTER_COEFFICIENT: 1}


def _feature_axis(operand: Operand, layer: Layer) -> int | None:
    """Return the first axis of the features; None for checkpoints."""
    if operand.kind == TRAIN:
        return 1 + layer.timed(operand.name)
    return {STATE: 1, FILTER_STATE: 2, CHECKPOINTS: None}[operand.kind]


def _to_position(tensor: Tensor, dim: int | None, size: int, position: int) -> Tensor:
    """Move the mapped axis to ``position``; a tensor without one is expanded there."""
    if dim is not None:
        return tensor.movedim(dim, position)
    return tensor.unsqueeze(position).expand(*tensor.shape[:position], size, *tensor.shape[position:])


def _coefficient(tensor: Tensor, dim: int | None, size: int, features: int, lead: int) -> Tensor:
    """Reshape to ``[*lead, size, 1, ..., *shape]``: the mapped axis in front of the right-aligned coefficient."""
    tensor = _to_position(tensor, dim, size, lead)
    padding = (1,) * (features - (tensor.dim() - lead - 1))
    return tensor.reshape(*tensor.shape[: lead + 1], *padding, *tensor.shape[lead + 1 :])


def _drop_checkpoints(arguments: dict) -> None:
    """Drop the checkpoints from the arguments of a backward call where they do not cover all its neurons.

    They come from a forward call that was not mapped as this call is. Backward then computes the states again, with the
    same result.
    """
    checkpoints = arguments["checkpoints"]
    neurons = math.prod(Layer(*(arguments[name] for name in Layer._fields)).shape)
    if checkpoints is not None and checkpoints.shape[-1] < neurons:
        arguments |= {"checkpoints": None, "checkpoint_every": 0}


def _vmap_rule(op: Callable, gradients: bool) -> Callable:
    fields = (*INCOMING, *Layer._fields, "needs") if gradients else Layer._fields
    operands = _INPUTS | _GRADIENTS if gradients else _INPUTS

    def rule(info, dims, *arguments):
        size = info.batch_size
        given_dims = dict(zip(fields, dims, strict=True))
        layer = Layer(*arguments[len(INCOMING) : -1] if gradients else arguments)
        features = layer.current.dim() - (given_dims["current"] is not None) - layer.timed("current") - 1

        def fold(name, value):
            """Fold the mapped axis into an argument."""
            operand = operands.get(name)
            if not isinstance(value, Tensor) or operand is None:
                return value
            if operand.kind in _LEADING:
                return _coefficient(value, given_dims[name], size, features, _LEADING[operand.kind])
            position = _feature_axis(operand, layer)
            return value if position is None else _to_position(value, given_dims[name], size, position)

        folded = {name: fold(name, value) for name, value in zip(fields, arguments, strict=True)}
        if gradients:
            _drop_checkpoints(folded)
        results = op(*folded.values())
        if not gradients:
            there = layer.outputs()
            return results, [_feature_axis(o, layer) for o in OUTPUT_OPERANDS if o.name in there]
        unfolded, out_dims = [], []
        needed = [operand for i, operand in enumerate(OPERANDS) if arguments[-1] >> i & 1]
        for operand, gradient in zip(needed, results, strict=True):
            lead = _LEADING.get(operand.kind)
            if lead is not None:
                # The coefficient was padded to the rank of the features; its gradient gets its own rank.
                shape, dim = list(getattr(layer, operand.name).shape), given_dims[operand.name]
                if dim is not None:
                    del shape[dim]
                gradient = gradient.reshape(*shape[:lead], size, *shape[lead:])
            unfolded.append(gradient)
            out_dims.append(_feature_axis(operand, layer) if lead is None else lead)
        return unfolded, out_dims

    return rule


# -- registration ------------------------------------------------------------------------------------------------------


def define(backend: str) -> None:
    """Define a backend's pair of operators."""
    for name, schema, fake, ops in (
        ("lif_forward", FORWARD_SCHEMA, _forward_fake, forward_ops),
        ("lif_backward", BACKWARD_SCHEMA, _backward_fake, backward_ops),
    ):
        qualified = f"{name}_{backend}"
        ops[backend] = op = operators.define(qualified, schema)
        operators.implement(qualified, "Fake", fake)
        batching.register(qualified, _vmap_rule(op, ops is backward_ops))


def implement(backend: str, forward: Callable, backward: Callable) -> None:
    """Register a Python implementation of a backend's pair of operators, for every device."""
    operators.implement(f"lif_forward_{backend}", "CompositeExplicitAutograd", forward)
    operators.implement(f"lif_backward_{backend}", "CompositeExplicitAutograd", backward)
