"""The autograd functions between the public calls and a backend's pair of raw operators."""

from typing import Any

import torch
from torch import Tensor

from .._layer import INCOMING, OUTPUTS, TENSORS, Layer
from .layer import backward_ops, forward_ops

_PLACES = {name: place for place, name in enumerate(OUTPUTS)}
# The inputs of a Function: a layer's tensors, its settings, and the plan, (backend, names of the outputs that it has).
_TENSORS = len(TENSORS)
_INPUTS = _TENSORS + 2


class LayerFunction(torch.autograd.Function):
    """A layer whose forward and backward are one operator call each. Backward recomputes what it needs."""

    generate_vmap_rule = True

    # One variadic parameter: Function.apply() binds its arguments to the signature, which costs 20 us for seven.
    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        """Turn ``(*tensors, settings, plan)`` into the outputs of the plan."""
        # Only the last ones: Dynamo of torch 2.11 passes a symbolic `steps` once more in front.
        *tensors, settings, (backend, _) = inputs[-_INPUTS:]
        return tuple(forward_ops[backend](*tensors, *settings))

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.settings, ctx.plan = inputs[-_INPUTS:]
        checkpoints = None
        if ctx.plan[1][-1] == "checkpoints":
            checkpoints = output[-1]
            ctx.mark_non_differentiable(checkpoints)
        ctx.save_for_backward(*tensors, checkpoints)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, *grads):
        incoming = [None] * len(INCOMING)
        for name, grad in zip(ctx.plan[1], grads, strict=True):
            incoming[_PLACES[name]] = grad
        *tensors, incoming[-1] = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:_TENSORS]
        needs = 0
        for i, needed in enumerate(wanted):
            if needed:
                needs |= 1 << i
        # With gradients enabled, a graph of this backward is recorded. It must end in an error, not in a gradient that
        # misses a part.
        gradient = LayerGradient.apply if torch.is_grad_enabled() else LayerGradient.forward
        gradients = iter(gradient(*incoming, *tensors, ctx.settings, ctx.plan, needs))
        return *[next(gradients) if needed else None for needed in wanted], None, None


class _PlainLayer(torch.autograd.Function):
    """:class:`LayerFunction` with forward and setup_context in one: 15 us less, but no transform accepts it."""

    @staticmethod
    def forward(ctx, *inputs):
        output = LayerFunction.forward(*inputs)
        LayerFunction.setup_context(ctx, inputs, output)
        return output

    backward = LayerFunction.backward


def apply(layer: Layer, backend: str) -> tuple[Tensor, ...]:
    """Return the outputs of a call, differentiable by autograd, torch.func and torch.compile."""
    transformed = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    function = LayerFunction if transformed else _PlainLayer
    return function.apply(*layer[:_TENSORS], layer[_TENSORS:], (backend, layer.outputs()))


class LayerGradient(torch.autograd.Function):
    """The backward operator as a function of its own, which refuses to be differentiated."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        """Turn ``(*INCOMING, *LayerFunction's inputs, needs)`` into the needed gradients."""
        *tensors, settings, (backend, _), needs = inputs[-len(INCOMING) - _INPUTS - 1 :]
        return tuple(backward_ops[backend](*tensors, *settings, needs))

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *grads):
        raise RuntimeError(
            "hnn_kernels.lif and iir cannot be differentiated twice; backend='reference', a plain PyTorch loop, can"
        )
