"""The derivatives of a layer's operators, which the dispatcher finds at its key Autograd.

So an operator is differentiable by itself, as torch's own are: torch.func, torch.compile and traced or exported
programs call the operator. A plain call skips this detour through the dispatcher.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._functorch.autograd_function import enable_single_level_autograd_function
from torch.autograd.function import _SingleLevelFunction
from torch.nn import Parameter

from .._layer import INCOMING, KEPT, OUTPUTS, TENSORS, Layer
from .layer import backward_ops, forward_ops
from .library import operators

_is_mapped = torch._C._functorch.is_legacy_batchedtensor
_PLACES = {name: place for place, name in enumerate(OUTPUTS)}
# The inputs of a Function: a layer's tensors, its settings, and the plan, (backend, names of the outputs that it has).
_TENSORS = len(TENSORS)


def call_backward(operator: Callable, *inputs: Any) -> Sequence[Tensor]:
    """Call a backward operator. Where no graph of it is recorded, nothing has to refuse to be differentiated."""
    if torch.is_grad_enabled():
        return operator(*inputs)
    with torch._C._AutoDispatchBelowAutograd():
        return operator(*inputs)


def gradients(
    backend: str,
    names: Sequence[str],
    grads: Sequence[Tensor | None],
    kept: Sequence[Tensor | None],
    tensors: Sequence[Tensor | None],
    settings: Sequence[Any],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Call a backend's backward operator.

    Args:
        backend: the name of the backend.
        names: the outputs that forward had.
        grads: their gradients, in that order; None for zeros.
        kept: what forward kept for backward, None for what it did not.
        tensors, settings: the arguments of the layer.
        wanted: True for each of the tensors whose gradient is needed.

    Returns:
        A gradient for each of the tensors, None where none is needed.
    """
    incoming: list[Tensor | None] = [None] * len(INCOMING)
    for name, grad in zip(names, grads, strict=True):
        incoming[_PLACES[name]] = grad
    incoming[-len(KEPT) :] = kept
    needs = 0
    for i, needed in enumerate(wanted):
        if needed:
            needs |= 1 << i
    found = iter(call_backward(backward_ops[backend], *incoming, *tensors, *settings, needs))
    return [next(found) if needed else None for needed in wanted]


NO_FORWARD_MODE = (
    "no derivative in forward mode: use reverse mode (backward, torch.func.vjp or jacrev), or backend='reference', a "
    "plain PyTorch loop, which has both"
)


def save(ctx: Any, tensors: Sequence[Tensor | None], kept: Sequence[Tensor | None]) -> None:
    """Save a call's tensors and what it kept for backward, to which absent gradients come as None."""
    ctx.mark_non_differentiable(*(tensor for tensor in kept if tensor is not None))
    ctx.save_for_backward(*tensors, *kept)
    ctx.set_materialize_grads(False)


class LayerFunction(_SingleLevelFunction):
    """A layer whose forward and backward are one operator call each. Backward recomputes what it needs."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        """Turn ``(*tensors, settings, plan)`` into the outputs of the plan."""
        *tensors, settings, (backend, _) = inputs
        with torch._C._AutoDispatchBelowAutograd():
            return tuple(forward_ops[backend](*tensors, *settings))

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.settings, ctx.plan = inputs
        made = dict(zip(ctx.plan[1], output, strict=True))
        save(ctx, tensors, [made.get(name) for name in KEPT])

    @staticmethod
    def backward(ctx, *grads):
        saved = ctx.saved_tensors  # once: checkpointing unpacks it once
        tensors, kept = saved[:_TENSORS], saved[_TENSORS:]
        wanted = ctx.needs_input_grad[:_TENSORS]
        backend, names = ctx.plan
        return *gradients(backend, names, grads, kept, tensors, ctx.settings, wanted), None, None

    @staticmethod
    def jvp(ctx, *tangents):
        raise RuntimeError(f"hnn_kernels.lif and iir have {NO_FORWARD_MODE}")


class _PlainLayer(torch.autograd.Function):
    """:class:`LayerFunction` with forward and setup_context in one: 15 us less, but no transform accepts it."""

    @staticmethod
    def forward(ctx, *inputs):
        output = LayerFunction.forward(*inputs)
        LayerFunction.setup_context(ctx, inputs, output)
        return output

    backward = LayerFunction.backward
    jvp = LayerFunction.jvp


def transformed() -> bool:
    """Tell if a transform, a tracer or a dispatch mode is at work, which needs the operator itself."""
    return (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or torch._C._get_tracing_state() is not None
        or torch._C._len_torch_dispatch_stack() > 0
    )


def as_in_memory(tensors: Iterable[Any]) -> bool:
    """Tell if the tensors are what their memory holds.

    A subclass, a tensor on "meta", one that the older vmap maps, and one that is negated when it is read are not.
    """
    return all(
        t is None
        or (type(t) in (Tensor, Parameter) and t.device.type != "meta" and not _is_mapped(t) and not t.is_neg())
        for t in tensors
    )


def may_be_direct(grads: Iterable[Any]) -> bool:
    """Tell if a backward pass may run its kernels without the operators: no graph of it is recorded."""
    return not torch.is_grad_enabled() and not transformed() and as_in_memory(grads)


def apply(layer: Layer, backend: str) -> Sequence[Tensor]:
    """Return the outputs of a call, differentiable by autograd, torch.func and torch.compile."""
    if transformed():
        return forward_ops[backend](*layer)
    return _PlainLayer.apply(*layer[:_TENSORS], layer[_TENSORS:], (backend, layer.outputs()))


class Undifferentiable(_SingleLevelFunction):
    """A backward operator, which refuses to be differentiated: its gradient would miss a part."""

    @staticmethod
    def forward(operator: Callable, name: str, *inputs: Any) -> tuple[Tensor, ...]:
        """Call ``operator`` on ``inputs``; ``name`` is the public function that an error names."""
        with torch._C._AutoDispatchBelowAutograd():
            return tuple(operator(*inputs))

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.name = inputs[1]

    @staticmethod
    def backward(ctx, *grads):
        raise RuntimeError(f"{ctx.name} cannot be differentiated twice; backend='reference', plain PyTorch, can")

    jvp = backward


def apply_below(function: Any, *inputs: Any) -> Any:
    """Apply a ``_SingleLevelFunction`` in a kernel at the key Autograd, to which torch.func dispatches each level."""
    with enable_single_level_autograd_function():
        return function.apply(*inputs)


def differentiate(backend: str) -> None:
    """Register the derivatives of a backend's pair of operators."""

    def forward(*arguments) -> list[Tensor]:
        plan = backend, Layer(*arguments).outputs()
        return list(apply_below(LayerFunction, *arguments[:_TENSORS], arguments[_TENSORS:], plan))

    def backward(*arguments) -> list[Tensor]:
        return list(apply_below(Undifferentiable, backward_ops[backend], "hnn_kernels.lif and iir", *arguments))

    operators.implement(f"lif_forward_{backend}", "Autograd", forward)
    operators.implement(f"lif_backward_{backend}", "Autograd", backward)
