"""Products of weights and a spike train: a train holds 0 and 1, so a product is a sum of the weights that meet a 1."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from . import _checks, _dispatch
from ._ops import density, products
from ._ops.autograd import transformed


def spike_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None, *, backend: str | None = None) -> Tensor:
    """``torch.nn.functional.linear`` for an input of 0 and 1: ``input @ weight.T + bias``.

    On a CPU, forward and the gradient of the weight add up the rows that meet a spike and leave out the others, where
    spikes are few enough; otherwise they are torch's own products. Each call counts, and chooses by a measured limit
    (docs/measured.md). The gradient of the input is torch's product. On a GPU all products are torch's. Backward keeps
    the input as bits, 1/32 of its size in float32.

    Args:
        input: ``[*, in]``, values 0 and 1 (-0 is 0); float64, float32, bfloat16 or float16.
        weight: ``[out, in]``, dtype and device of the input.
        bias: ``[out]``, or None; or ``[S, out]``, a bias for each of S equal parts of the first axis, such as the steps
            of a train.
        backend: as for :func:`hnn_kernels.lif`. ``"cpu"`` counts and chooses as above. ``"triton"`` and ``"cuda"`` are
            torch's products with the input kept as bits. ``"reference"`` is torch's product, which keeps the input as
            it is, has gradients of gradients, and derivatives in forward mode.

    Returns:
        ``[*, out]``, of the dtype of the weight. Sums are float32 (float64 for float64). Equal calls give equal bits on
        any number of threads; another backend, another instruction set or another density may round otherwise. Under
        autocast the product has its dtype, as torch's has.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: a shape, device or backend that is not allowed; an input with another value than 0 and 1. On the CPU
            the kernel finds it (a RuntimeError in a compiled graph). On a GPU, which the host does not wait for, it is
            a device-side assertion. The reference looks only outside of transforms, and is right for any values.
        RuntimeError: a backend that is not usable here; a gradient of the gradient or a derivative in forward mode.
    """
    _operands(input, weight, bias, 2)
    if not input.dim():
        raise ValueError("input must be [*, in]; got a tensor without axes")
    bias = _bias(input, weight, bias, 2)
    if input.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"input must be [*, {weight.shape[1]}] for a weight of shape {tuple(weight.shape)}; "
            f"got shape {tuple(input.shape)}"
        )
    kind = _kind(input, backend)
    input, weight, bias = _autocast(input, weight, bias)
    if kind is None:
        return products.with_bias(partial(functional.linear, input, weight), bias, products.LINEAR)
    return products.linear(kind, input, weight, bias)


def spike_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    *,
    backend: str | None = None,
) -> Tensor:
    """``torch.nn.functional.conv2d`` for an input of 0 and 1.

    Kept bits, gradients, the choice by density and the errors are those of :func:`spike_linear`. Strides, dilations and
    groups other than 1 always take torch's products.

    Args:
        input: ``[B, C, H, W]`` or ``[C, H, W]``, values 0 and 1, of any supported dtype. A train ``[T, B, C, H, W]`` is
            flattened to ``[T * B, C, H, W]`` first. One that is channels-last in memory is read in place.
        weight: ``[out, C / groups, kh, kw]``, dtype and device of the input.
        bias: ``[out]``, ``[S, out]`` or None, as for :func:`spike_linear`.
        stride, padding, dilation, groups: as for ``torch.nn.functional.conv2d``.
        backend: as for :func:`spike_linear`.

    Returns:
        ``[B, out, H', W']``, channels-last in memory, or ``[out, H', W']``. The reference gives torch's layout.

    Raises:
        TypeError, ValueError, RuntimeError: as :func:`spike_linear`.
    """
    _operands(input, weight, bias, 4)
    if input.dim() not in (3, 4):
        raise ValueError(f"input must be [B, C, H, W] or [C, H, W]; got shape {tuple(input.shape)}")
    bias = _bias(input, weight, bias, 4)
    groups = _checks.positive_int("groups", groups)
    if input.shape[-3] != weight.shape[1] * groups or weight.shape[0] % groups:
        raise ValueError(
            f"weight must be [out, C / groups, kh, kw], out a multiple of groups={groups}, for an input of shape "
            f"{tuple(input.shape)}; got shape {tuple(weight.shape)}"
        )
    if input.dim() == 3:
        return spike_conv2d(input[None], weight, bias, stride, padding, dilation, groups, backend=backend)[0]
    stride, dilation = _pair("stride", stride, 1), _pair("dilation", dilation, 1)
    if isinstance(padding, str):
        input, padding = _padded(input, padding, stride, dilation, weight.shape[2:])
    window = products.Window(stride, _pair("padding", padding, 0), dilation, groups)
    sides = window.sides(input.shape[2:], weight.shape[2:])
    if min(sides) < 1:
        raise ValueError(
            f"input must be at least as large as the window; got shape {tuple(input.shape)} for a weight of shape "
            f"{tuple(weight.shape)} with padding={window.padding} and dilation={window.dilation}"
        )
    kind = _kind(input, backend)
    input, weight, bias = _autocast(input, weight, bias)
    if kind is None:
        product = partial(products.torch_conv2d, input, weight, window)
        return products.with_bias(product, bias, products.CONV2D)
    return products.conv2d(kind, input, weight, bias, window)


def spikes_can_gain(weight: Tensor) -> bool:
    """Tell if a product with spikes can take less time than torch's product with this weight, on a CPU.

    With few outputs, or few channels of an image, it cannot: keeping the input as bits costs more time than is gained.
    It still saves memory.

    Args:
        weight: ``[out, in]`` of :func:`spike_linear`, or ``[out, C / groups, kh, kw]`` of :func:`spike_conv2d`.

    Raises:
        TypeError: ``weight`` is not a tensor.
        ValueError: ``weight`` has another number of axes.
    """
    if not isinstance(weight, Tensor):
        raise TypeError(f"weight must be a tensor; got {type(weight).__name__}")
    if weight.dim() not in (2, 4):
        raise ValueError(f"weight must be [out, in] or [out, C / groups, kh, kw]; got shape {tuple(weight.shape)}")
    if weight.dim() == 2:
        return density.linear_gains(weight.shape[0])
    return density.conv2d_gains(weight.shape[1], weight.shape[0])


def for_product(called: str, input: Tensor, weight: Tensor, bias: Tensor | None) -> list:
    """Return the weight and the bias of a product with ``input``, checked, and as autocast gives them to it."""
    _operands(input, weight, bias, 2, called)
    return _autocast(weight, bias)


def _operands(input: Tensor, weight: Tensor, bias: Tensor | None, axes: int, called: str = "input") -> None:
    _checks.floating(called, input)
    autocast = _autocasts(input.device.type)
    given = [("weight", weight)] if bias is None else [("weight", weight), ("bias", bias)]
    for name, value in given:
        _checks.floating(name, value)
        _checks.same_device(name, value, input.device, called)
        if not autocast:
            _checks.same_dtype(name, value, called, input)
    if weight.dim() != axes:
        raise ValueError(f"weight must have {axes} axes; got shape {tuple(weight.shape)}")


def _bias(input: Tensor, weight: Tensor, bias: Tensor | None, axes: int) -> Tensor | None:
    """Return the bias, as ``[out]`` if it is one for all rows; for an input of so many axes, if it is not one less."""
    if bias is None:
        return None
    outputs = weight.shape[0]
    if bias.dim() not in (1, 2) or bias.shape[-1] != outputs:
        raise ValueError(
            f"bias must have shape ({outputs},), one for each output, or (S, {outputs}); got {tuple(bias.shape)}"
        )
    if bias.dim() == 2:
        rows = input.shape[0] if input.dim() >= axes else 1
        if not bias.shape[0] or rows % bias.shape[0]:
            raise ValueError(
                f"bias must have one row for each of some equal parts of the input's first axis of {rows}; "
                f"got shape {tuple(bias.shape)}"
            )
    return bias[0] if bias.shape[0] == 1 and bias.dim() == 2 else bias


def _kind(input: Tensor, backend: str | None) -> str | None:
    """Return which operators serve a call; None for torch's own product, after a look at the values."""
    chosen = _dispatch.choose(input.device, backend)
    if chosen != "reference":
        return "cpu" if chosen == "cpu" else "torch"
    _dispatch.warn_of_the_reference(input.device, backend, stacklevel=4)  # the call of a product
    if not transformed():
        _checks.binary("input", input)
    return None


