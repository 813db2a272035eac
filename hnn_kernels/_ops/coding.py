"""The raw operators of the codings, and the autograd function of Gaussian coding.

As for the layer (:mod:`hnn_kernels._ops.layer`), each backend implements them under its own name. They check nothing
that :mod:`hnn_kernels.coding` has checked already. No noise is kept for backward: its operator makes the noise again.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .layer import library

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


def _refuse_vmap(info, dims, *arguments):
    raise RuntimeError(
        "encode_gaussian and encode_poisson cannot run under torch.vmap, since an element's noise goes by its place in "
        "[B, *features]; make the mapped axis a part of B"
    )


def define(backend: str) -> None:
    """Define a backend's operators of the codings."""
    for name, schema in SCHEMAS.items():
        qualified = f"{name}_{backend}"
        library.define(qualified + schema, tags=(torch.Tag.pt2_compliant_tag,))
        torch.library.register_fake(f"hnn::{qualified}", _FAKES[name], lib=library)
        torch.library.register_vmap(f"hnn::{qualified}", _refuse_vmap, lib=library)
        coding_ops[name, backend] = getattr(torch.ops.hnn, qualified).default


def implement(backend: str, **operators: Callable) -> None:
    """Register the operators of a backend that are written in Python, for every device."""
    for name, operator in operators.items():
        library.impl(f"{name}_{backend}", operator, "CompositeExplicitAutograd")


class GaussianFunction(torch.autograd.Function):
    """Gaussian coding: ``(mean, log_std, seed, steps, first_step, first_element, backend)`` to the train."""

    generate_vmap_rule = True

    @staticmethod
    def forward(mean, log_std, seed, steps, first_step, first_element, backend):
        return coding_ops["gaussian_forward", backend](mean, log_std, seed, steps, first_step, first_element)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, log_std, seed, _, *ctx.noise, ctx.backend = inputs
        ctx.save_for_backward(log_std, seed)

    @staticmethod
    def backward(ctx, grad_out):
        needs = ctx.needs_input_grad[0] + 2 * ctx.needs_input_grad[1]
        # With gradients enabled, a graph of this backward is recorded. It must end in an error.
        gradient: Callable[..., Any] = GaussianGradient.apply if torch.is_grad_enabled() else GaussianGradient.forward
        gradients = iter(gradient(grad_out, *ctx.saved_tensors, *ctx.noise, needs, ctx.backend))
        return *(next(gradients) if needed else None for needed in ctx.needs_input_grad[:2]), *(None,) * 5


class GaussianGradient(torch.autograd.Function):
    """The backward operator as a function of its own, which refuses to be differentiated."""

    generate_vmap_rule = True

    @staticmethod
    def forward(grad_out, log_std, seed, first_step, first_element, needs, backend):
        operator = coding_ops["gaussian_backward", backend]
        return tuple(operator(grad_out, log_std, seed, first_step, first_element, needs))

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *grads):
        raise RuntimeError(
            "hnn_kernels.encode_gaussian cannot be differentiated twice; backend='reference', plain PyTorch, can"
        )
