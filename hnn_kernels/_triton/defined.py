"""The kernels of defined neurons: the loops of ``lif.py`` around a step that is given.

``HOIST``, ``STEP``, ``ADJOINT`` and ``CHAIN`` are device functions, which ``_define/triton_source.py`` writes from a
definition. Tuples of pointers have one for each coefficient, state or output; one that is None is a tensor that is
absent, and an empty tuple is None. ``strides`` is a :class:`hnn_kernels._define.gpu.Places`.
"""

from dataclasses import dataclass

import triton
import triton.language as tl

from .formula import where
from .memory import load_coefficient, load_state, load_steps, offset_of, plain, store_blocks, zeros


@dataclass(frozen=True)
class Form:
    """The constants of a kernel: how many coefficients, states, outputs, and sums over time its neuron has."""

    coefficients: int
    states: int
    outputs: int
    sums: int
    constant: bool


@triton.jit
def _load_coefficients(given, m, M, mask, sizes, strides, COUNT: tl.constexpr, DTYPE: tl.constexpr):  # noqa: N803
    values = ()
    for i in tl.static_range(COUNT):
        values = values + (load_coefficient(given[i], m, M, mask, sizes, strides[i], DTYPE),)  # noqa: RUF005
    return values


@triton.jit
def _load_states(given, m, M, mask, sizes, strides, COUNT: tl.constexpr, DTYPE: tl.constexpr):  # noqa: N803
    values = ()
    for i in tl.static_range(COUNT):
        values = values + (load_state(given[i], m, M, mask, sizes, strides[i], DTYPE),)  # noqa: RUF005
    return values


@triton.jit
def _restore(pointer, M, mask, COUNT: tl.constexpr):  # noqa: N803
    """Load what ``store_blocks`` stored."""
    values = ()
    for _ in tl.static_range(COUNT):
        values = values + (tl.load(pointer, mask=mask, other=0.0),)  # noqa: RUF005
        pointer += M
    return values


@triton.jit
def _whole(values, m):
    """Return a value for each neuron, also of values that all neurons share."""
    found = ()
    for i in tl.static_range(len(values)):
        found = found + (tl.broadcast_to(values[i], m.shape),)  # noqa: RUF005
    return found


@triton.jit
def _load_grads(grads, start, end, steps, m, M, mask, sizes, strides, OUTPUTS: tl.constexpr, STEPS: tl.constexpr):  # noqa: N803
    """Load the gradients of the outputs at the steps ``start + [0, STEPS)``: a tuple for each output that has one."""
    found = ()
    for j in tl.static_range(OUTPUTS):
        if grads[j] is None:
            found = found + ((),)  # noqa: RUF005
        else:
            pointer = grads[j] + offset_of(m, M, sizes, strides[j])
            found = found + (load_steps(pointer, start, end, plain(steps[j]).to(tl.int64), mask, STEPS),)  # noqa: RUF005
    return found


@triton.jit
def _at(trains, k: tl.constexpr, m, DTYPE: tl.constexpr):  # noqa: N803
    """Return the gradients at the step ``k`` of what :func:`_load_grads` returned."""
    found = ()
    for j in tl.static_range(len(trains)):
        if len(trains[j]) == 0:  # noqa: SIM108
            found = found + (tl.zeros(m.shape, DTYPE),)  # noqa: RUF005
        else:
            found = found + (trains[j][k].to(DTYPE),)  # noqa: RUF005
    return found


@triton.jit
def _add(sums, values, live):
    # Steps from T on may hold anything, infinities included: they are selected away, not multiplied.
    after = ()
    for i in tl.static_range(len(sums)):
        after = after + (sums[i] + tl.where(live, values[i], 0.0),)  # noqa: RUF005
    return after


@triton.jit
def _step(x, state, h, m, STEP: tl.constexpr):  # noqa: N803
    outputs, after = STEP(x, state, h)
    return outputs, _whole(after, m)


