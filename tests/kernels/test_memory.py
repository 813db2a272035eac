"""The memory of filters: nothing more per step, no copy for any layout, and no limit at 2^31 elements."""

import math
import os

import pytest
import torch

from hnn_kernels import IIR
from support.comparisons import equal_bits
from support.guarded_memory import Allocations, call_below
from support.layers import gradients, inputs, representable, run, tensors
from support.operators import call_raw, raw_arguments, saved_bytes
from support.targets import dtype_id

# Layers by what is attached to them, as arguments of `inputs`.
ATTACHED = {
    "synapse": {"synapse": (2, 1)},
    "axon": {"axon": (2, 1)},
    "both": {"synapse": (3, 2), "axon": (2, 1), "reset": "subtract"},
    "alone": {"synapse": (2, 1), "membrane": False},
}


def size(tensor) -> int:
    return tensor.numel() * tensor.element_size()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=dtype_id)
@pytest.mark.parametrize("attached", ATTACHED)
def test_training_keeps_one_number_per_neuron_and_step(target, dtype, attached):
    """With any filters, and everything learnt, T steps keep T currents in their own dtype."""
    for steps in (10, 40):
        arguments = inputs(
            (steps, 2, 3, 5), dtype=dtype, device=target.device, kind="neuron", state=True, **ATTACHED[attached]
        )
        # What came in, and only that: the current, and the states and coefficients, which do not grow with time.
        assert saved_bytes(arguments, target.backend) == sum(map(size, tensors(arguments).values()))


@pytest.mark.parametrize("attached", ["synapse", "axon", "both"])
def test_a_constant_current_is_kept_once(target, attached):
    for steps in (10, 100):
        arguments = inputs((2, 3, 5), device=target.device, steps=steps, **ATTACHED[attached])
        assert saved_bytes(arguments, target.backend) == size(arguments["current"])


@pytest.mark.parametrize("attached", ["synapse", "axon", "both"])
@pytest.mark.parametrize(("steps", "every"), [(40, 7), (41, 10), (40, 10), (40, 1), (40, 100), (1, 1)])
def test_checkpoints_cost_a_state_per_window(target, attached, steps, every):
    arguments = inputs((steps, 2, 3, 5), device=target.device, kind="neuron", **ATTACHED[attached])
    without = saved_bytes(arguments, target.backend)
    kept = saved_bytes(arguments, target.backend, checkpoint_every=every) - without
    filters = [arguments[name] for name in ("synapse", "axon") if name in arguments]
    depth = 2 + sum(len(f.feedback) + len(f.feedforward) - 1 for f in filters)
    assert kept == (math.ceil(steps / every) - 1) * depth * (2 * 3 * 5) * 4


def test_checkpoints_are_kept_only_for_a_gradient(target):
    arguments = inputs((40, 2, 3), device=target.device, axon=(2, 1))
    found = []
    for leaf, every in ((False, None), (False, 1), (True, 1)):
        arguments["current"].requires_grad_(leaf)
        with Allocations() as allocated:
            run(arguments, target.backend, checkpoint_every=every)
        found.append(sum(allocated.elements))
    assert found[0] == found[1] < found[2]


ORDERS = {
    "contiguous": (0, 1, 2, 3, 4),
    "[B, T, C, H, W]": (1, 0, 2, 3, 4),
    "[B, C, H, W, T]": (1, 2, 3, 4, 0),
    "[T, B, H, W, C]": (0, 1, 3, 4, 2),
}


def in_order(tensor, order):
    """The same numbers, in memory in this order of axes."""
    return tensor.permute(order).contiguous().permute(*torch.tensor(order).argsort().tolist())


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("attached", [None, *ATTACHED])
@pytest.mark.parametrize("checkpoint_every", [0, 20])
def test_every_layout_is_read_and_written_in_place(target, order, attached, checkpoint_every):
    """Forward allocates one tensor with a number per neuron and step, its result, and backward one, its gradient."""
    if target.backend == "triton" and attached == "both":
        pytest.skip("a segment of Triton's has fewer steps than two filters of these orders have state")
    steps = 100
    layer, incoming = raw_arguments(
        (2, 2, 1, 2), length=steps, device=target.device, kind="channel", checkpoint_every=checkpoint_every,
        **ATTACHED.get(attached, {}),
    )  # fmt: skip
    layer = layer._replace(current=in_order(layer.current, ORDERS[order]))
    incoming[0] = in_order(incoming[0], ORDERS["[B, C, H, W, T]"])
    calls = []

    def counted(op, given):
        allocated = Allocations()
        result = call_below(op, allocated, target.device, given)
        calls.append([n for n in allocated.elements if n >= layer.current.numel()])
        return result

    forward, backward = call_raw(target, layer, incoming, call=counted)
    assert calls == [[layer.current.numel()]] * 2
    assert forward[0].stride() == backward[0].stride() == layer.current.stride()


