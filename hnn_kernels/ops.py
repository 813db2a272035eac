"""The raw operators: one schema for all backends, their fake kernels, and their batching rule.

Each backend implements the same pair under its own name (``hnn::lif_forward_cpu``, ``hnn::lif_backward_triton`` ...),
so a call goes from Python to its kernel in one hop and no device has two implementations of one operator. The
operators are private: they check nothing that :mod:`hnn_kernels.functional` has checked already, and autograd lives
in :mod:`hnn_kernels.autograd`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .reference import state_dtype

KERNEL_BACKENDS = ("cpu", "cuda", "triton")
RESET_GRADS = {"full": 0, "one_step": 1, "detach": 2}

# A coefficient is a tensor that broadcasts against *features or, where that is None, the float of the same name.
_LAYER = (
    "Tensor current, SymInt? steps, Tensor? decay, Tensor? reset_decay, Tensor? threshold, "
    "float decay_value, float reset_decay_value, float threshold_value, "
    "Tensor? v, Tensor? r, float sigma, int surrogate, bool count, bool smooth"
)
FORWARD_SCHEMA = f"({_LAYER}) -> (Tensor out, Tensor v, Tensor r)"
# `needs` has bit i set where the i-th gradient is wanted; a gradient that is not comes back with no elements.
BACKWARD_SCHEMA = (
    f"(Tensor? grad_out, Tensor? grad_v, Tensor? grad_r, {_LAYER}, int reset_grad, int needs) -> "
    "(Tensor current, Tensor decay, Tensor reset_decay, Tensor threshold, Tensor v, Tensor r)"
)
GRADIENTS = ("current", "decay", "reset_decay", "threshold", "v", "r")

_library = torch.library.Library("hnn", "DEF")
forward_ops: dict[str, Callable] = {}
backward_ops: dict[str, Callable] = {}


def allocate_outputs(current: Tensor, steps: int | None, count: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Empty ``(out, v, r)`` of a forward call. The spike train takes the layout of the current."""
    dtype = state_dtype(current.dtype)
    shape = current.shape[1:] if steps is None else current.shape
    if count:
        out = current.new_empty(shape)
    elif steps is None:
        out = torch.empty_like(current)
    else:
        strides = torch.empty_like(current).stride()
        out = current.new_empty_strided((steps, *shape), (current.numel(), *strides))
    return out, current.new_empty(shape, dtype=dtype), current.new_empty(shape, dtype=dtype)


def allocate_gradients(
    current: Tensor, steps: int | None, coefficients: tuple[Tensor | None, ...], needs: int
) -> tuple[Tensor, ...]:
    """Empty gradients in the order of :data:`GRADIENTS`; those not needed have no elements."""
    dtype = state_dtype(current.dtype)
    shape = current.shape[1:] if steps is None else current.shape
    gradients = [torch.empty_like(current) if needs & 1 else current.new_empty(0)]
    for i, coefficient in enumerate(coefficients, start=1):
        size = coefficient.shape if needs >> i & 1 else (0,)
        gradients.append(current.new_empty(size, dtype=dtype))
    for i in (4, 5):
        gradients.append(current.new_empty(shape if needs >> i & 1 else (0,), dtype=dtype))
    return tuple(gradients)


def _forward_fake(current, steps, decay, reset_decay, threshold, d, rd, th, v, r, sigma, surrogate, count, smooth):
    return allocate_outputs(current, steps, count)


def _backward_fake(
    grad_out, grad_v, grad_r, current, steps, decay, reset_decay, threshold, d, rd, th, v, r, sigma, surrogate, count,
    smooth, reset_grad, needs,
):  # fmt: skip
    return allocate_gradients(current, steps, (decay, reset_decay, threshold), needs)


def _into_features(tensor: Tensor | None, dim: int | None, size: int, position: int) -> Tensor | None:
    """Move the mapped axis to ``position``, the first feature axis; a tensor without one is expanded."""
    if tensor is None:
        return None
    return tensor.unsqueeze(position).expand(
        *tensor.shape[:position], size, *tensor.shape[position:]
    ) if dim is None else tensor.movedim(dim, position)  # fmt: skip


