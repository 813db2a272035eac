"""Loads and stores of the kernels, as device functions.

M neurons of one step (batch times features) are numbered in the order of the current's memory. ``sizes`` and
``strides`` are those of :mod:`hnn_kernels._triton.layout`.
"""

import triton
import triton.language as tl

from .formula import COEFFICIENTS, FIRST_COEFFICIENT, FIRST_STATE, STATES, scalar

# Elements, of 4 or 8 bytes: the portions in which a gradient per neuron takes memory, so that the next is aligned.
SLOT_PORTION = 4
_PORTION = tl.constexpr(SLOT_PORTION)
# Of the L2 cache, what a request to the memory fetches; and how many of those a thread asks for ahead: 96 steps of 16
# bits, so that the threads of a multiprocessor ask for 144 KiB of a train, as csrc/cuda/trains.cuh has it.
SECTOR_BITS = tl.constexpr(256)
ASKED_SECTORS = tl.constexpr(6)
# Triton's interpreter knows no assembly.
_COMPILES = tl.constexpr(not triton.knobs.runtime.interpret)


@triton.jit
def plain(number):
    """Return the number n that ``layout.opaque`` wrote as 4 n + 3."""
    return number >> 2


@triton.jit
def offset_of(m, M, sizes, strides):  # noqa: N803
    """Return the offset of neuron ``m`` in elements; ``strides=None`` is an operand dense in the order of m."""
    if strides is None:
        return m
    else:
        return _strided_offset(m, M, sizes, strides)


@triton.jit
def _strided_offset(m, M, sizes, strides):  # noqa: N803
    # M has 64 bits only where it must, and so does the division, which is slow in 64 bits. Lanes past M may wrap; they
    # are masked.
    rest = m.to(M.dtype)
    offset = tl.zeros_like(m)
    for d in tl.static_range(len(sizes) - 1, 0, -1):
        size = plain(sizes[d])
        offset += (rest % size).to(tl.int64) * plain(strides[d])
        rest = rest // size
    return offset + rest.to(tl.int64) * plain(strides[0])


@triton.jit
def block_step(M, sizes, strides):  # noqa: N803
    """Return the stride between blocks of neurons in an operand of several blocks (taps, or a filter's state)."""
    if strides is None:
        return M.to(tl.int64)
    else:
        return plain(strides[len(sizes)]).to(tl.int64)


@triton.jit
def load_coefficient(coefficient, m, M, mask, sizes, strides, DTYPE: tl.constexpr):  # noqa: N803
    """Load a coefficient in the state dtype: a float where it has no strides, else a value per neuron."""
    if strides is None:
        return scalar(coefficient, DTYPE)
    else:
        return load_state(coefficient, m, M, mask, sizes, strides, DTYPE)


@triton.jit
def load_taps(coefficients, m, M, mask, sizes, strides, TAPS: tl.constexpr, DTYPE: tl.constexpr):  # noqa: N803
    """Load the feedback or the feedforward coefficients of a filter, as a tuple."""
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
    """Load a ``[B, *features]`` tensor, or zeros where there is none."""
    if pointer is None:
        return tl.zeros(m.shape, DTYPE)
    else:
        return tl.load(pointer + offset_of(m, M, sizes, strides), mask=mask, other=0.0).to(DTYPE)


@triton.jit
def load_blocks(pointer, m, M, mask, sizes, strides, COUNT: tl.constexpr, DTYPE: tl.constexpr):  # noqa: N803
    """Load a ``[COUNT, B, *features]`` tensor as a tuple, or zeros where there is none."""
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
    """Load the steps ``start + [0, STEPS)`` of ``pointer`` (at time 0) as a tuple in registers; from T on, any values.

    The loads stand one after another with nothing between, so that all are in flight together: the compiler cannot move
    a load before a store that might alias it. Values keep their dtype, because a conversion would wait for the load.
    The pointer walks, because an address computed from t costs a 64-bit multiplication per element.
    """
    values = ()
    pointer += start * step
    for k in tl.static_range(STEPS):
        values = values + (tl.load(pointer, mask=tl.where(start + k < T, mask, False)),)  # noqa: RUF005
        pointer += step
    return values