def reserve(elements: int, dtype, device) -> torch.Tensor:
    """A tensor whose memory is reserved, and of which a test touches little."""
    try:
        return torch.empty(elements, dtype=dtype, device=device)
    except (RuntimeError, torch.OutOfMemoryError):
        pytest.skip(f"{elements * dtype.itemsize / 2**30:.0f} GiB of address space are not to be had")


# Steps that are far apart, samples that are, and neurons.
FAR = [((3, 2, 33), (2**30 + 7, 33, 1)), ((3, 3, 33), (33, 2**30, 1)), ((2, 3, 33), (1, 2, 2**26))]


@pytest.mark.parametrize(("shape", "strides"), FAR, ids=["time", "batch", "neurons"])
@pytest.mark.parametrize("attached", ATTACHED)
def test_offsets_beyond_32_bits(target, shape, strides, attached):
    extent = 1 + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    assert extent > 2**31
    far = reserve(extent, torch.bfloat16, target.device).as_strided(shape, strides)
    arguments = inputs(
        shape, dtype=torch.bfloat16, device=target.device, state=True, kind="neuron", **ATTACHED[attached]
    )
    far.copy_(arguments["current"])
    strided = {**arguments, "current": far}
    # The results of a current with gaps have none.
    equal_bits(run(strided, target.backend)[0], run(arguments, target.backend)[0], "out")
    expected = gradients(arguments, target.backend)
    for name, got in gradients(strided, target.backend).items():
        torch.testing.assert_close(got, expected[name], rtol=1e-5, atol=1e-5, msg=name)


def test_a_history_beyond_32_bits(target):
    """The axis of a filter's order may have any stride too."""
    far = reserve(2**31 + 100, torch.float32, target.device).as_strided((2, 3, 11), (2**31 + 5, 11, 1))
    arguments = inputs((3, 3, 11), device=target.device, state=True, axon=(1, 1), synapse=(2, 0), kind="neuron")
    near = arguments["state"]
    for name in ("axon", "synapse"):
        far.copy_(getattr(near, name))
        got = run({**arguments, "state": near._replace(**{name: far})}, target.backend)[0]
        equal_bits(got, run(arguments, target.backend)[0], f"out with a far {name}")


def test_more_than_two_to_the_31_results_on_the_cpu(target):
    """4 GiB of filtered train from a constant current, held against the reference at its end."""
    if target.backend != "cpu":
        pytest.skip("too slow for what proves kernels on the CPU; test_conformance_memory has a GPU's case")
    if os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < 8 * 2**30:
        pytest.skip("writes 4 GiB: only with 8 GiB free")
    steps, neurons = 2**17 + 3, 2**14
    current = torch.rand(1, neurons).mul_(2).to(torch.bfloat16)
    arguments = {
        "current": current, "steps": steps, "decay": representable(0.9), "reset_decay": 0.5, "threshold": 1.0,
        "axon": IIR([0.5], [0.25]),
    }  # fmt: skip
    out, state = run(arguments, "cpu")
    assert out.numel() > 2**31
    # The last neurons' whole past by the reference would take minutes: the kernel's, on those alone.
    last = slice(neurons - 70, neurons)
    expected, expected_state = run({**arguments, "current": current[:, last].contiguous()}, "cpu")
    equal_bits(out[:, :, last], expected, "out")
    equal_bits(state.v[:, last], expected_state.v, "state.v")
    # From the state before the last steps on, the reference.
    _, before = run({**arguments, "current": current[:, last], "steps": steps - 20}, "cpu")
    final, _ = run({**arguments, "current": current[:, last], "steps": 20, "state": before}, "reference")
    equal_bits(out[-20:, :, last], final, "the last steps")
