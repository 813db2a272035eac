"""What the kernels read, write and keep: nothing left out, nothing out of bounds, one current per layer."""

import pytest
import torch
from _memory import GuardedAllocations, among_nans, call_below
from _tools import dtype_id, equal_bits, inputs, representable, run, tensors

from hnn_kernels import LIFState
from hnn_kernels.ops import backward_ops, forward_ops

NEEDS_ALL = 0b111111
STEPS = 5
SHAPES = [(1, 1), (3, 7), (1, 64), (2, 65), (2, 3, 5), (1, 130)]
LOW_AND_WIDE = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def raw_arguments(
    shape, *, dtype=torch.float32, device="cpu", constant=False, count=False, smooth=False, margin=None, kind="neuron"
):
    """The operators' own argument lists; with a ``margin`` every tensor lies among that many NaNs."""
    arguments = inputs(
        shape if constant else (STEPS, *shape), dtype=dtype, device=device, kind=kind, state=True,
        steps=STEPS if constant else None,
    )  # fmt: skip
    place = (lambda t: t) if margin is None else (lambda t: among_nans(t, margin))
    coefficients = [arguments[name] for name in ("decay", "reset_decay", "threshold")]
    is_tensor = [isinstance(c, torch.Tensor) for c in coefficients]
    layer = (
        place(arguments["current"]),
        arguments["steps"],
        *(place(c) if t else None for c, t in zip(coefficients, is_tensor, strict=True)),
        *(torch.nan if t else c for c, t in zip(coefficients, is_tensor, strict=True)),
        *map(place, arguments["state"]),
        0.4, 0, count, smooth,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(5)
    out_shape = shape if count else (STEPS, *shape)
    incoming = [
        place(torch.randn(s, generator=generator).to(device, t.dtype))
        for s, t in ((out_shape, arguments["current"]), (shape, arguments["state"].v), (shape, arguments["state"].r))
    ]
    return layer, incoming


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("constant", [False, True], ids=["train", "constant"])
@pytest.mark.parametrize("count", [False, True], ids=["spikes", "count"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=dtype_id)
@pytest.mark.parametrize("margin", [64, 101], ids=["aligned", "unaligned"])
def test_every_element_is_written_and_no_other(target, shape, constant, count, dtype, margin):
    options = {"dtype": dtype, "device": target.device, "constant": constant, "count": count}
    guarded, guarded_incoming = raw_arguments(shape, **options, margin=margin)
    guard = GuardedAllocations(margin)
    got = call_below(forward_ops[target.backend], guard, target.device, guarded)
    assert len(guard.given) >= 3, "the three results are allocated where the mode sees them"
    backward = (*guarded_incoming, *guarded, 0, NEEDS_ALL)
    got_gradients = call_below(backward_ops[target.backend], guard, target.device, backward)
    assert len(guard.given) >= 9
    guard.check()

    # Only now without guards: a kernel that writes out of bounds may end the process here.
    layer, incoming = raw_arguments(shape, **options)
    expected = forward_ops[target.backend](*layer)
    expected_gradients = backward_ops[target.backend](*incoming, *layer, 0, NEEDS_ALL)
    for found, wanted in zip((*got, *got_gradients), (*expected, *expected_gradients), strict=True):
        assert not found.isnan().any(), "an element was not written, or was computed from memory out of bounds"
        equal_bits(found, wanted, "result")


@pytest.mark.parametrize("bit", range(6))
def test_a_gradient_that_is_not_needed_has_no_elements(target, bit):
    layer, incoming = raw_arguments((2, 5), device=target.device)
    found = backward_ops[target.backend](*incoming, *layer, 0, 1 << bit)
    assert [g.numel() > 0 for g in found] == [i == bit for i in range(6)]


# The first reaches 2^31 where a kernel steps through time in chunks of up to 16, the second within a chunk.
@pytest.mark.parametrize(("steps", "stride"), [(18, 2**27), (4, 2**30), (2, 2**31 + 5)])
def test_offsets_beyond_32_bits(target, steps, stride):
    """A time stride of gigabytes, over memory that is reserved but hardly touched."""
    try:
        buffer = torch.empty(((steps - 1) * stride + 66,), dtype=torch.bfloat16, device=target.device)
    except (RuntimeError, torch.OutOfMemoryError):
        pytest.skip("6 GiB of address space are not to be had")
    arguments = inputs((steps, 2, 33), dtype=torch.bfloat16, device=target.device, state=True)
    far = buffer.as_strided((steps, 2, 33), (stride, 33, 1))
    far.copy_(arguments["current"])
    out, state = run({**arguments, "current": far}, target.backend)
    expected, expected_state = run(arguments, target.backend)
    equal_bits(out, expected, "out")
    equal_bits(state.v, expected_state.v, "state.v")

    # The same for a gradient that comes in, over the same memory.
    current = arguments["current"].requires_grad_()
    grad_out = torch.randn_like(out)
    found, wanted = (
        torch.autograd.grad(run({**arguments, "current": current}, target.backend)[0], current, incoming)[0]
        for incoming in (far.copy_(grad_out), grad_out)
    )
    equal_bits(found, wanted, "gradient")


@pytest.mark.large
def test_more_than_two_to_the_31_outputs(target):
    if target.device != "cuda" or torch.cuda.mem_get_info()[0] < 20 * 2**30:
        pytest.skip("writes 4 GiB: only on a CUDA device with 20 GiB free")
    steps, neurons = 33, 2**26
    current = torch.rand(1, neurons, device="cuda").mul_(2).to(torch.bfloat16)
    arguments = {"current": current, "steps": steps, "decay": representable(0.9), "reset_decay": 0.5, "threshold": 1.0}
    out, _ = run(arguments, target.backend)
    assert out.numel() > 2**31
    count, _ = run(arguments, target.backend, readout="count")
    last = slice(neurons - 1000, neurons)
    equal_bits(out[:, :, last].float().sum(0).to(out.dtype), count[:, last], "count")
    expected, _ = run({**arguments, "current": current[:, last]}, "reference")
    assert (out[:, :, last] != expected).float().mean() < 1e-4


def saved_bytes(arguments, backend, **options):
    leaves = {name: value.detach().requires_grad_() for name, value in tensors(arguments).items()}
    arguments = {**arguments, **{n: leaf for n, leaf in leaves.items() if n not in ("v", "r")}}
    if "v" in leaves:
        arguments["state"] = LIFState(leaves["v"], leaves["r"])
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        result = run(arguments, backend, **options)
    assert result[0].requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("dtype", LOW_AND_WIDE, ids=dtype_id)
@pytest.mark.parametrize("readout", ["spikes", "count"])
def test_training_keeps_the_current_and_nothing_else_that_grows_with_time(target, dtype, readout):
    """Backward recomputes the potential: T steps keep T currents in their own dtype, and no train of spikes."""
    small = {}
    for steps in (10, 40):
        arguments = inputs((steps, 2, 3, 5), dtype=dtype, device=target.device, kind="neuron", state=True)
        current = arguments["current"]
        kept = saved_bytes(arguments, target.backend, readout=readout)
        small[steps] = kept - current.numel() * current.element_size()
    # The rest is what came in besides: the state and three coefficients per neuron.
    wide = 8 if dtype == torch.float64 else 4
    assert small[10] == small[40] <= 2 * (2 * 15 * wide) + 3 * (15 * wide)


@pytest.mark.parametrize("readout", ["spikes", "count"])
def test_a_constant_current_is_kept_once(target, readout):
    arguments = inputs((2, 3, 5), device=target.device, steps=100)
    assert saved_bytes(arguments, target.backend, readout=readout) == 2 * 3 * 5 * 4


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_nothing_is_kept_without_gradients(target, mode):
    arguments = inputs((5, 2, 3), device=target.device, kind="neuron")
    arguments["current"].requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda t: t), mode():
        out, state = run(arguments, target.backend)
    assert not kept
    assert not out.requires_grad
    assert not state.v.requires_grad


def test_only_what_can_have_a_gradient_requires_it(target):
    arguments = inputs((5, 2, 3), device=target.device, kind="neuron")
    out, state = run(arguments, target.backend)
    assert not out.requires_grad
    assert out.grad_fn is None
    arguments["threshold"].requires_grad_()
    out, state = run(arguments, target.backend)
    assert out.requires_grad
    assert state.v.requires_grad
    assert state.r.requires_grad


def test_nothing_that_comes_in_is_written_to(target):
    """By value, for every tensor, forward and backward."""
    layer, incoming = raw_arguments((3, 7), device=target.device)
    given = [t for t in (*layer, *incoming) if isinstance(t, torch.Tensor)]
    before = [t.clone() for t in given]
    forward_ops[target.backend](*layer)
    backward_ops[target.backend](*incoming, *layer, 0, NEEDS_ALL)
    for got, expected in zip(given, before, strict=True):
        equal_bits(got, expected, "input")


def test_results_are_not_views_of_what_came_in(target):
    arguments = inputs((1, 2, 3), device=target.device, state=True)
    arguments["current"].zero_()
    arguments.update(decay=1.0, reset_decay=1.0)
    out, state = run(arguments, target.backend)
    given = {t.untyped_storage().data_ptr() for t in tensors(arguments).values()}
    assert given.isdisjoint(t.untyped_storage().data_ptr() for t in (out, *state))


def test_an_input_changed_in_place_before_backward_is_an_error(target):
    """Backward recomputes from the current; a current changed since would give wrong gradients in silence."""
    arguments = inputs((4, 2, 3), device=target.device)
    weight = torch.ones((), device=target.device, requires_grad=True)
    current = arguments["current"] * weight
    out, _ = run({**arguments, "current": current}, target.backend)
    current.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()
