"""The LIF kernels: one program holds a block of neurons in registers and walks through time.

Shapes below: T time steps, M neurons of one step (batch times features), numbered in the order of their memory.
"""

import triton
import triton.language as tl

from .formula import backward_step, forward_step, scalar


@triton.jit
def offset_of(m, M, sizes, strides):  # noqa: N803
    """The element offset of neuron ``m`` in an operand; ``strides=None`` is an operand dense in the order of m."""
    if strides is None:
        return m
    else:
        return _strided_offset(m, M, sizes, strides)


@triton.jit
def _strided_offset(m, M, sizes, strides):  # noqa: N803
    # launch.opaque wrote every number n as 4 n + 3. M has 64 bits only where it must, and so has the division, which
    # is dear in 64; the lanes past M, which may wrap, are masked.
    rest = m.to(M.dtype)
    offset = tl.zeros_like(m)
    for d in tl.static_range(len(sizes) - 1, 0, -1):
        size = sizes[d] >> 2
        offset += (rest % size).to(tl.int64) * (strides[d] >> 2)
        rest = rest // size
    return offset + rest.to(tl.int64) * (strides[0] >> 2)


@triton.jit
def load_coefficient(coefficient, m, M, mask, sizes, strides, DTYPE: tl.constexpr):  # noqa: N803
    """A coefficient in the state dtype: a float where it has no strides, else a value per neuron."""
    if strides is None:
        return scalar(coefficient, DTYPE)
    else:
        return tl.load(coefficient + offset_of(m, M, sizes, strides), mask=mask, other=0.0).to(DTYPE)


@triton.jit
def load_state(pointer, m, M, mask, sizes, strides, DTYPE: tl.constexpr):  # noqa: N803
    """A ``[B, *features]`` tensor, or zeros where there is none."""
    if pointer is None:
        return tl.zeros(m.shape, DTYPE)
    else:
        return tl.load(pointer + offset_of(m, M, sizes, strides), mask=mask, other=0.0).to(DTYPE)


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


