"""Loads and stores of the kernels, as device functions.

M neurons of one step (batch times features) are numbered in the order of the current's memory. ``sizes`` and
``strides`` are those of :mod:`hnn_kernels._triton.layout`.
"""

import triton
import triton.language as tl

from .formula import FILTER, NO_MEMBRANE, scalar


@triton.jit
def plain(number):
    """The number that ``layout.opaque`` wrote as 4 n + 3."""
    return number >> 2


@triton.jit
def offset_of(m, M, sizes, strides):  # noqa: N803
    """The element offset of neuron ``m`` in an operand; ``strides=None`` is an operand dense in the order of m."""
    if strides is None:
        return m
    else:
        return _strided_offset(m, M, sizes, strides)


@triton.jit
def _strided_offset(m, M, sizes, strides):  # noqa: N803
    # M has 64 bits only where it must, and so has the division, which is dear in 64; the lanes past M, which may
    # wrap, are masked.
    rest = m.to(M.dtype)
    offset = tl.zeros_like(m)
    for d in tl.static_range(len(sizes) - 1, 0, -1):
        size = plain(sizes[d])
        offset += (rest % size).to(tl.int64) * plain(strides[d])
        rest = rest // size
    return offset + rest.to(tl.int64) * plain(strides[0])


@triton.jit
def block_step(M, sizes, strides):  # noqa: N803
    """Elements from one block of neurons to the next in an operand of several (taps, or a filter's state)."""
    if strides is None:
        return M.to(tl.int64)
    else:
        return plain(strides[len(sizes)]).to(tl.int64)


@triton.jit
def load_coefficient(coefficient, m, M, mask, sizes, strides, DTYPE: tl.constexpr):  # noqa: N803
    """A coefficient in the state dtype: a float where it has no strides, else a value per neuron."""
    if strides is None:
        return scalar(coefficient, DTYPE)
    else:
        return load_state(coefficient, m, M, mask, sizes, strides, DTYPE)


@triton.jit
def load_taps(coefficients, m, M, mask, sizes, strides, TAPS: tl.constexpr, DTYPE: tl.constexpr):  # noqa: N803
    """A filter's coefficients on one side, as a tuple."""
    taps = ()
    if TAPS > 0:
        if strides is None:
            for i in tl.static_range(TAPS):
                taps = taps + (scalar(coefficients[i], DTYPE),)  # noqa: RUF005
        else:
            taps = load_blocks(coefficients, m, M, mask, sizes, strides, TAPS, DTYPE)
    return taps


@triton.jit
def load_state(pointer, m, M, mask, sizes, strides, DTYPE: tl.constexpr):  # noqa: N803
    """A ``[B, *features]`` tensor, or zeros where there is none."""
    if pointer is None:
        return tl.zeros(m.shape, DTYPE)
    else:
        return tl.load(pointer + offset_of(m, M, sizes, strides), mask=mask, other=0.0).to(DTYPE)


@triton.jit
def load_blocks(pointer, m, M, mask, sizes, strides, COUNT: tl.constexpr, DTYPE: tl.constexpr):  # noqa: N803
    """A ``[COUNT, B, *features]`` tensor as a tuple, or zeros where there is none."""
    blocks = ()
    if COUNT > 0:
        if pointer is None:
            blocks = zeros(m, COUNT, DTYPE)
        else:
            step = block_step(M, sizes, strides)
            pointer += offset_of(m, M, sizes, strides)
            for _ in tl.static_range(COUNT):
                blocks = blocks + (tl.load(pointer, mask=mask, other=0.0).to(DTYPE),)  # noqa: RUF005
                pointer += step
    return blocks


@triton.jit
def load_steps(pointer, start, T, step, mask, STEPS: tl.constexpr):  # noqa: N803
    """The steps ``start + [0, STEPS)`` of ``pointer`` (at time 0) as a tuple in registers; anything from T on.

    One after another, with nothing between, so that all loads are in flight together: the compiler cannot move a load
    before a store that might alias it. Values keep their dtype: a conversion would wait for the load. The pointer
    walks, since an address computed from t costs a 64-bit multiplication per element.
    """
    values = ()
    pointer += start * step
    for k in tl.static_range(STEPS):
        values = values + (tl.load(pointer, mask=tl.where(start + k < T, mask, False)),)  # noqa: RUF005
        pointer += step
    return values