@triton.jit
def ask_for(pointer, anywhere, m, start, T, step, mask):  # noqa: N803
    """Ask the memory for the first steps of ``start + [0, T - start)`` of ``pointer`` (at time 0).

    They come as far as the L2 cache, which takes no register: where a kernel has few registers for its loads, the
    compiler issues these late, and each would wait for the memory. Neighbours whose elements share a sector of the
    cache take turns in time. ``anywhere`` is an address that all threads may ask for.
    """
    if _COMPILES:
        TURNS: tl.constexpr = SECTOR_BITS // pointer.dtype.element_ty.primitive_bitwidth  # noqa: N806
        t = start + (m % TURNS).to(tl.int32)
        for _ in range(0, tl.minimum(T - start, ASKED_SECTORS * TURNS), TURNS):
            at = tl.where(mask & (t < T), pointer + t.to(tl.int64) * step, anywhere)
            tl.inline_asm_elementwise(
                "prefetch.global.L2 [$1]; mov.u32 $0, 0;", "=r,l", [at.to(tl.int64)], tl.int32, is_pure=False, pack=1
            )
            t += TURNS


@triton.jit
def store_blocks(pointer, blocks, M, mask):  # noqa: N803
    """Store the blocks one after another, the first at ``pointer``."""
    for i in tl.static_range(len(blocks)):
        tl.store(pointer, blocks[i], mask=mask)
        pointer += M


@triton.jit
def store_slots(pointer, blocks, M, mask):  # noqa: N803
    """Store the gradients of a filter's coefficients per neuron, as ``sums.slot_step`` places them."""
    store_blocks(pointer, blocks, tl.cdiv(M, _PORTION) * _PORTION, mask)


@triton.jit
def zeros(m, COUNT: tl.constexpr, DTYPE: tl.constexpr):  # noqa: N803
    """Return a tuple of ``COUNT`` blocks of zeros."""
    blocks = ()
    for _ in tl.static_range(COUNT):
        blocks = blocks + (tl.zeros(m.shape, DTYPE),)  # noqa: RUF005
    return blocks


# -- a layer's operands: `given` and `kept` are tuples of pointers with the names of _layer.TENSORS and .OUTPUTS -------


@triton.jit
def load_layer(given, m, M, mask, sizes, strides, OPTIONS: tl.constexpr, DTYPE: tl.constexpr):  # noqa: N803
    """Load the coefficients of membrane, synapse and axon, as :mod:`hnn_kernels._triton.formula` takes them."""
    membrane = ()
    for i in tl.static_range(COEFFICIENTS):
        value = load_coefficient(
            given[FIRST_COEFFICIENT + i], m, M, mask, sizes, strides[FIRST_COEFFICIENT + i], DTYPE
        )  # fmt: skip
        membrane = membrane + (value,)  # noqa: RUF005
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
    return membrane, synapse, axon


@triton.jit
def load_start(given, m, M, mask, sizes, strides, SYNAPSE: tl.constexpr, AXON: tl.constexpr, DTYPE: tl.constexpr):  # noqa: N803
    """Load the state before the first step for ``formula.layer_step``; SYNAPSE and AXON are the filters' depths."""
    states = ()
    for i in tl.static_range(STATES):
        value = load_state(given[FIRST_STATE + i], m, M, mask, sizes, strides[FIRST_STATE + i], DTYPE)
        states = states + (value,)  # noqa: RUF005
    return states + (  # noqa: RUF005
        load_blocks(given.synapse_state, m, M, mask, sizes, strides.synapse_state, SYNAPSE, DTYPE),
        load_blocks(given.axon_state, m, M, mask, sizes, strides.axon_state, AXON, DTYPE),
    )


@triton.jit
def save_state(pointer, state, M, mask):  # noqa: N803
    """Store a state in the order of _layer.STATE_OPERANDS, with zeros for the parts that the layer lacks."""
    for i in tl.static_range(STATES):
        tl.store(pointer, state[i], mask=mask)
        pointer += M
    store_blocks(pointer, state[STATES] + state[STATES + 1], M, mask)


@triton.jit
def restore_state(pointer, like, M, mask, OPTIONS: tl.constexpr):  # noqa: N803
    """Load what :func:`save_state` stored; ``like``, a state with the wanted parts, stands in for the others."""
    states = ()
    for i in tl.static_range(STATES):
        if OPTIONS.keeps[i]:  # noqa: SIM108  of constants, which only a block decides while compiling
            states = states + (tl.load(pointer, mask=mask),)  # noqa: RUF005
        else:
            states = states + (like[i],)  # noqa: RUF005
        pointer += M
    synapse = like[STATES]
    axon = like[STATES + 1]
    histories = ()
    for _ in tl.static_range(len(synapse) + len(axon)):
        histories = histories + (tl.load(pointer, mask=mask),)  # noqa: RUF005
        pointer += M
    return states + (histories[: len(synapse)], histories[len(synapse) :])  # noqa: RUF005
