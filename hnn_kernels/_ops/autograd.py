"""The autograd Functions between the public calls and a backend's pair of raw operators."""

from typing import NamedTuple

import torch
from torch import Tensor

from .layer import OUTPUTS, TENSORS, backward_ops, forward_ops


class Settings(NamedTuple):
    """What a call fixes besides its tensors, in the order of the operators' schema."""

    steps: int | None
    decay: float
    reset_decay: float
    threshold: float
    synapse_feedback: list[float]
    synapse_feedforward: list[float]
    axon_feedback: list[float]
    axon_feedforward: list[float]
    width: float
    surrogate: int
    reset: int
    reset_grad: int
    count: bool
    smooth: bool
    return_state: bool
    checkpoint_every: int


class Plan(NamedTuple):
    """The backend, and which of :data:`OUTPUTS` the call has."""

    backend: str
    outputs: tuple[int, ...]


# The tensors of ops.TENSORS, the settings, the plan.
_INPUTS = len(TENSORS) + 2
_CHECKPOINTS = OUTPUTS.index("checkpoints")


class LayerFunction(torch.autograd.Function):
    """Forward and backward each one operator call; backward recomputes what it needs instead of storing it."""

    generate_vmap_rule = True

    # One variadic parameter: Function.apply() binds its arguments to this signature, which costs 20 us for seven.
    @staticmethod
    def forward(*inputs: Tensor | Settings | Plan | None) -> tuple[Tensor, ...]:
        """``(*tensors, settings, plan)`` to the plan's outputs."""
        # The last ones: under Dynamo of torch 2.11 a symbolic `steps` is passed once more in front.
        *tensors, settings, plan = inputs[-_INPUTS:]
        return tuple(forward_ops[plan.backend](*tensors, *settings))

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.settings, ctx.plan = inputs[-_INPUTS:]
        checkpoints = None
        if ctx.settings.checkpoint_every:
            checkpoints = output[-1]
            ctx.mark_non_differentiable(checkpoints)
        ctx.save_for_backward(*tensors, checkpoints)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, *grads):
        incoming = [None] * _CHECKPOINTS
        for i, grad in zip(ctx.plan.outputs, grads, strict=True):
            if i != _CHECKPOINTS:
                incoming[i] = grad
        wanted = ctx.needs_input_grad[: len(TENSORS)]
        needs = sum(1 << i for i, needed in enumerate(wanted) if needed)
        # A graph of this backward is being recorded: it must end in an error, not in a gradient that misses a part.
        gradient = LayerGradient.apply if torch.is_grad_enabled() else LayerGradient.forward
        *tensors, checkpoints = ctx.saved_tensors
        gradients = iter(gradient(*incoming, checkpoints, *tensors, ctx.settings, ctx.plan, needs))
        return *(next(gradients) if needed else None for needed in wanted), None, None


class _PlainLayer(torch.autograd.Function):
    """:class:`LayerFunction` with forward and setup_context in one: 15 us less, but no transform can take it."""

    @staticmethod
    def forward(ctx, *inputs):
        output = LayerFunction.forward(*inputs)
        LayerFunction.setup_context(ctx, inputs, output)
        return output

    backward = LayerFunction.backward


def apply(*inputs: Tensor | Settings | Plan | None) -> tuple[Tensor, ...]:
    """:meth:`LayerFunction.forward`, differentiable: by autograd, torch.func and torch.compile."""
    transformed = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    return (LayerFunction if transformed else _PlainLayer).apply(*inputs)


class LayerGradient(torch.autograd.Function):
    """The backward operator as a function of its own, which refuses to be differentiated."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs: Tensor | Settings | Plan | int | None) -> tuple[Tensor, ...]:
        """``(*grads of OUTPUTS, checkpoints, *LayerFunction's inputs, needs)`` to the gradients needed."""
        *tensors, settings, plan, needs = inputs[-len(OUTPUTS) - _INPUTS - 1 :]
        return tuple(backward_ops[plan.backend](*tensors, *settings, needs))

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *grads):
        raise RuntimeError(
            "hnn_kernels.lif and iir cannot be differentiated twice; backend='reference', a plain PyTorch loop, can"
        )