@triton.jit
def store_blocks(pointer, blocks, M, mask):  # noqa: N803
    """The blocks one after another, the first of them at ``pointer``."""
    for i in tl.static_range(len(blocks)):
        tl.store(pointer, blocks[i], mask=mask)
        pointer += M


@triton.jit
def zeros(m, COUNT: tl.constexpr, DTYPE: tl.constexpr):  # noqa: N803
    """A tuple of ``COUNT`` blocks of zeros."""
    blocks = ()
    for _ in tl.static_range(COUNT):
        blocks = blocks + (tl.zeros(m.shape, DTYPE),)  # noqa: RUF005
    return blocks


# -- a layer's operands: `given` and `kept` are tuples of pointers with the names of ops.TENSORS and ops.OUTPUTS -------


@triton.jit
def load_layer(given, m, M, mask, sizes, strides, OPTIONS: tl.constexpr, DTYPE: tl.constexpr):  # noqa: N803
    """The coefficients of membrane, synapse and axon, as :mod:`hnn_kernels._triton.formula` takes them."""
    decay = load_coefficient(given.decay, m, M, mask, sizes, strides.decay, DTYPE)
    reset_decay = load_coefficient(given.reset_decay, m, M, mask, sizes, strides.reset_decay, DTYPE)
    threshold = load_coefficient(given.threshold, m, M, mask, sizes, strides.threshold, DTYPE)
    synapse = (
        load_taps(
            given.synapse_feedback, m, M, mask, sizes, strides.synapse_feedback, OPTIONS.synapse[0], DTYPE
        ),
        load_taps(
            given.synapse_feedforward, m, M, mask, sizes, strides.synapse_feedforward, OPTIONS.synapse[1], DTYPE
        ),
    )  # fmt: skip
    axon = (
        load_taps(given.axon_feedback, m, M, mask, sizes, strides.axon_feedback, OPTIONS.axon[0], DTYPE),
        load_taps(given.axon_feedforward, m, M, mask, sizes, strides.axon_feedforward, OPTIONS.axon[1], DTYPE),
    )
    return (decay, reset_decay, threshold), synapse, axon


@triton.jit
def load_start(given, m, M, mask, sizes, strides, SYNAPSE: tl.constexpr, AXON: tl.constexpr, DTYPE: tl.constexpr):  # noqa: N803
    """The state before the first step, as ``formula.layer_step`` takes it; SYNAPSE and AXON are the filters' depths."""
    return (
        load_state(given.v, m, M, mask, sizes, strides.v, DTYPE),
        load_state(given.r, m, M, mask, sizes, strides.r, DTYPE),
        load_blocks(given.synapse_state, m, M, mask, sizes, strides.synapse_state, SYNAPSE, DTYPE),
        load_blocks(given.axon_state, m, M, mask, sizes, strides.axon_state, AXON, DTYPE),
    )


@triton.jit
def save_state(pointer, state, M, mask, RESET: tl.constexpr):  # noqa: N803
    """Store a state in the order of ops' checkpoints, without what the layer has not."""
    v, r, synapse, axon = state
    if RESET != NO_MEMBRANE:
        tl.store(pointer, v, mask=mask)
    pointer += M
    if RESET == FILTER:
        tl.store(pointer, r, mask=mask)
    pointer += M
    store_blocks(pointer, synapse + axon, M, mask)


@triton.jit
def restore_state(pointer, like, M, mask, RESET: tl.constexpr):  # noqa: N803
    """What :func:`save_state` stored; ``like`` is any state with the parts wanted, and stands in for what was not."""
    v, r, synapse, axon = like
    if RESET != NO_MEMBRANE:
        v = tl.load(pointer, mask=mask)
    pointer += M
    if RESET == FILTER:
        r = tl.load(pointer, mask=mask)
    pointer += M
    histories = ()
    for _ in tl.static_range(len(synapse) + len(axon)):
        histories = histories + (tl.load(pointer, mask=mask),)  # noqa: RUF005
        pointer += M
    return v, r, histories[: len(synapse)], histories[len(synapse) :]
