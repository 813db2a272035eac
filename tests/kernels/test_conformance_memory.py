"""The memory that the kernels read, write and keep: every element, none out of bounds, one current per layer."""

import pytest
import torch

from hnn_kernels._layer import TENSORS
from support.comparisons import equal_bits
from support.guarded_memory import GuardedAllocations, call_below
from support.layers import inputs, representable, reset_of, results, run, tensors
from support.operators import call_raw, raw_arguments, saved_bytes
from support.targets import dtype_id

STEPS = 5
SHAPES = [(1, 1), (3, 7), (1, 64), (2, 65), (2, 3, 5), (1, 130)]
LOW_AND_WIDE = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


BOTH = {"synapse": (1, 1), "axon": (2, 0)}
# The layers whose memory is looked at closely, by the arguments of `inputs`.
RAW_LAYERS = {
    "plain": {},
    "both filters": {"synapse": (2, 1), "axon": (1, 2)},
    "axon, subtract, checkpoints": {"axon": (2, 0), "reset": "subtract", "checkpoint_every": 2},
    "no membrane": {"synapse": (2, 1), "membrane": False},
}


# The forms of output of each layer, as bits: 1 for a constant current, 2 for a count.
FORMS = {"plain": (0, 1, 2, 3), "both filters": (0, 1), "axon, subtract, checkpoints": (0, 1), "no membrane": (0,)}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("kind", "constant", "count"),
    [(kind, bool(form & 1), bool(form & 2)) for kind, forms in FORMS.items() for form in forms],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=dtype_id)
@pytest.mark.parametrize("margin", [64, 101], ids=["aligned", "unaligned"])
def test_every_element_is_written_and_no_other(target, kind, shape, constant, count, dtype, margin):
    options = {"dtype": dtype, "device": target.device, "constant": constant, "count": count, **RAW_LAYERS[kind]}
    layer, incoming = raw_arguments(shape, **options, margin=margin)
    guard = GuardedAllocations(margin)
    got = call_raw(target, layer, incoming, call=lambda op, given: call_below(op, guard, target.device, given))
    written = [t for results in got for t in results if t.numel()]
    assert len(guard.given) >= len(written), "the results are allocated where the mode sees them"
    guard.check()

    # Only now without guards: a kernel that writes out of bounds may end the process here.
    expected = call_raw(target, *raw_arguments(shape, **options))
    for found, wanted in zip((*got[0], *got[1]), (*expected[0], *expected[1]), strict=True):
        assert not found.isnan().any(), "an element was not written, or was computed from memory out of bounds"
        equal_bits(found, wanted, "result")


@pytest.mark.parametrize("name", TENSORS)
def test_only_the_gradient_that_is_needed_comes_back(target, name):
    layer, incoming = raw_arguments((2, 5), device=target.device, synapse=(1, 1), axon=(2, 0), reset=reset_of(name))
    there = [tensor for tensor in TENSORS if getattr(layer, tensor) is not None]
    _, everything = call_raw(target, layer, incoming)
    _, (alone,) = call_raw(target, layer, incoming, needs=1 << TENSORS.index(name))
    assert len(everything) == len(there) == len(TENSORS) - 1
    equal_bits(alone, everything[there.index(name)], name)


@pytest.mark.parametrize(
    ("layer", "present"),
    [({}, 3), ({"axon": (1, 0)}, 4), (BOTH, 5), ({**BOTH, "checkpoint_every": 2}, 6), ({"checkpoint_every": 2}, 4),
     ({"synapse": (1, 0), "membrane": False}, 2)],
)  # fmt: skip
def test_only_the_results_that_there_are_come_back(target, layer, present):
    layer, incoming = raw_arguments((2, 5), device=target.device, **layer)
    assert len(call_raw(target, layer, incoming)[0]) == present


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
    # The rest is the other inputs: the state and three coefficients per neuron.
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
    """Neither forward nor backward writes to any tensor that it is given."""
    layer, incoming = raw_arguments((3, 7), device=target.device, synapse=(1, 1), axon=(2, 0))
    given = [t for t in (*layer, *incoming) if isinstance(t, torch.Tensor)]
    before = [t.clone() for t in given]
    call_raw(target, layer, incoming)
    for got, expected in zip(given, before, strict=True):
        equal_bits(got, expected, "input")


def test_results_are_not_views_of_what_came_in(target):
    arguments = inputs((1, 2, 3), device=target.device, state=True)
    arguments["current"].zero_()
    arguments.update(decay=1.0, reset_decay=1.0)
    out, state = run(arguments, target.backend)
    given = {t.untyped_storage().data_ptr() for t in tensors(arguments).values()}
    assert given.isdisjoint(t.untyped_storage().data_ptr() for t in results(out, state).values())


def test_an_input_changed_in_place_before_backward_is_an_error(target):
    """Backward recomputes from the current; a current changed since would give wrong gradients in silence."""
    arguments = inputs((4, 2, 3), device=target.device)
    weight = torch.ones((), device=target.device, requires_grad=True)
    current = arguments["current"] * weight
    out, _ = run({**arguments, "current": current}, target.backend)
    current.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()