def _autocasts(device_type: str) -> bool:
    return device_type != "meta" and torch.is_autocast_enabled(device_type)  # torch refuses to be asked for meta


def _autocast(*tensors: Tensor | None) -> list:
    """Return the tensors as autocast gives them to a product."""
    device = next(tensor.device.type for tensor in tensors if tensor is not None)
    if not _autocasts(device):
        return list(tensors)
    dtype = torch.get_autocast_dtype(device)
    return [t if t is None or t.dtype == torch.float64 else t.to(dtype) for t in tensors]


def _pair(name: str, value: int | Sequence[int], least: int) -> tuple[int, int]:
    values = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,) * 2
    if len(values) == 1:
        values *= 2
    if len(values) != 2:
        raise ValueError(f"{name} must be one int, or two; got {value!r}")
    vertical, horizontal = (_checks.at_least(name, one, least) for one in values)
    return vertical, horizontal


def _padded(
    input: Tensor, padding: str, stride: Sequence[int], dilation: Sequence[int], kernel: Sequence[int]
) -> tuple[Tensor, tuple[int, int]]:
    """Return the input and the numbers of a padding that is given by name."""
    _checks.option("padding", padding, ("valid", "same"))
    if padding == "valid":
        return input, (0, 0)
    if any(s != 1 for s in stride):
        raise ValueError(f"padding='same' needs a stride of 1; got {stride}")
    total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    if any(n % 2 for n in total):  # the larger half comes behind, as in torch
        (top, left), (bottom, right) = [n // 2 for n in total], [n - n // 2 for n in total]
        return functional.pad(input, (left, right, top, bottom)), (0, 0)
    return input, (total[0] // 2, total[1] // 2)