@triton.jit(do_not_specialize=["T", "M", "every", "x_step", "out_step"])
def neuron_forward_kernel(
    x, coefficients, states, outputs, last, checkpoints, T, M, every, x_step, out_step, sizes, strides,  # noqa: N803
    FORM: tl.constexpr, HOIST: tl.constexpr, STEP: tl.constexpr,  # noqa: N803
    DTYPE: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """Write the outputs [T, M] of the input [T, M] ([M] for a constant one), and the states after the last step.

    The states of every ``every``-th step go to the checkpoints.
    """
    m = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = m < M
    x_step = x_step.to(tl.int64)
    out_step = out_step.to(tl.int64)
    h = HOIST(_load_coefficients(coefficients, m, M, mask, sizes, strides.coefficients, FORM.coefficients, DTYPE))
    state = _load_states(states, m, M, mask, sizes, strides.states, FORM.states, DTYPE)
    x += offset_of(m, M, sizes, strides.x)
    at = offset_of(m, M, sizes, strides.out)
    due = every  # the step before which the next checkpoint is taken
    if checkpoints is not None:
        slot = checkpoints + m

    if FORM.constant:
        current = tl.load(x, mask=mask).to(DTYPE)
        for t in range(T):
            if checkpoints is not None:  # noqa: SIM102
                if t == due:
                    store_blocks(slot, state, M, mask)
                    slot += FORM.states * M.to(tl.int64)
                    due += every
            ys, state = _step(current, state, h, m, STEP)
            for i in tl.static_range(len(outputs)):
                tl.store(outputs[i] + at, ys[i].to(outputs[i].dtype.element_ty), mask=mask)
            at += out_step
    else:
        ahead = load_steps(x, 0, T, x_step, mask, CHUNK)
        for start in range(0, T, CHUNK):
            xs = ahead
            ahead = load_steps(x, start + CHUNK, T, x_step, mask, CHUNK)
            for k in tl.static_range(CHUNK):
                live = start + k < T
                if checkpoints is not None:  # noqa: SIM102
                    if live & (start + k == due):
                        store_blocks(slot, state, M, mask)
                        slot += FORM.states * M.to(tl.int64)
                        due += every
                ys, after = _step(xs[k].to(DTYPE), state, h, m, STEP)
                state = where(live, after, state)
                for i in tl.static_range(len(outputs)):
                    tl.store(
                        outputs[i] + at, ys[i].to(outputs[i].dtype.element_ty), mask=tl.where(live, mask, False)
                    )  # fmt: skip
                at += out_step
    if last is not None:
        kept = offset_of(m, M, sizes, strides.kept)
        for i in tl.static_range(len(state)):
            tl.store(last[i] + kept, state[i], mask=mask)


@triton.jit(do_not_specialize=["T", "M", "every", "x_step", "grad_x_step"])
def neuron_backward_kernel(
    x, coefficients, states, checkpoints, workspace, grads, grad_last, grad_x, grad_coefficients, grad_states,
    T, M, every, x_step, grad_x_step, grad_steps, sizes, strides,  # noqa: N803
    FORM: tl.constexpr, HOIST: tl.constexpr, STEP: tl.constexpr, ADJOINT: tl.constexpr, CHAIN: tl.constexpr,  # noqa: N803
    DTYPE: tl.constexpr, SEGMENT: tl.constexpr, BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """Write the gradients whose pointers are not None; those of coefficients are per neuron, [M].

    Windows, segments and the ``workspace`` [segments, states, M] are those of ``lif_backward_kernel``. In a segment the
    states before each step are computed again, into registers; what else the adjoint reads of a step follows from them.
    """
    m = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = m < M
    x_step = x_step.to(tl.int64)
    grad_x_step = grad_x_step.to(tl.int64)
    given = _load_coefficients(coefficients, m, M, mask, sizes, strides.coefficients, FORM.coefficients, DTYPE)
    h = HOIST(given)
    x += offset_of(m, M, sizes, strides.x)
    current = tl.zeros([BLOCK], DTYPE)
    if FORM.constant:
        current = tl.load(x, mask=mask).to(DTYPE)
    if grad_x is not None:
        grad_x += offset_of(m, M, sizes, strides.grad_x)
    carried = _load_states(grad_last, m, M, mask, sizes, strides.grad_last, FORM.states, DTYPE)
    sums = zeros(m, FORM.sums, DTYPE)
    total = tl.zeros([BLOCK], DTYPE)
    slot_step = FORM.states * M.to(tl.int64)

    windows = 1 if checkpoints is None else tl.cdiv(T, every)
    for turn in range(windows):
        if checkpoints is None:
            first = 0
            end = T
            start_state = _load_states(states, m, M, mask, sizes, strides.states, FORM.states, DTYPE)
        else:
            window = windows - 1 - turn
            first = window * every
            end = tl.minimum(first + every, T)
            here = tl.where(window == 0, mask, False)
            later = tl.where(window > 0, mask, False)
            given_state = _load_states(states, m, M, here, sizes, strides.states, FORM.states, DTYPE)
            saved = _restore(checkpoints + m + (window - 1) * slot_step, M, later, FORM.states)
            start_state = where(window > 0, saved, given_state)

        segments = tl.cdiv(end - first, SEGMENT)
        if workspace is not None:
            state = start_state
            slot = workspace + m
            for s in range(segments - 1):
                store_blocks(slot, state, M, mask)
                slot += slot_step
                if not FORM.constant:
                    xs = load_steps(x, first + s * SEGMENT, end, x_step, mask, SEGMENT)
                for k in tl.static_range(SEGMENT):
                    if not FORM.constant:
                        current = xs[k].to(DTYPE)
                    _, state = _step(current, state, h, m, STEP)
            start_state = state

        if grad_x is not None and not FORM.constant:
            target = grad_x + (first + segments * SEGMENT) * grad_x_step
        for i in range(segments):
            start = first + (segments - 1 - i) * SEGMENT
            if not FORM.constant:
                xs = load_steps(x, start, end, x_step, mask, SEGMENT)
            trains = _load_grads(
                grads, start, end, grad_steps, m, M, mask, sizes, strides.grads, FORM.outputs, SEGMENT
            )  # fmt: skip
            before = (start_state,)
            for k in tl.static_range(SEGMENT - 1):
                if not FORM.constant:
                    current = xs[k].to(DTYPE)
                _, after = _step(current, before[k], h, m, STEP)
                before = before + (after,)  # noqa: RUF005
            if workspace is not None:
                # The start of the next turn (the last one has none). No barrier: a thread reads its own stores.
                slot -= slot_step
                start_state = _restore(slot, M, tl.where(start > first, mask, False), FORM.states)

            for k in tl.static_range(SEGMENT - 1, -1, -1):
                live = start + k < end
                if not FORM.constant:
                    current = xs[k].to(DTYPE)
                into_x, into_states, parts = ADJOINT(current, before[k], h, _at(trains, k, m, DTYPE), carried)
                carried = where(live, _whole(into_states, m), carried)
                sums = _add(sums, parts, live)
                if grad_x is not None:
                    if FORM.constant:
                        total += tl.where(live, into_x, 0.0)
                    else:
                        target -= grad_x_step
                        tl.store(
                            target, tl.broadcast_to(into_x, m.shape).to(target.dtype.element_ty),
                            mask=tl.where(live, mask, False),
                        )  # fmt: skip

    if FORM.constant and grad_x is not None:
        tl.store(grad_x, total.to(grad_x.dtype.element_ty), mask=mask)
    kept = offset_of(m, M, sizes, strides.kept)
    for i in tl.static_range(len(carried)):
        if grad_states[i] is not None:
            tl.store(grad_states[i] + kept, carried[i], mask=mask)
    if grad_coefficients is not None:
        found = _whole(CHAIN(given, sums), m)
        for i in tl.static_range(len(found)):
            if grad_coefficients[i] is not None:
                tl.store(grad_coefficients[i] + kept, found[i], mask=mask)