def _coefficient_into_features(tensor: Tensor | None, dim: int | None, size: int, features: int) -> Tensor | None:
    """``[size, 1, ..., *shape]``: the mapped axis in front of the right-aligned coefficient."""
    if tensor is None:
        return None
    tensor = tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
    return tensor.reshape(size, *(1,) * (features - tensor.dim() + 1), *tensor.shape[1:])


def _batch_layer(size, dims, layer):
    """The layer's arguments with the mapped axis folded in as the first feature axis."""
    current, steps, decay, reset_decay, threshold, d, rd, th, v, r, *rest = layer
    current_dim, _, decay_dim, reset_decay_dim, threshold_dim, _, _, _, v_dim, r_dim, *_ = dims
    batch = 1 if steps is None else 0  # the batch axis
    features = current.dim() - (current_dim is not None) - batch - 1
    current = _into_features(current, current_dim, size, batch + 1)
    coefficients = [
        _coefficient_into_features(c, dim, size, features)
        for c, dim in ((decay, decay_dim), (reset_decay, reset_decay_dim), (threshold, threshold_dim))
    ]
    v, r = _into_features(v, v_dim, size, 1), _into_features(r, r_dim, size, 1)
    return current, steps, *coefficients, d, rd, th, v, r, *rest


def _forward_vmap(op):
    def rule(info, in_dims, *layer):
        count = layer[12]
        outputs = op(*_batch_layer(info.batch_size, in_dims, layer))
        return outputs, (1 if count else 2, 1, 1)

    return rule


def _backward_vmap(op):
    def rule(info, in_dims, *arguments):
        size = info.batch_size
        (grad_out, grad_v, grad_r), layer = arguments[:3], arguments[3:-2]
        reset_grad, needs = arguments[-2:]
        count, steps, coefficients = layer[12], layer[1], layer[2:5]
        layer = _batch_layer(size, in_dims[3:-2], layer)
        gradients = op(
            _into_features(grad_out, in_dims[0], size, 1 if count else 2),
            _into_features(grad_v, in_dims[1], size, 1),
            _into_features(grad_r, in_dims[2], size, 1),
            *layer,
            reset_grad,
            needs,
        )
        # A mapped coefficient was padded to the features' rank; its gradient goes back to its own.
        shapes = [None if c is None else c.shape if dim is None else c.movedim(dim, 0).shape[1:]
                  for c, dim in zip(coefficients, in_dims[5:8], strict=True)]  # fmt: skip
        batch = 1 if steps is None else 0
        result = []
        out_dims = []
        for i, gradient in enumerate(gradients):
            if not needs >> i & 1:
                out_dims.append(None)
            elif 1 <= i <= 3:
                gradient = gradient.reshape(size, *shapes[i - 1])
                out_dims.append(0)
            else:
                out_dims.append(batch + 1 if i == 0 else 1)
            result.append(gradient)
        return tuple(result), tuple(out_dims)

    return rule


for _backend in KERNEL_BACKENDS:
    for _name, _schema, _fake, _rule, _ops in (
        ("lif_forward", FORWARD_SCHEMA, _forward_fake, _forward_vmap, forward_ops),
        ("lif_backward", BACKWARD_SCHEMA, _backward_fake, _backward_vmap, backward_ops),
    ):
        _qualified = f"{_name}_{_backend}"
        _library.define(_qualified + _schema, tags=(torch.Tag.pt2_compliant_tag,))
        _op = getattr(torch.ops.hnn, _qualified).default
        torch.library.register_fake(f"hnn::{_qualified}", _fake, lib=_library)
        torch.library.register_vmap(f"hnn::{_qualified}", _rule(_op), lib=_library)
        _ops[_backend] = _op


def implement(backend: str, forward: Callable, backward: Callable) -> None:
    """Register a Python implementation of a backend's pair of operators, for every device."""
    _library.impl(f"lif_forward_{backend}", forward, "CompositeExplicitAutograd")
    _library.impl(f"lif_backward_{backend}", backward, "CompositeExplicitAutograd")
