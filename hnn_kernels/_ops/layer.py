"""The raw operators: one schema for all backends, their fake kernels, and their batching rule.

Each backend implements the same pair under its own name (``hnn::lif_forward_cpu``, ``hnn::lif_backward_triton`` ...),
so a call goes from Python to its kernel in one hop and no device has two implementations of one operator. The
operators are private: they check nothing that :mod:`hnn_kernels.functional` has checked already, and autograd lives
in :mod:`hnn_kernels._ops.autograd`.
"""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from ..reference import state_dtype

KERNEL_BACKENDS = ("cpu", "cuda", "triton")
# NO_MEMBRANE is a layer that is nothing but its synapse filter: hnn_kernels.iir.
RESETS = {"filter": 0, "subtract": 1, "zero": 2, "none": 3}
NO_MEMBRANE = 4
RESET_GRADS = {"full": 0, "one_step": 1, "detach": 2}

# The tensors that a layer is differentiated by, in this order; bit i of `needs` asks for the gradient of the i-th.
# Coefficients broadcast against *features, a filter's behind their first axis ([P, ...] and [Q + 1, ...]); v and r are
# [B, *features], a filter's state [P + Q, B, *features].
COEFFICIENTS = ("decay", "reset_decay", "threshold")
FILTER_COEFFICIENTS = ("synapse_feedback", "synapse_feedforward", "axon_feedback", "axon_feedforward")
TENSORS = (
    "current", *COEFFICIENTS, "v", "r", "synapse_feedback", "synapse_feedforward", "synapse_state",
    "axon_feedback", "axon_feedforward", "axon_state",
)  # fmt: skip
# A coefficient that is None has its float here, and those of a filter a list of floats; a filter that is absent has no
# feedforward coefficient in either form. A `reset_grad` means nothing forward.
_SETTINGS = (
    "SymInt? steps, float decay_value, float reset_decay_value, float threshold_value, "
    "float[] synapse_feedback_values, float[] synapse_feedforward_values, "
    "float[] axon_feedback_values, float[] axon_feedforward_values, "
    "float width, int surrogate, int reset, int reset_grad, bool count, bool smooth, bool return_state, "
    "int checkpoint_every"
)
_LAYER = f"Tensor current, {', '.join(f'Tensor? {name}' for name in TENSORS[1:])}, {_SETTINGS}"
# What forward can put out; an operator returns those that the call has, in this order (Layer.outputs).
OUTPUTS = ("out", "v", "r", "synapse_state", "axon_state", "checkpoints")
# With `checkpoint_every` K above 0, forward keeps the state before the steps K, 2K ... in checkpoints
# [ceil(T / K) - 1, 2 + both filters' P + Q, neurons]: v, r, synapse_state, axon_state, in the order of the kernel.
FORWARD_SCHEMA = f"({_LAYER}) -> Tensor[]"
# The gradients that are needed come back, in the order of TENSORS.
BACKWARD_SCHEMA = (
    f"({', '.join(f'Tensor? grad_{name}' for name in OUTPUTS[:-1])}, Tensor? checkpoints, {_LAYER}, int needs)"
    " -> Tensor[]"
)
LAYER = tuple(argument.split()[-1] for argument in _LAYER.split(", "))
_STATES = ("v", "r", "grad_v", "grad_r")
_FILTER_STATES = ("synapse_state", "axon_state", "grad_synapse_state", "grad_axon_state")

library = torch.library.Library("hnn", "DEF")
forward_ops: dict[str, Callable] = {}
backward_ops: dict[str, Callable] = {}


class Layer(NamedTuple("Layer", [(name, object) for name in LAYER])):
    """The arguments that forward and backward share, by name."""

    @property
    def shape(self) -> torch.Size:
        """``[B, *features]``."""
        return self.current.shape[1:] if self.steps is None else self.current.shape

    @property
    def outputs(self) -> tuple[bool, ...]:
        """Which of :data:`OUTPUTS` a forward call has."""
        membrane = self.return_state and self.reset != NO_MEMBRANE
        synapse, axon = (self.return_state and self.orders(name) is not None for name in ("synapse", "axon"))
        return True, membrane, membrane, synapse, axon, self.checkpoint_every > 0

    def depth(self, filter_name: str) -> int:
        """P + Q of a filter: the number of values that its state keeps; 0 where it is absent."""
        return sum(self.orders(filter_name) or (0,))

    def orders(self, filter_name: str) -> tuple[int, int] | None:
        """(P, Q) of a filter, or None where it is absent."""
        feedback, feedforward, feedback_values, feedforward_values = (
            getattr(self, f"{filter_name}_{part}")
            for part in ("feedback", "feedforward", "feedback_values", "feedforward_values")
        )
        q = len(feedforward_values) if feedforward is None else feedforward.shape[0]
        if q == 0:
            return None
        return len(feedback_values) if feedback is None else feedback.shape[0], q - 1


