"""The codings in Triton: the kernels, one program for a block of elements through all steps, and their host side."""

import functools
import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import _checks
from .._ops.coding import allocate_gradients, allocate_train, implement
from ..state import state_dtype
from .layout import collapse, opaque
from .memory import offset_of
from .noise import exp, group_noise

# Elements per program, one per thread. Not yet measured on a GPU.
BLOCK = 128

_NOT_SPECIALIZED = ["T", "M", "first_step", "first_element", "out_step"]


@triton.jit(do_not_specialize=_NOT_SPECIALIZED)
def encode_kernel(
    value, log_std, out, seed, T, M, first_step, first_element, out_step, sizes, strides,  # noqa: N803
    DTYPE: tl.constexpr, BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """Write ``out`` [T, M]: normal numbers around ``value`` [M]; without ``log_std``, spikes of probability ``value``.

    ``sizes`` and ``strides`` are those of :func:`_describe` for value, log_std and out.
    """
    m = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = m < M
    element = offset_of(m, M, sizes, strides[0]) + first_element
    x = tl.load(value + offset_of(m, M, sizes, strides[1]), mask=mask, other=0.0).to(DTYPE)
    if log_std is not None:
        std = exp(tl.load(log_std + offset_of(m, M, sizes, strides[2]), mask=mask, other=0.0).to(DTYPE))
    out += offset_of(m, M, sizes, strides[3])
    seed = tl.load(seed)
    first_step = first_step.to(tl.int64)
    out_step = out_step.to(tl.int64)
    for group in range(first_step // 4, (first_step + T + 3) // 4):
        noise = group_noise(seed, element, group, log_std is not None)
        begin = group * 4 - first_step
        for i in tl.static_range(4):
            t = begin + i
            if log_std is not None:  # noqa: SIM108  of constants, which only a block decides while compiling
                y = x + std * noise[i].to(DTYPE)
            else:
                y = (noise[i].to(DTYPE) < x).to(DTYPE)
            tl.store(out + t * out_step, y.to(out.dtype.element_ty), mask=tl.where((t >= 0) & (t < T), mask, False))


@triton.jit(do_not_specialize=_NOT_SPECIALIZED)
def gaussian_backward_kernel(
    log_std, grad_mean, grad_log_std, out, seed, T, M, first_step, first_element, out_step, sizes, strides,  # noqa: N803
    DTYPE: tl.constexpr, BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """Write the gradients [M] from the gradient of ``out`` [T, M]. A gradient that is None is not needed.

    ``sizes`` and ``strides`` are those of :func:`_describe` for log_std, grad_mean, grad_log_std and out.
    """
    m = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = m < M
    element = offset_of(m, M, sizes, strides[0]) + first_element
    x = tl.load(log_std + offset_of(m, M, sizes, strides[1]), mask=mask, other=0.0).to(DTYPE)
    out += offset_of(m, M, sizes, strides[4])
    seed = tl.load(seed)
    first_step = first_step.to(tl.int64)
    out_step = out_step.to(tl.int64)
    total = tl.zeros([BLOCK], DTYPE)
    weighted = tl.zeros([BLOCK], DTYPE)
    for group in range(first_step // 4, (first_step + T + 3) // 4):
        begin = group * 4 - first_step
        grads = ()
        for i in tl.static_range(4):
            t = begin + i
            live = tl.where((t >= 0) & (t < T), mask, False)
            grads = grads + (tl.load(out + t * out_step, mask=live, other=0.0),)  # noqa: RUF005
        if grad_log_std is not None:
            noise = group_noise(seed, element, group, True)
            for i in tl.static_range(4):
                weighted += grads[i].to(DTYPE) * noise[i].to(DTYPE)
        for i in tl.static_range(4):
            total += grads[i].to(DTYPE)
    if grad_mean is not None:
        at = grad_mean + offset_of(m, M, sizes, strides[2])
        tl.store(at, total.to(grad_mean.dtype.element_ty), mask=mask)
    if grad_log_std is not None:
        at = grad_log_std + offset_of(m, M, sizes, strides[3])
        tl.store(at, (exp(x) * weighted).to(grad_log_std.dtype.element_ty), mask=mask)


@functools.lru_cache(maxsize=1024)
def _collapse(shape: tuple[int, ...], strides: tuple[tuple[int, ...], ...]):
    row_major = tuple(math.prod(shape[d + 1 :]) for d in range(len(shape)))
    sizes, (*operands, element) = collapse(shape, (*strides, row_major))
    dense = [math.prod(sizes[d + 1 :]) for d in range(len(sizes))]
    strided = [None if step == dense else tuple(map(opaque, step)) for step in (element, *operands)]
    return tuple(map(opaque, sizes)) if any(strided) else None, strided


def _describe(shape: Sequence[int], operands: Sequence[Tensor | None]):
    """Return the kernels' ``(sizes, strides)``.

    The strides are first those of a row-major tensor, by which elements are numbered, then those of each operand. They
    are None for an operand that is dense in the order of the first one, and for an operand that is absent.
    """
    given = [operand.stride()[operand.dim() - len(shape) :] for operand in operands if operand is not None]
    sizes, (element, *strides) = _collapse(tuple(shape), tuple(given))
    left = iter(strides)
    return sizes, (element, *(None if operand is None else next(left) for operand in operands))


def _launch(kernel, pointers, train: Tensor, seed: Tensor, first_step: int, first_element: int) -> None:
    steps, *shape = train.shape
    elements = math.prod(shape)
    if elements == 0:
        return
    sizes, strides = _describe(shape, (*pointers, train))
    dtype = tl.float64 if state_dtype(train.dtype) == torch.float64 else tl.float32
    with torch.cuda.device_of(train):
        kernel[(triton.cdiv(elements, BLOCK),)](
            *pointers, train, seed, steps, elements, first_step, first_element, train.stride(0), sizes, strides,
            DTYPE=dtype, BLOCK=BLOCK, num_warps=BLOCK // 32, enable_fp_fusion=False,
        )  # fmt: skip


def gaussian_forward(mean, log_std, seed, steps, first_step, first_element) -> Tensor:
    """Implement ``hnn::gaussian_forward_triton``."""
    out = allocate_train(mean, steps)
    if steps:
        _launch(encode_kernel, (mean, log_std), out, seed, first_step, first_element)
    return out


def gaussian_backward(grad_out, log_std, seed, first_step, first_element, needs) -> list[Tensor]:
    """Implement ``hnn::gaussian_backward_triton``."""
    gradients = allocate_gradients(log_std, needs)
    left = iter(gradients)
    grad_mean, grad_log_std = (next(left) if needs & bit else None for bit in (1, 2))
    _launch(
        gaussian_backward_kernel, (log_std, grad_mean, grad_log_std), grad_out, seed, first_step, first_element
    )  # fmt: skip
    return gradients


def poisson_forward(probability, seed, steps, first_step, first_element) -> Tensor:
    """Implement ``hnn::poisson_forward_triton``."""
    _checks.probabilities("probability", probability)
    out = allocate_train(probability, steps)
    if steps:
        _launch(encode_kernel, (probability, None), out, seed, first_step, first_element)
    return out


implement(
    "triton", gaussian_forward=gaussian_forward, gaussian_backward=gaussian_backward, poisson_forward=poisson_forward
)
