"""Calls of the registered operators, below the functions that users call."""

import torch

from hnn_kernels import SURROGATES
from hnn_kernels._layer import COEFFICIENTS, NO_MEMBRANE, READOUTS, RESET_GRADS, RESETS, TENSORS, Layer
from hnn_kernels._ops.layer import allocate_outputs, backward_ops, forward_ops
from support.guarded_memory import among_nans
from support.layers import FILTERS, inputs, replace, run, tensors


def raw_arguments(
    shape, *, length=5, dtype=torch.float32, device="cpu", constant=False, count=False, smooth=False, margin=None,
    kind="neuron", reset_grad="full", surrogate="gaussian", return_state=True, checkpoint_every=0, **layer_options,
):  # fmt: skip
    """The arguments of the forward operator, and the incoming gradients of the backward operator.

    With a ``margin``, every tensor lies among that many NaNs. ``layer_options`` are those of ``inputs``.
    """
    steps = length if constant else None
    full = shape if constant else (length, *shape)
    arguments = inputs(full, dtype=dtype, device=device, kind=kind, state=True, steps=steps, **layer_options)
    place = (lambda t: t) if margin is None else (lambda t: among_nans(t, margin))
    given = {name: place(value) for name, value in tensors(arguments).items()}

    def floats(value):
        return [] if value is None or isinstance(value, torch.Tensor) else list(value)

    def number(value):
        return torch.nan if isinstance(value, torch.Tensor) else value or 0.0

    layer = Layer(
        **dict.fromkeys(TENSORS) | given,
        **{f"{name}_value": number(arguments.get(name)) for name in COEFFICIENTS},
        **{
            f"{name}_{part}_values": floats(getattr(arguments.get(name), part, None))
            for name in FILTERS
            for part in ("feedback", "feedforward")
        },
        steps=steps, width=0.4, surrogate=SURROGATES[surrogate].number, reset_grad=RESET_GRADS[reset_grad],
        reset=RESETS[arguments["reset"]] if "reset" in arguments else NO_MEMBRANE,
        readout=READOUTS["count" if count else "spikes"], smooth=smooth, return_state=return_state,
        checkpoint_every=checkpoint_every,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(5)
    incoming = [
        None if result is None else place(torch.randn(result.shape, generator=generator).to(device, result.dtype))
        for result in allocate_outputs(layer)[:-1]
    ]
    return layer, incoming


def every_need(layer) -> int:
    """``needs`` for the gradient of every tensor that is there."""
    return sum(1 << i for i, name in enumerate(TENSORS) if getattr(layer, name) is not None)


def call_raw(target, layer, incoming, needs=None, call=lambda op, arguments: op(*arguments)):
    """Call forward, then backward with the checkpoints of forward, and return the results of both."""
    forward = call(forward_ops[target.backend], layer)
    checkpoints = forward[-1] if layer.checkpoint_every else None
    needs = every_need(layer) if needs is None else needs
    return forward, call(backward_ops[target.backend], (*incoming, checkpoints, *layer, needs))


def saved_bytes(arguments, backend, **options):
    leaves = {name: value.detach().requires_grad_() for name, value in tensors(arguments).items()}
    arguments = replace(arguments, **leaves)
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        result = run(arguments, backend, **options)
    assert result[0].requires_grad
    return sum(kept.values())
