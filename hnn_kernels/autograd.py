"""The autograd Functions between the public call and a backend's pair of raw operators."""

from typing import NamedTuple

import torch
from torch import Tensor

from .ops import backward_ops, forward_ops


class Settings(NamedTuple):
    """What a call fixes besides its tensors. A coefficient given as a tensor has NaN for its value here."""

    backend: str
    steps: int | None
    decay: float
    reset_decay: float
    threshold: float
    sigma: float
    surrogate: int
    count: bool
    smooth: bool
    reset_grad: int


class LIFFunction(torch.autograd.Function):
    """Forward and backward each one operator call; backward recomputes the potential instead of storing it."""

    generate_vmap_rule = True

    # One variadic parameter: Function.apply() binds its arguments to this signature, which costs 20 us for seven.
    @staticmethod
    def forward(*inputs: Tensor | Settings | None) -> tuple[Tensor, Tensor, Tensor]:
        """``(current, decay, reset_decay, threshold, v, r, settings)`` to ``(out, v, r)``."""
        # The last seven: under Dynamo of torch 2.11 a symbolic `steps` is passed once more in front.
        current, decay, reset_decay, threshold, v, r, s = inputs[-7:]
        return forward_ops[s.backend](
            current, s.steps, decay, reset_decay, threshold, s.decay, s.reset_decay, s.threshold, v, r, s.sigma,
            s.surrogate, s.count, s.smooth,
        )  # fmt: skip

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.settings = inputs[-7:]
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, grad_out, grad_v, grad_r):
        wanted = ctx.needs_input_grad[:6]
        needs = sum(1 << i for i, needed in enumerate(wanted) if needed)
        # A graph of this backward is being recorded: it must end in an error, not in a gradient that misses a part.
        gradient = LIFGradient.apply if torch.is_grad_enabled() else LIFGradient.forward
        gradients = gradient(grad_out, grad_v, grad_r, *ctx.saved_tensors, ctx.settings, needs)
        return *(g if needed else None for g, needed in zip(gradients, wanted, strict=True)), None


class _PlainLIF(torch.autograd.Function):
    """:class:`LIFFunction` with forward and setup_context in one, which costs 15 us less and no transform can take."""

    @staticmethod
    def forward(ctx, *inputs):
        output = LIFFunction.forward(*inputs)
        LIFFunction.setup_context(ctx, inputs, output)
        return output

    backward = LIFFunction.backward


def apply(*inputs: Tensor | Settings | None) -> tuple[Tensor, Tensor, Tensor]:
    """:meth:`LIFFunction.forward`, differentiable: by autograd, torch.func and torch.compile."""
    transformed = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    return (LIFFunction if transformed else _PlainLIF).apply(*inputs)


class LIFGradient(torch.autograd.Function):
    """The backward operator as a function of its own, which refuses to be differentiated."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs: Tensor | Settings | int | None) -> tuple[Tensor, ...]:
        """``(grad_out, grad_v, grad_r, <LIFFunction's inputs>, needs)`` to the gradients of :data:`ops.GRADIENTS`."""
        grad_out, grad_v, grad_r, current, decay, reset_decay, threshold, v, r, s, needs = inputs[-11:]
        return backward_ops[s.backend](
            grad_out, grad_v, grad_r, current, s.steps, decay, reset_decay, threshold, s.decay, s.reset_decay,
            s.threshold, v, r, s.sigma, s.surrogate, s.count, s.smooth, s.reset_grad, needs,
        )  # fmt: skip

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *grads):
        raise RuntimeError(
            "hnn_kernels.lif cannot be differentiated twice; backend='reference', a plain PyTorch loop, can"
        )