def allocate_outputs(layer: Layer) -> tuple[Tensor | None, ...]:
    """Empty :data:`OUTPUTS` of a forward call, None where it has none. The spike train takes the current's layout."""
    current, steps, shape = layer.current, layer.steps, layer.shape
    if layer.count:
        out = current.new_empty(shape)
    elif steps is None:
        out = torch.empty_like(current)
    else:
        strides = torch.empty_like(current).stride()
        out = current.new_empty_strided((steps, *shape), (current.numel(), *strides))
    depths = layer.depth("synapse"), layer.depth("axon")
    sizes = [shape, shape, (depths[0], *shape), (depths[1], *shape), ()]
    if layer.checkpoint_every:
        length = current.shape[0] if steps is None else steps
        sizes[-1] = max(-(-length // layer.checkpoint_every) - 1, 0), 2 + sum(depths), math.prod(shape)
    dtype = state_dtype(current.dtype)
    there = layer.outputs[1:]
    return out, *(
        current.new_empty(s, dtype=dtype) if is_there else None for s, is_there in zip(sizes, there, strict=True)
    )


def allocate_gradients(layer: Layer, needs: int) -> tuple[Tensor | None, ...]:
    """Empty gradients of :data:`TENSORS`, None where one is not needed."""
    current = layer.current
    dtype = state_dtype(current.dtype)
    result: list[Tensor | None] = [torch.empty_like(current) if needs & 1 else None]
    for i, name in enumerate(TENSORS[1:], start=1):
        shape = layer.shape if name in ("v", "r") else getattr(layer, name).shape if needs >> i & 1 else ()
        result.append(current.new_empty(shape, dtype=dtype) if needs >> i & 1 else None)
    return tuple(result)


def present(tensors: Iterable[Tensor | None]) -> list[Tensor]:
    """What an operator returns of these."""
    return [tensor for tensor in tensors if tensor is not None]


def _forward_fake(*arguments):
    return present(allocate_outputs(Layer(*arguments)))


def _backward_fake(*arguments):
    return present(allocate_gradients(Layer(*arguments[len(OUTPUTS) : -1]), arguments[-1]))


# -- vmap: the mapped axis becomes the first feature axis --------------------------------------------------------------


def _to_position(tensor: Tensor, dim: int | None, size: int, position: int) -> Tensor:
    """Move the mapped axis to ``position``; a tensor without one is expanded there."""
    if dim is not None:
        return tensor.movedim(dim, position)
    return tensor.unsqueeze(position).expand(*tensor.shape[:position], size, *tensor.shape[position:])


def _coefficient(tensor: Tensor, dim: int | None, size: int, features: int, lead: int) -> Tensor:
    """``[*lead, size, 1, ..., *shape]``: the mapped axis in front of the right-aligned coefficient."""
    tensor = _to_position(tensor, dim, size, lead)
    padding = (1,) * (features - (tensor.dim() - lead - 1))
    return tensor.reshape(*tensor.shape[: lead + 1], *padding, *tensor.shape[lead + 1 :])


def _fold(names, arguments, dims, size: int, batch: int, features: int, count: bool):
    """The arguments with the mapped axis folded in, each in its own place."""
    positions = {"current": batch + 1, "grad_out": 1 if count else 2}
    positions |= dict.fromkeys(_STATES, 1) | dict.fromkeys(_FILTER_STATES, 2)
    for name, value, dim in zip(names, arguments, dims, strict=True):
        if not isinstance(value, Tensor) or name == "checkpoints":  # whose neurons are counted with the mapped axis
            yield value
        elif name in COEFFICIENTS or name in FILTER_COEFFICIENTS:
            yield _coefficient(value, dim, size, features, 1 if name in FILTER_COEFFICIENTS else 0)
        else:
            yield _to_position(value, dim, size, positions[name])


def _vmap_rule(op, gradients: bool):
    names = (*(f"grad_{name}" for name in OUTPUTS[:-1]), "checkpoints", *LAYER, "needs") if gradients else LAYER

    def rule(info, dims, *arguments):
        size = info.batch_size
        given = dict(zip(names, arguments, strict=True))
        given_dims = dict(zip(names, dims, strict=True))
        count, batch = given["count"], 1 if given["steps"] is None else 0
        features = given["current"].dim() - (given_dims["current"] is not None) - batch - 1
        outputs = op(*_fold(names, arguments, dims, size, batch, features, count))
        if not gradients:
            positions = (1 if count else 2, 1, 1, 2, 2, None)
            there = Layer(*arguments).outputs
            return outputs, [position for position, is_there in zip(positions, there, strict=True) if is_there]
        result, out_dims = [], []
        needed = [name for i, name in enumerate(TENSORS) if given["needs"] >> i & 1]
        for name, gradient in zip(needed, outputs, strict=True):
            if name in COEFFICIENTS or name in FILTER_COEFFICIENTS:
                # It was padded to the features' rank; its gradient goes back to its own.
                shape, dim, lead = list(given[name].shape), given_dims[name], int(name in FILTER_COEFFICIENTS)
                if dim is not None:
                    del shape[dim]
                gradient = gradient.reshape(*shape[:lead], size, *shape[lead:])
                dim = lead
            else:
                dim = batch + 1 if name == "current" else 2 if name in _FILTER_STATES else 1
            result.append(gradient)
            out_dims.append(dim)
        return result, out_dims

    return rule


for _backend in KERNEL_BACKENDS:
    for _name, _schema, _fake, _ops in (
        ("lif_forward", FORWARD_SCHEMA, _forward_fake, forward_ops),
        ("lif_backward", BACKWARD_SCHEMA, _backward_fake, backward_ops),
    ):
        _qualified = f"{_name}_{_backend}"
        library.define(_qualified + _schema, tags=(torch.Tag.pt2_compliant_tag,))
        _op = getattr(torch.ops.hnn, _qualified).default
        torch.library.register_fake(f"hnn::{_qualified}", _fake, lib=library)
        torch.library.register_vmap(f"hnn::{_qualified}", _vmap_rule(_op, _ops is backward_ops), lib=library)
        _ops[_backend] = _op


def implement(backend: str, forward: Callable, backward: Callable) -> None:
    """Register a Python implementation of a backend's pair of operators, for every device."""
    library.impl(f"lif_forward_{backend}", forward, "CompositeExplicitAutograd")
    library.impl(f"lif_backward_{backend}", backward, "CompositeExplicitAutograd")
