"""The host side of the Triton backend: how memory is described to the kernels, and how they are launched."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("triton")

from hnn_kernels.triton import launch


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
    sizes, collapsed = launch.collapse(shape, operands)
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
    assert launch.collapse(shape, operands) == (sizes, strides)


def test_dense_operands_need_no_sizes():
    current, state = torch.zeros(5, 2, 3, 4), torch.zeros(2, 3, 4)
    assert launch.describe((2, 3, 4), {"current": current, "out": None, "state": state}) == (None, launch.Strides())


def test_a_coefficient_always_has_strides():
    sizes, strides = launch.describe((1, 3), {"current": torch.zeros(5, 1, 3), "decay": torch.zeros(3)})
    assert sizes == (launch.opaque(3),)
    assert strides == launch.Strides(decay=(launch.opaque(1),))


def test_opaque_numbers_specialize_nothing():
    assert all(launch.opaque(n) != 1 and launch.opaque(n) % 16 for n in range(100))
    assert all(launch.opaque(n) >> 2 == n for n in (0, 1, 7, 2**40))


@pytest.mark.parametrize("neurons", [1, 2**15, 2**17, 2**17 + 1, 2**31])
def test_launch_config(neurons):
    block, num_warps = launch.launch_config(neurons)
    assert block == 32 * num_warps
    assert 64 <= block <= 256


@pytest.mark.parametrize("steps", range(70))
def test_segment_steps(steps):
    segment = launch.segment_steps(steps)
    assert segment in launch.SEGMENTS
    assert segment >= steps or segment == launch.SEGMENTS[-1]
