"""The raw operators of products with spikes, their derivatives, and the ones made of torch's own products.

An operator takes a spike train, which holds 0 and 1, and gives the product and the train as bits. Backward reads the
bits (:mod:`hnn_kernels._ops.bits`). A bias has a row for each of some equal parts of the first axis: ``[S, out]``.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import _SingleLevelFunction
from torch.nn import functional

from .. import _checks
from . import batching, density
from .autograd import Undifferentiable, apply_below, call_backward, transformed
from .bits import from_lines, lines, pack, row_bytes, unpack
from .density import Window
from .library import operators

_WINDOW = "SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt groups"
SCHEMAS = {
    "spike_linear": "(Tensor input, Tensor weight, Tensor? bias) -> (Tensor, Tensor)",
    # The gradient of the weight. `features` is the length of the last axis of the input.
    "spike_linear_backward": "(Tensor grad_out, Tensor bits, SymInt features) -> Tensor",
    "spike_conv2d": f"(Tensor input, Tensor weight, Tensor? bias, {_WINDOW}) -> (Tensor, Tensor)",
    # `input_size` is that of the input, `kernel` the height and width of the weight.
    "spike_conv2d_backward": f"(Tensor grad_out, Tensor bits, SymInt[] input_size, SymInt[] kernel, {_WINDOW})"
    " -> Tensor",
}
# "cpu" chooses by density between the kernels and torch's products; "torch" is torch's products, for any device.
KINDS = ("cpu", "torch")
product_ops: dict[tuple[str, str], Callable] = {}

# The kernels, which are C++ and take what the operators above hand them: rows of bits, and channels-last images. The
# number of spikes is -1 where there is another value than 0 and 1.
RAW_SCHEMAS = {
    "spike_pack": "(Tensor rows) -> (Tensor, int)",
    "spike_unpack": "(Tensor bits, int length, Tensor like) -> Tensor",
    "spike_count": "(Tensor bits) -> int",
    "sparse_linear": "(Tensor bits, Tensor weight, Tensor? bias) -> Tensor",
    "sparse_linear_backward": "(Tensor grad_out, Tensor bits, int features) -> Tensor",
    "sparse_conv2d": "(Tensor bits, Tensor weight, Tensor? bias, int width, int[] padding) -> Tensor",
    "sparse_conv2d_backward": "(Tensor grad_out, Tensor bits, int channels, int width, int[] kernel, int[] padding)"
    " -> Tensor",
}
raw: dict[str, Callable] = {name: operators.define(name, schema) for name, schema in RAW_SCHEMAS.items()}


# The axes of the outputs of a product, from behind.
LINEAR, CONV2D = -1, -3

# -- torch's products --------------------------------------------------------------------------------------------------


def _flat(rows: Tensor) -> Tensor:
    """Return ``[*, n]`` as ``[rows, n]``."""
    return rows.reshape(math.prod(rows.shape[:-1]), rows.shape[-1])


def _parts(out: Tensor, bias: Sequence[int]) -> Tensor:
    """Return ``[rows, *]`` as ``[S, rows / S, *]`` for a bias of size ``[S, out]``; S is 1 for ``[out]``."""
    parts = bias[0] if len(bias) == 2 else 1
    return out.unflatten(0, (parts, out.shape[0] // parts))


def with_bias(product: Callable, bias: Tensor | None, channels: int) -> Tensor:
    """Return ``product(bias)``, torch's product, which takes a bias ``[out]``; one of ``[S, out]`` is added to it."""
    if bias is None or bias.dim() == 1:
        return product(bias)
    parts = _parts(product(None), bias.shape)
    return (parts + _spread(bias, parts, channels)).flatten(0, 1)


def _spread(bias: Tensor, parts: Tensor, channels: int) -> Tensor:
    """Return a bias ``[S, out]`` with axes of 1, so that ``out`` is the axis ``channels`` of ``parts``."""
    size = [1] * parts.dim()
    size[0], size[channels] = bias.shape
    return bias.view(size)


