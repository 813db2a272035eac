"""The raw operators of the codings, and the autograd function of Gaussian coding.

As for the layer (:mod:`hnn_kernels._ops.layer`), each backend implements them under its own name. They check nothing
that :mod:`hnn_kernels.coding` has checked already. No noise is kept for backward: its operator makes the noise again.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import _SingleLevelFunction

from . import batching
from .autograd import Undifferentiable, apply_below, call_backward, transformed
from .library import operators

# The seed is a tensor on the device of the values: nothing waits for it, and a replayed CUDA graph reads a new one.
_NOISE = "SymInt first_step, SymInt first_element"
SCHEMAS = {
    "gaussian_forward": f"(Tensor mean, Tensor log_std, Tensor seed, SymInt steps, {_NOISE}) -> Tensor",
    # Bit 0 of `needs` asks for the gradient of the mean, bit 1 for that of log_std. The needed gradients come back.
    "gaussian_backward": f"(Tensor grad_out, Tensor log_std, Tensor seed, {_NOISE}, int needs) -> Tensor[]",
    "poisson_forward": f"(Tensor probability, Tensor seed, SymInt steps, {_NOISE}) -> Tensor",
}
# By name and backend.
coding_ops: dict[tuple[str, str], Callable] = {}


def allocate_train(value: Tensor, steps: int) -> Tensor:
    """Allocate ``[steps, B, *features]``, each step laid out in memory as ``value`` is."""
    return value.new_empty_strided((steps, *value.shape), (value.numel(), *torch.empty_like(value).stride()))


def allocate_gradients(log_std: Tensor, needs: int) -> list[Tensor]:
    """Allocate the needed gradients of the mean and of ``log_std``."""
    return [torch.empty_like(log_std) for bit in (1, 2) if needs & bit]


_FAKES: dict[str, Callable[..., Any]] = {
    "gaussian_forward": lambda mean, log_std, seed, steps, *noise: allocate_train(mean, steps),
    "gaussian_backward": lambda grad_out, log_std, seed, first_step, first_element, needs: allocate_gradients(
        log_std, needs
    ),
    "poisson_forward": lambda probability, seed, steps, *noise: allocate_train(probability, steps),
}


def define(backend: str) -> None:
    """Define a backend's operators of the codings."""
    for name, schema in SCHEMAS.items():
        qualified = f"{name}_{backend}"
        coding_ops[name, backend] = op = operators.define(qualified, schema)
        operators.implement(qualified, "Fake", _FAKES[name])
        # An element's noise goes by its place in [B, *features], which a mapped axis is no part of.
        batching.register(qualified, batching.one_by_one(op))
    _differentiate(backend)


def implement(backend: str, **functions: Callable) -> None:
    """Register the operators of a backend that are written in Python, for every device."""
    for name, function in functions.items():
        operators.implement(f"{name}_{backend}", "CompositeExplicitAutograd", function)


class _Gaussian(_SingleLevelFunction):
    """Gaussian coding: ``(mean, log_std, seed, steps, first_step, first_element, backend)`` to the train."""

    @staticmethod
    def forward(mean, log_std, seed, steps, first_step, first_element, backend):
        with torch._C._AutoDispatchBelowAutograd():
            return coding_ops["gaussian_forward", backend](mean, log_std, seed, steps, first_step, first_element)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, log_std, seed, _, *ctx.noise, ctx.backend = inputs
        ctx.save_for_backward(log_std, seed)

    @staticmethod
    def backward(ctx, grad_out):
        needs = ctx.needs_input_grad[0] + 2 * ctx.needs_input_grad[1]
        operator = coding_ops["gaussian_backward", ctx.backend]
        gradients = iter(call_backward(operator, grad_out, *ctx.saved_tensors, *ctx.noise, needs))
        return *(next(gradients) if needed else None for needed in ctx.needs_input_grad[:2]), *(None,) * 5

    @staticmethod
    def jvp(ctx, *tangents):
        raise RuntimeError(
            "hnn_kernels.encode_gaussian has no derivative in forward mode: use reverse mode (backward, torch.func.vjp "
            "or jacrev), or backend='reference', plain PyTorch, which has both"
        )


def gaussian(backend: str, mean: Tensor, log_std: Tensor, *noise: Any) -> Tensor:
    """Return the train of :func:`hnn_kernels.encode_gaussian`, differentiable by autograd, torch.func and compilers."""
    if transformed():
        return coding_ops["gaussian_forward", backend](mean, log_std, *noise)
    return apply_below(_Gaussian, mean, log_std, *noise, backend)


def _differentiate(backend: str) -> None:
    def backward(*arguments) -> list[Tensor]:
        operator = coding_ops["gaussian_backward", backend]
        return list(apply_below(Undifferentiable, operator, "hnn_kernels.encode_gaussian", *arguments))

    def forward(*arguments) -> Tensor:
        return apply_below(_Gaussian, *arguments, backend)

    operators.implement(f"gaussian_forward_{backend}", "Autograd", forward)
    operators.implement(f"gaussian_backward_{backend}", "Autograd", backward)
