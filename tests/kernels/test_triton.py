"""The host side of the Triton backend: how memory is described to the kernels, and how they are launched."""

import math
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("triton")

import hnn_kernels
from hnn_kernels import IIR
from hnn_kernels._triton import launch, layout


def _offsets(sizes, strides):
    """The offset of every element, in the order in which the kernel numbers the neurons."""
    offsets = torch.zeros((), dtype=torch.int64)
    for size, stride in zip(sizes, strides, strict=True):
        offsets = (offsets.unsqueeze(-1) + torch.arange(size) * stride).flatten()
    return offsets.reshape(-1)


@st.composite
def _operands(draw):
    """A shape, and operands of it in any order of dims, some of them expanded or with gaps."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=5)))
    operands = []
    for _ in range(draw(st.integers(1, 4))):
        order = draw(st.permutations(range(len(shape))))
        strides = [0] * len(shape)
        step = draw(st.sampled_from([1, 2]))
        for d in order:
            strides[d] = 0 if draw(st.booleans()) else step
            step *= shape[d] + draw(st.integers(0, 1))
        operands.append(tuple(strides))
    return shape, operands


@settings(max_examples=200, deadline=None)
@given(_operands())
def test_collapse_keeps_the_operands_in_step(case):
    shape, operands = case
    sizes, collapsed = layout.collapse(shape, operands)
    assert math.prod(sizes) == math.prod(shape)
    assert len(sizes) <= len(shape)
    before = torch.stack([_offsets(shape, strides) for strides in operands])
    after = torch.stack([_offsets(sizes, strides) for strides in collapsed])
    # The same elements meet, whatever the order they come in.
    assert sorted(map(tuple, before.T.tolist())) == sorted(map(tuple, after.T.tolist()))


@pytest.mark.parametrize(
    ("shape", "operands", "sizes", "strides"),
    [
        ((2, 3, 4), [(12, 4, 1), (12, 4, 1)], [24], [[1], [1]]),
        # A permuted operand that all others follow is as good as contiguous.
        ((2, 3, 4), [(12, 1, 3), (12, 1, 3)], [24], [[1], [1]]),
        ((2, 3, 4), [(12, 1, 3), (12, 4, 1)], [2, 4, 3], [[12, 3, 1], [12, 1, 4]]),
        # A coefficient per channel.
        ((2, 3, 4, 5), [(60, 20, 5, 1), (0, 1, 0, 0)], [2, 3, 20], [[60, 20, 1], [0, 1, 0]]),
        ((2, 3), [(0, 1), (3, 1)], [2, 3], [[0, 1], [3, 1]]),
        ((2, 3), [(0, 0)], [6], [[0]]),
        ((1, 1), [(7, 9), (0, 0)], [1], [[1], [1]]),
    ],
)
def test_collapse(shape, operands, sizes, strides):
    assert layout.collapse(shape, operands) == (sizes, strides)


def test_the_first_operand_alone_orders_the_dims():
    """Forward and backward have other operands, and must number the neurons of a checkpoint alike."""
    for current in [(12, 1, 3), (0, 1, 3), (0, 0, 1), (0, 0, 0)]:
        orders = [layout.collapse((2, 3, 4), [current, (7, 11, 13)])[1][1] for _ in range(2)]
        others = [layout.collapse((2, 3, 4), [current, other, (7, 11, 13)])[1][2] for other in [(1, 2, 6), (12, 4, 1)]]
        assert all(order == orders[0] for order in (*orders, *others))


def test_dense_operands_need_no_sizes():
    current, kept, state = torch.zeros(5, 2, 3, 4), torch.zeros(2, 3, 4), torch.zeros(6, 2, 3, 4)
    operands = {"current": current, "out": None, "kept": kept, "synapse_state": state}
    assert layout.describe((2, 3, 4), operands) == (None, layout.Strides())


def test_blocks_that_do_not_lie_one_after_another():
    state = torch.zeros(6, 2, 3, 4)[::2]
    sizes, strides = layout.describe((2, 3, 4), {"current": torch.zeros(5, 2, 3, 4), "synapse_state": state})
    assert sizes == (layout.opaque(24),)
    assert strides == layout.Strides(synapse_state=(layout.opaque(1), layout.opaque(48)))
    assert layout.describe((2, 3, 4), {"current": torch.zeros(5, 2, 3, 4), "axon_state": state[:1]})[0] is None


def test_taps_of_a_coefficient():
    taps = torch.zeros(2, 3, 1)
    sizes, strides = layout.describe((2, 3, 4), {"current": torch.zeros(5, 2, 3, 4), "axon_feedback": taps})
    assert sizes == tuple(map(layout.opaque, (2, 3, 4)))
    assert strides.axon_feedback == tuple(map(layout.opaque, (0, 1, 0, 3)))


def test_a_coefficient_always_has_strides():
    sizes, strides = layout.describe((1, 3), {"current": torch.zeros(5, 1, 3), "decay": torch.zeros(3)})
    assert sizes == (layout.opaque(3),)
    assert strides == layout.Strides(decay=(layout.opaque(1),))


def test_opaque_numbers_specialize_nothing():
    assert all(layout.opaque(n) != 1 and layout.opaque(n) % 16 for n in range(100))
    assert all(layout.opaque(n) >> 2 == n for n in (0, 1, 7, 2**40))


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, math.pi, 5e-324, 1.7e308, math.nan])
def test_a_float64_is_two_halves_of_one_type(value):
    halves = launch.scalar(value, torch.float64)
    assert all(2**31 <= half < 2**63 and half % 16 for half in halves)
    low, high = ((half >> 2) & 0xFFFFFFFF for half in halves)
    assert struct.pack("<2I", low, high) == struct.pack("<d", value)


@pytest.mark.parametrize("neurons", [1, 2**15, 2**17, 2**17 + 1, 2**31])
def test_launch_config(neurons):
    block, num_warps = launch.launch_config(neurons)
    assert block == 32 * num_warps
    assert 64 <= block <= 256


@pytest.mark.parametrize("steps", range(70))
@pytest.mark.parametrize("short", [False, True])
def test_segment_steps(steps, short):
    segments = launch.SHORT_SEGMENTS if short else launch.SEGMENTS
    segment = launch.segment_steps(steps, short)
    assert segment in segments
    assert segment >= steps or segment == segments[-1]


DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_arctan(dtype):
    x = torch.cat([torch.linspace(-4, 4, 2001), torch.tensor([0.0, 1e-30, 1e9, -1e30, math.inf, -math.inf, math.nan])])
    x = x.to(DEVICE, dtype)[None, None]
    options = {"reset": "none", "smooth": True, "surrogate": "arctan", "sigma": 1.0, "backend": "triton"}
    step, _ = hnn_kernels.lif(x, 0.0, threshold=0.0, **options)
    torch.testing.assert_close(
        step, 0.5 + torch.atan(x) / math.pi, rtol=0, atol=2 * torch.finfo(dtype).eps, equal_nan=True
    )


def _layer(backend, steps, checkpoint_every=None, permuted=False):
    """The results and gradients of a layer with everything in it."""
    generator = torch.Generator().manual_seed(steps)
    current = torch.randn((steps, 2, 3, 5), generator=generator) + 0.3
    if permuted:
        current = current.permute(3, 0, 2, 1).contiguous().permute(1, 3, 2, 0)
    taps = [torch.rand((n, 3, 1), generator=generator) * 0.5 for n in (2, 2, 2, 1)]
    leaves = [t.to(DEVICE).requires_grad_() for t in (current, *taps)]
    x, *taps = leaves
    out, state = hnn_kernels.lif(
        x, 0.7, 0.5, synapse=IIR(*taps[:2]), axon=IIR(*taps[2:]), checkpoint_every=checkpoint_every, backend=backend
    )
    results = [out, *state]
    weights = [torch.randn(t.shape, generator=generator).to(DEVICE) for t in results]
    loss = sum((t * w).sum() for t, w in zip(results, weights, strict=True))
    return results, torch.autograd.grad(loss, leaves)


@pytest.mark.parametrize("permuted", [False, True])
@pytest.mark.parametrize(
    ("steps", "checkpoint_every"), [(7, None), (8, None), (9, None), (25, None), (25, 1), (25, 7), (25, 24), (25, 30)]
)
def test_segments_and_windows(steps, checkpoint_every, permuted):
    """Lengths around a segment, and windows shorter and longer than one."""
    expected = _layer("reference", steps)
    got = _layer("triton", steps, checkpoint_every, permuted)
    for g, e in zip((*got[0], *got[1]), (*expected[0], *expected[1]), strict=True):
        torch.testing.assert_close(g, e, rtol=1e-4, atol=1e-4)