def torch_conv2d(input: Tensor, weight: Tensor, window: Sequence[Any], bias: Tensor | None) -> Tensor:
    """Return torch's convolution; the window is a :class:`Window`, or its values."""
    return functional.conv2d(input, weight, bias, *window)


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    _checks.binary("input", input)
    return with_bias(partial(functional.linear, input, weight), bias, LINEAR), pack(input)


def _linear_backward(grad_out: Tensor, bits: Tensor, features: int, unpack: Callable = unpack) -> Tensor:
    rows = unpack(bits, features, grad_out)
    return _flat(grad_out).t() @ _flat(rows)


def _conv2d(input: Tensor, weight: Tensor, bias: Tensor | None, *window: Any) -> tuple[Tensor, Tensor]:
    _checks.binary("input", input)
    product = partial(torch_conv2d, input, weight, window)
    return _channels_last(with_bias(product, bias, CONV2D)), pack(lines(input))


def _conv2d_backward(
    grad_out: Tensor,
    bits: Tensor,
    input_size: Sequence[int],
    kernel: Sequence[int],
    *window: Any,
    unpack: Callable = unpack,
) -> Tensor:
    image = from_lines(unpack(bits, input_size[3] * input_size[1], grad_out), input_size)
    weight = grad_out.new_empty(1).expand(_weight_size(grad_out, input_size, kernel, window[3]))
    return _channels_last(_convolution_backward(grad_out, image, weight, Window(*window), [False, True, False])[1])