@triton.jit(
    do_not_specialize=["T", "M", "current_step", "out_step", "decay", "reset_decay", "threshold", "inverse_width"]
)
def lif_forward_kernel(
    current, out, v_in, r_in, v_out, r_out,
    decay, reset_decay, threshold, inverse_width,
    T, M, current_step, out_step, sizes, strides,  # noqa: N803
    SURROGATE: tl.constexpr, CONSTANT: tl.constexpr, COUNT: tl.constexpr, SMOOTH: tl.constexpr,  # noqa: N803
    DTYPE: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """``out`` [T, M] (its sum over time [M] for COUNT) and the state after the last step, from current [T, M]
    ([M] for CONSTANT) and the state before the first.
    """
    m = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = m < M
    current_step = current_step.to(tl.int64)
    out_step = out_step.to(tl.int64)
    decay = load_coefficient(decay, m, M, mask, sizes, strides.decay, DTYPE)
    reset_decay = load_coefficient(reset_decay, m, M, mask, sizes, strides.reset_decay, DTYPE)
    threshold = load_coefficient(threshold, m, M, mask, sizes, strides.threshold, DTYPE)
    inverse_width = scalar(inverse_width, DTYPE)
    v = load_state(v_in, m, M, mask, sizes, strides.v, DTYPE)
    r = load_state(r_in, m, M, mask, sizes, strides.r, DTYPE)
    current += offset_of(m, M, sizes, strides.current)
    out += offset_of(m, M, sizes, strides.out)

    count = tl.zeros([BLOCK], DTYPE)
    if CONSTANT:
        x = tl.load(current, mask=mask).to(DTYPE)
        for _ in range(T):
            v, r, spike = forward_step(v, r, x, decay, reset_decay, threshold, inverse_width, SURROGATE, SMOOTH, DTYPE)
            if COUNT:
                count += spike
            else:
                tl.store(out, spike.to(out.dtype.element_ty), mask=mask)
                out += out_step
    else:
        ahead = load_steps(current, 0, T, current_step, mask, CHUNK)
        for start in range(0, T, CHUNK):
            xs = ahead
            ahead = load_steps(current, start + CHUNK, T, current_step, mask, CHUNK)
            for k in tl.static_range(CHUNK):
                live = start + k < T
                next_v, next_r, spike = forward_step(
                    v, r, xs[k].to(DTYPE), decay, reset_decay, threshold, inverse_width, SURROGATE, SMOOTH, DTYPE
                )
                v = tl.where(live, next_v, v)
                r = tl.where(live, next_r, r)
                if COUNT:
                    count += tl.where(live, spike, 0.0)
                else:
                    tl.store(out, spike.to(out.dtype.element_ty), mask=tl.where(live, mask, False))
                    out += out_step
    if COUNT:
        tl.store(out, count.to(out.dtype.element_ty), mask=mask)
    state = offset_of(m, M, sizes, strides.state)
    tl.store(v_out + state, v, mask=mask)
    tl.store(r_out + state, r, mask=mask)


@triton.jit(
    do_not_specialize=[
        "T", "M", "grad_out_step", "current_step", "grad_current_step", "decay", "reset_decay", "threshold",
        "inverse_width",
    ]
)  # fmt: skip
def lif_backward_kernel(
    grad_out, grad_v, grad_r, current, v_in, r_in,
    grad_current, grad_v_in, grad_r_in, grad_decay, grad_reset_decay, grad_threshold, workspace,
    decay, reset_decay, threshold, inverse_width,
    T, M, grad_out_step, current_step, grad_current_step, sizes, strides,  # noqa: N803
    SURROGATE: tl.constexpr, CONSTANT: tl.constexpr, COUNT: tl.constexpr, SMOOTH: tl.constexpr,  # noqa: N803
    RESET_GRAD: tl.constexpr, DTYPE: tl.constexpr, SEGMENT: tl.constexpr, BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """The gradients that have somewhere to go: a pointer that is None is a gradient that is absent or not wanted.

    Time is cut into segments of SEGMENT steps. Where there is more than one, a first sweep stores the state at every
    segment's start in ``workspace`` [segments, 2, M]. The segments are then taken backwards: the potentials of one are
    recomputed into registers, and the adjoints run through them. The gradients of the coefficients are per neuron, [M].
    """
    m = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = m < M
    grad_out_step = grad_out_step.to(tl.int64)
    current_step = current_step.to(tl.int64)
    grad_current_step = grad_current_step.to(tl.int64)
    slot_step = 2 * M.to(tl.int64)
    decay = load_coefficient(decay, m, M, mask, sizes, strides.decay, DTYPE)
    reset_decay = load_coefficient(reset_decay, m, M, mask, sizes, strides.reset_decay, DTYPE)
    threshold = load_coefficient(threshold, m, M, mask, sizes, strides.threshold, DTYPE)
    inverse_width = scalar(inverse_width, DTYPE)
    v_start = load_state(v_in, m, M, mask, sizes, strides.v, DTYPE)
    r_start = load_state(r_in, m, M, mask, sizes, strides.r, DTYPE)
    current += offset_of(m, M, sizes, strides.current)
    x = tl.zeros([BLOCK], DTYPE)
    grad = tl.zeros([BLOCK], DTYPE)
    if CONSTANT:
        x = tl.load(current, mask=mask).to(DTYPE)
    if grad_out is not None:
        grad_out += offset_of(m, M, sizes, strides.out)
        if COUNT:
            grad = tl.load(grad_out, mask=mask).to(DTYPE)

    segments = tl.cdiv(T, SEGMENT)
    if workspace is not None:
        v = v_start
        r = r_start
        slot = workspace + m
        for s in range(segments - 1):
            tl.store(slot, v, mask=mask)
            tl.store(slot + M, r, mask=mask)
            slot += slot_step
            if not CONSTANT:
                xs = load_steps(current, s * SEGMENT, T, current_step, mask, SEGMENT)
            for k in tl.static_range(SEGMENT):
                if not CONSTANT:
                    x = xs[k].to(DTYPE)
                v, r, _ = forward_step(v, r, x, decay, reset_decay, threshold, inverse_width, SURROGATE, SMOOTH, DTYPE)
        v_start = v
        r_start = r

    carried_v = load_state(grad_v, m, M, mask, sizes, strides.grad_v, DTYPE)
    carried_r = load_state(grad_r, m, M, mask, sizes, strides.grad_r, DTYPE)
    total_current = tl.zeros([BLOCK], DTYPE)
    total_decay = tl.zeros([BLOCK], DTYPE)
    total_reset_decay = tl.zeros([BLOCK], DTYPE)
    total_threshold = tl.zeros([BLOCK], DTYPE)
    if grad_current is not None:
        grad_current += offset_of(m, M, sizes, strides.grad_current)
        if not CONSTANT:
            target = grad_current + segments * SEGMENT * grad_current_step
    for i in range(segments):
        start = (segments - 1 - i) * SEGMENT
        if not CONSTANT:
            xs = load_steps(current, start, T, current_step, mask, SEGMENT)
        if not COUNT and grad_out is not None:
            grads = load_steps(grad_out, start, T, grad_out_step, mask, SEGMENT)
        vs = (v_start,)  # V[t-1] ahead of V[t]
        rs = ()
        r = r_start
        for k in tl.static_range(SEGMENT):
            if not CONSTANT:
                x = xs[k].to(DTYPE)
            if grad_threshold is not None or grad_reset_decay is not None:
                rs = rs + (r,)  # noqa: RUF005
            v, r, _ = forward_step(vs[k], r, x, decay, reset_decay, threshold, inverse_width, SURROGATE, SMOOTH, DTYPE)
            vs = vs + (v,)  # noqa: RUF005
        if workspace is not None:
            # What the next turn starts from (nothing, in the last). No barrier: a thread reads what it wrote itself.
            slot -= slot_step
            earlier = tl.where(start > 0, mask, False)
            v_start = tl.load(slot, mask=earlier)
            r_start = tl.load(slot + M, mask=earlier)

        for k in tl.static_range(SEGMENT - 1, -1, -1):
            live = start + k < T
            if not COUNT and grad_out is not None:
                grad = grads[k].to(DTYPE)
            adjoint, through_spike, next_v, next_r = backward_step(
                carried_v, carried_r, grad, vs[k + 1], decay, reset_decay, threshold, inverse_width,
                SURROGATE, RESET_GRAD,
            )  # fmt: skip
            # Steps from T on may hold anything, infinities included: they are selected away, not multiplied.
            if grad_decay is not None:
                total_decay += tl.where(live, adjoint * vs[k], 0.0)
            if grad_reset_decay is not None:
                total_reset_decay += tl.where(live, carried_r * rs[k], 0.0)
            if grad_threshold is not None:
                total_threshold -= tl.where(live, adjoint * rs[k] + through_spike, 0.0)
            if grad_current is not None:
                if CONSTANT:
                    total_current += tl.where(live, adjoint, 0.0)
                else:
                    target -= grad_current_step
                    tl.store(target, adjoint.to(grad_current.dtype.element_ty), mask=tl.where(live, mask, False))
            carried_v = tl.where(live, next_v, carried_v)
            carried_r = tl.where(live, next_r, carried_r)

    state = offset_of(m, M, sizes, strides.state)
    if CONSTANT and grad_current is not None:
        tl.store(grad_current, total_current.to(grad_current.dtype.element_ty), mask=mask)
    if grad_decay is not None:
        tl.store(grad_decay + state, total_decay, mask=mask)
    if grad_reset_decay is not None:
        tl.store(grad_reset_decay + state, total_reset_decay, mask=mask)
    if grad_threshold is not None:
        tl.store(grad_threshold + state, total_threshold, mask=mask)
    if grad_v_in is not None:
        tl.store(grad_v_in + state, carried_v, mask=mask)
    if grad_r_in is not None:
        tl.store(grad_r_in + state, carried_r, mask=mask)