def _weight_size(grad_out: Tensor, input_size: Sequence[int], kernel: Sequence[int], groups: int) -> list[int]:
    return [grad_out.shape[1], input_size[1] // groups, *kernel]


def _last_strides(size: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of ``[B, C, H, W]`` in channels-last memory, also where sides of 1 leave them open."""
    _, channels, height, width = size
    return channels * height * width, 1, channels * width, channels


def _empty_channels_last(like: Tensor, size: Sequence[int]) -> Tensor:
    return like.new_empty_strided(tuple(size), _last_strides(size))


def _channels_last(image: Tensor) -> Tensor:
    if image.stride() == _last_strides(image.shape):
        return image
    return _empty_channels_last(image, image.shape).copy_(image)


def _convolution_backward(
    grad_out: Tensor, image: Tensor, weight: Tensor, window: Window, wanted: list[bool]
) -> Sequence[Tensor]:
    stride, padding, dilation, groups = window
    return torch.ops.aten.convolution_backward(
        grad_out, image, weight, None, stride, padding, dilation, False, [0, 0], groups, wanted
    )


# -- the kernels, or torch's products ----------------------------------------------------------------------------------


def _packed(rows: Tensor) -> tuple[Tensor, int]:
    """Return the rows ``[*, n]`` as bits, and the number of spikes."""
    flat = _flat(rows)
    bits, count = raw["spike_pack"](flat if flat.stride(1) == 1 else flat.contiguous())
    if count < 0:
        _checks.binary("input", rows)
    return bits.view(*rows.shape[:-1], bits.shape[1]), count


def _unpacked(bits: Tensor, length: int, like: Tensor) -> Tensor:
    rows = raw["spike_unpack"](_flat(bits), length, like)
    return rows.view(*bits.shape[:-1], length)


def cpu_linear(input: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the product of a spike train, and the train as bits."""
    bits, count = _packed(input)
    features = input.shape[-1]
    rows = math.prod(input.shape[:-1])
    if not density.sparse("spike_linear", count, rows, features, weight.shape[0], weight.dtype):
        return with_bias(partial(functional.linear, input, weight), bias, LINEAR), bits
    one = bias.contiguous() if bias is not None and bias.dim() == 1 else None
    out = raw["sparse_linear"](_flat(bits), weight, one)
    out = out.view(*input.shape[:-1], out.shape[1])
    if bias is not None and one is None:
        parts = _parts(out, bias.shape)
        parts += _spread(bias, parts, LINEAR)
    return out, bits


def _cpu_linear_backward(grad_out: Tensor, bits: Tensor, features: int) -> Tensor:
    rows = math.prod(bits.shape[:-1])
    spikes = raw["spike_count"](bits)
    if not density.sparse("spike_linear_backward", spikes, rows, features, grad_out.shape[-1], grad_out.dtype):
        return _linear_backward(grad_out, bits, features, _unpacked)
    return raw["sparse_linear_backward"](_flat(grad_out), _flat(bits), features)


def weight_gradient(grad_out: Tensor, input: Tensor) -> Tensor:
    """Return ``grad_out.T @ input`` of rows on a CPU: over the spikes alone where the input has few, and nothing else.

    Args:
        grad_out: ``[rows, out]``.
        input: ``[rows, in]``, any values.
    """
    sizes = *input.shape, grad_out.shape[1], grad_out.dtype
    if density.sparse("spike_linear_backward", 0, *sizes):
        bits, count = raw["spike_pack"](input)
        if density.sparse("spike_linear_backward", count, *sizes):
            return raw["sparse_linear_backward"](grad_out, bits, input.shape[1])
    return grad_out.t() @ input


def _cpu_conv2d(input: Tensor, weight: Tensor, bias: Tensor | None, *window: Any) -> tuple[Tensor, Tensor]:
    window = Window(*window)
    rows = lines(input)
    bits, count = _packed(rows)
    if not density.sparse_window("spike_conv2d", count, input.shape, weight.shape[0], window, weight.dtype):
        image = from_lines(rows, input.shape)  # channels-last, so that the output is
        return _channels_last(with_bias(partial(torch_conv2d, image, weight, window), bias, CONV2D)), bits
    starts = None if bias is None else bias.reshape(-1, weight.shape[0]).contiguous()
    return raw["sparse_conv2d"](bits, weight, starts, input.shape[3], window.padding), bits


def _cpu_conv2d_backward(
    grad_out: Tensor, bits: Tensor, input_size: Sequence[int], kernel: Sequence[int], *window: Any
) -> Tensor:
    window = Window(*window)
    spikes, outputs = raw["spike_count"](bits), grad_out.shape[1]
    if not density.sparse_window("spike_conv2d_backward", spikes, input_size, outputs, window, grad_out.dtype):
        return _conv2d_backward(grad_out, bits, input_size, kernel, *window, unpack=_unpacked)
    arguments = _channels_last(grad_out), bits, input_size[1], input_size[3], kernel, window.padding
    return raw["sparse_conv2d_backward"](*arguments).to(grad_out.dtype)


# -- fake kernels ------------------------------------------------------------------------------------------------------


def _fake_linear(input, weight, bias):
    lead = input.shape[:-1]
    bits = input.new_empty((*lead, row_bytes(input.shape[-1])), dtype=torch.uint8)
    return weight.new_empty((*lead, weight.shape[0])), bits


def _fake_conv2d(input, weight, bias, *window):
    batch, channels, *image = input.shape
    out = _empty_channels_last(weight, (batch, weight.shape[0], *Window(*window).sides(image, weight.shape[2:])))
    return out, input.new_empty((batch, image[0], row_bytes(image[1] * channels)), dtype=torch.uint8)


_FAKES: dict[str, Callable[..., Any]] = {
    "spike_linear": _fake_linear,
    "spike_linear_backward": lambda grad_out, bits, features: grad_out.new_empty((grad_out.shape[-1], features)),
    "spike_conv2d": _fake_conv2d,
    "spike_conv2d_backward": lambda grad_out, bits, input_size, kernel, *window: _empty_channels_last(
        grad_out, _weight_size(grad_out, input_size, kernel, window[3])
    ),
}
_FUNCTIONS: dict[tuple[str, str], Callable[..., Any]] = {
    ("spike_linear", "torch"): _linear,
    ("spike_linear_backward", "torch"): _linear_backward,
    ("spike_conv2d", "torch"): _conv2d,
    ("spike_conv2d_backward", "torch"): _conv2d_backward,
    ("spike_linear", "cpu"): cpu_linear,
    ("spike_linear_backward", "cpu"): _cpu_linear_backward,
    ("spike_conv2d", "cpu"): _cpu_conv2d,
    ("spike_conv2d_backward", "cpu"): _cpu_conv2d_backward,
}

# -- derivatives -------------------------------------------------------------------------------------------------------


class _Product(_SingleLevelFunction):
    """``(input, weight, bias, name, window, kind)`` to ``(out, bits)``; without a window it is ``"spike_linear"``."""

    @staticmethod
    def forward(input, weight, bias, name, window, kind):
        with torch._C._AutoDispatchBelowAutograd():
            return product_ops[name, kind](input, weight, bias, *(window or ()))

    @staticmethod
    def setup_context(ctx, inputs, output):
        input, weight, bias, ctx.name, ctx.window, ctx.kind = inputs
        ctx.bias = None if bias is None else bias.shape
        ctx.size = list(input.shape)
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(weight, output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, grad_out, _):
        grads: list[Any] = [None] * len(ctx.needs_input_grad)
        if grad_out is None:
            return tuple(grads)
        weight, bits = ctx.saved_tensors
        window, places = ctx.window, () if ctx.window is None else (3, 4)
        of_input, of_weight, of_bias, *_ = ctx.needs_input_grad
        if of_input and window is None:
            grads[0] = grad_out @ weight
        elif of_input:
            image = _empty_channels_last(grad_out, ctx.size)  # of an expanded one torch would make a copy
            grads[0] = _convolution_backward(grad_out, image, weight, window, [True, False, False])[0]
        if of_weight:
            sizes = ctx.size[-1:] if window is None else (ctx.size, list(weight.shape[2:]), *window)
            grads[1] = call_backward(product_ops[f"{ctx.name}_backward", ctx.kind], grad_out, bits, *sizes)
        if of_bias:
            rows = _flat(grad_out) if window is None else grad_out
            grads[2] = _parts(rows, ctx.bias).sum((1, *places)).view(ctx.bias)
        return tuple(grads)

    @staticmethod
    def jvp(ctx, *tangents):
        raise RuntimeError(_NO_FORWARD_MODE)


_NO_FORWARD_MODE = (
    "hnn_kernels.spike_linear and spike_conv2d have no derivative in forward mode: use reverse mode (backward, "
    "torch.func.vjp or jacrev), or backend='reference', torch's own product, which has both"
)


def linear(kind: str, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the product of :func:`hnn_kernels.spike_linear`, differentiable by autograd, torch.func and compilers."""
    if transformed():
        return product_ops["spike_linear", kind](input, weight, bias)[0]
    return apply_below(_Product, input, weight, bias, "spike_linear", None, kind)[0]


def conv2d(kind: str, input: Tensor, weight: Tensor, bias: Tensor | None, window: Window) -> Tensor:
    """Return the product of :func:`hnn_kernels.spike_conv2d`, differentiable as :func:`linear` is."""
    if transformed():
        return product_ops["spike_conv2d", kind](input, weight, bias, *window)[0]
    return apply_below(_Product, input, weight, bias, "spike_conv2d", window, kind)[0]


def define(kind: str) -> None:
    """Define the operators of one of :data:`KINDS`."""
    for name, schema in SCHEMAS.items():
        qualified = f"{name}_{kind}"
        product_ops[name, kind] = op = operators.define(qualified, schema)
        operators.implement(qualified, "Fake", _FAKES[name])
        batching.register(qualified, batching.one_by_one(op))
        key = "CPU" if kind == "cpu" else "CompositeExplicitAutograd"
        operators.implement(qualified, key, _FUNCTIONS[name, kind])
    _differentiate(kind)


def _differentiate(kind: str) -> None:
    def refusing(name: str, public: str) -> Callable:
        def backward(*arguments) -> Tensor:
            operator = product_ops[name, kind]
            return apply_below(Undifferentiable, lambda *inputs: (operator(*inputs),), public, *arguments)[0]

        return backward

    def forward(name: str) -> Callable:
        def product(input, weight, bias, *window):
            return apply_below(_Product, input, weight, bias, name, Window(*window) if window else None, kind)

        return product

    for name in ("spike_linear", "spike_conv2d"):
        operators.implement(f"{name}_{kind}", "Autograd", forward(name))
        backward = refusing(f"{name}_backward", f"hnn_kernels.{name}")
        operators.implement(f"{name}_backward_{kind}", "Autograd", backward)
