"""The kernels: one program holds a block of neurons in registers and walks through time.

Shapes below: T time steps, M neurons of one step. ``given``, ``gradients``, ``outputs`` and ``incoming`` are tuples of
pointers with the names of ``_layer.TENSORS`` and ``_layer.OUTPUTS``; a pointer that is None is a tensor that is absent.
"""

import triton
import triton.language as tl

from .formula import (
    FILTER,
    NO_MEMBRANE,
    POTENTIAL_MEAN,
    POTENTIAL_NONE,
    POTENTIAL_TRAIN,
    STATES,
    SUBTRACT,
    add_products,
    filter_backward_step,
    layer_step,
    membrane_backward_step,
    of_read_out,
    read_potential,
    scalar,
    state_where,
    where,
)
from .memory import (
    ask_for,
    load_blocks,
    load_layer,
    load_start,
    load_state,
    load_steps,
    offset_of,
    restore_state,
    save_state,
    store_blocks,
    store_slots,
    zeros,
)


@triton.jit(do_not_specialize=["T", "M", "every", "current_step", "out_step", "potential_step"])
def lif_forward_kernel(
    given, outputs, extent, T, M, every, current_step, out_step, potential_step, sizes, strides,  # noqa: N803
    OPTIONS: tl.constexpr, DTYPE: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """Write ``out`` [T, M] (its sum over time, [M], for a count), the potential and the state after the last step.

    They follow from the current [T, M] ([M] for a constant one) and the state before the first step. The state of every
    ``every``-th step goes to the checkpoints.
    """
    m = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = m < M
    current_step = current_step.to(tl.int64)
    out_step = out_step.to(tl.int64)
    potential_step = potential_step.to(tl.int64)
    extent = (scalar(extent[0], DTYPE), scalar(extent[1], DTYPE))
    membrane, synapse, axon = load_layer(given, m, M, mask, sizes, strides, OPTIONS, DTYPE)
    state = load_start(given, m, M, mask, sizes, strides, OPTIONS.synapse_depth, OPTIONS.axon_depth, DTYPE)
    current = given.current + offset_of(m, M, sizes, strides.current)
    if outputs.out is not None:
        out = outputs.out + offset_of(m, M, sizes, strides.out)
    if outputs.potential is not None:
        read_out = outputs.potential + offset_of(m, M, sizes, strides.potential)
    due = every  # the step before which the next checkpoint is taken
    if outputs.checkpoints is not None:
        slot = outputs.checkpoints + m

    count = tl.zeros([BLOCK], DTYPE)
    read = tl.zeros([BLOCK], DTYPE)  # of the potential
    peak = tl.zeros([BLOCK], DTYPE)
    if OPTIONS.constant:
        x = tl.load(current, mask=mask).to(DTYPE)
        for t in range(T):
            if outputs.checkpoints is not None:  # noqa: SIM102
                if t == due:
                    save_state(slot, state, M, mask)
                    slot += OPTIONS.depth * M.to(tl.int64)
                    due += every
            state, y, inside = layer_step(state, x, membrane, synapse, axon, extent, OPTIONS, DTYPE)
            potential, _ = inside
            if OPTIONS.count:
                count += y
            elif outputs.out is not None:
                tl.store(out, y.to(out.dtype.element_ty), mask=mask)
                out += out_step
            if OPTIONS.potential == POTENTIAL_TRAIN:
                tl.store(read_out, potential.to(read_out.dtype.element_ty), mask=mask)
                read_out += potential_step
            else:
                read, peak = read_potential(read, peak, potential, t, t < T, OPTIONS)
    else:
        ahead = load_steps(current, 0, T, current_step, mask, CHUNK)
        for start in range(0, T, CHUNK):
            xs = ahead
            ahead = load_steps(current, start + CHUNK, T, current_step, mask, CHUNK)
            for k in tl.static_range(CHUNK):
                live = start + k < T
                if outputs.checkpoints is not None:  # noqa: SIM102
                    if live & (start + k == due):
                        save_state(slot, state, M, mask)
                        slot += OPTIONS.depth * M.to(tl.int64)
                        due += every
                after, y, inside = layer_step(
                    state, xs[k].to(DTYPE), membrane, synapse, axon, extent, OPTIONS, DTYPE
                )  # fmt: skip
                state = state_where(live, after, state)
                potential, _ = inside
                if OPTIONS.count:
                    count += tl.where(live, y, 0.0)
                elif outputs.out is not None:
                    tl.store(out, y.to(out.dtype.element_ty), mask=tl.where(live, mask, False))
                    out += out_step
                if OPTIONS.potential == POTENTIAL_TRAIN:
                    now = tl.where(live, mask, False)
                    tl.store(read_out, potential.to(read_out.dtype.element_ty), mask=now)
                    read_out += potential_step
                else:
                    read, peak = read_potential(read, peak, potential, start + k, live, OPTIONS)
    if OPTIONS.count:
        tl.store(out, count.to(out.dtype.element_ty), mask=mask)
    kept = offset_of(m, M, sizes, strides.kept)
    if OPTIONS.potential != POTENTIAL_TRAIN and outputs.potential is not None:
        if OPTIONS.potential == POTENTIAL_MEAN:
            steps = tl.zeros([BLOCK], DTYPE) + T
            if DTYPE == tl.float32:  # noqa: SIM300, SIM108  whose quotient is otherwise not rounded to nearest
                read = tl.div_rn(read, steps)
            else:
                read = read / steps
        tl.store(read_out, read.to(read_out.dtype.element_ty), mask=mask)
    if outputs.peak is not None:
        tl.store(outputs.peak + kept, peak, mask=mask)
    v, r, synapse_history, axon_history = state
    if outputs.v is not None:
        tl.store(outputs.v + kept, v, mask=mask)
        tl.store(outputs.r + kept, r, mask=mask)
    if outputs.synapse_state is not None:
        store_blocks(outputs.synapse_state + kept, synapse_history, M, mask)
    if outputs.axon_state is not None:
        store_blocks(outputs.axon_state + kept, axon_history, M, mask)


@triton.jit(
    do_not_specialize=["T", "M", "every", "grad_out_step", "potential_step", "current_step", "grad_current_step"]
)
def lif_backward_kernel(
    incoming, given, gradients, workspace, extent,
    T, M, every, grad_out_step, potential_step, current_step, grad_current_step, sizes, strides,  # noqa: N803
    OPTIONS: tl.constexpr, DTYPE: tl.constexpr, SEGMENT: tl.constexpr, BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """Write the gradients whose pointers are not None.

    Time is cut into windows, one for the start and one for each of forward's checkpoints. A window is cut into segments
    of SEGMENT steps. Where it has more than one, a sweep stores the state at the start of every segment in
    ``workspace`` [segments, slots, M]. Then the segments are taken backwards: the potentials of one are recomputed into
    registers, and the adjoints run through them. The gradients of the coefficients are per neuron, [M] or [taps, M].
    """
    m = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = m < M
    grad_out_step = grad_out_step.to(tl.int64)
    potential_step = potential_step.to(tl.int64)
    current_step = current_step.to(tl.int64)
    grad_current_step = grad_current_step.to(tl.int64)
    extent = (scalar(extent[0], DTYPE), scalar(extent[1], DTYPE))
    membrane, synapse, axon = load_layer(given, m, M, mask, sizes, strides, OPTIONS, DTYPE)
    # The axon is linear: only the gradients of its coefficients need the values that went through it.
    if gradients.axon_feedback is not None or gradients.axon_feedforward is not None:
        AXON_DEPTH: tl.constexpr = OPTIONS.axon_depth  # noqa: N806
        recomputed_axon = axon
    else:
        AXON_DEPTH: tl.constexpr = 0  # noqa: N806
        recomputed_axon = ((), ())
    slot_step = (STATES + OPTIONS.synapse_depth + AXON_DEPTH) * M.to(tl.int64)
    current = given.current + offset_of(m, M, sizes, strides.current)
    x = tl.zeros([BLOCK], DTYPE)
    grad = tl.zeros([BLOCK], DTYPE)
    grad_v = tl.zeros([BLOCK], DTYPE)  # of the potential
    peak = tl.zeros([BLOCK], DTYPE)
    if OPTIONS.constant:
        x = tl.load(current, mask=mask).to(DTYPE)
    if incoming.out is not None:
        grad_out = incoming.out + offset_of(m, M, sizes, strides.out)
        if OPTIONS.count:
            grad = tl.load(grad_out, mask=mask).to(DTYPE)
    if incoming.potential is not None:
        grad_potential = incoming.potential + offset_of(m, M, sizes, strides.potential)
        if OPTIONS.potential != POTENTIAL_TRAIN:
            grad_v = tl.load(grad_potential, mask=mask).to(DTYPE)
    if incoming.peak is not None:
        peak = tl.load(incoming.peak + offset_of(m, M, sizes, strides.kept), mask=mask)
    if gradients.current is not None:
        grad_current = gradients.current + offset_of(m, M, sizes, strides.grad_current)

    carried_v = load_state(incoming.v, m, M, mask, sizes, strides.grad_v, DTYPE)
    carried_r = load_state(incoming.r, m, M, mask, sizes, strides.grad_r, DTYPE)
    carried_synapse = load_blocks(
        incoming.synapse_state, m, M, mask, sizes, strides.grad_synapse_state, OPTIONS.synapse_depth, DTYPE
    )  # fmt: skip
    carried_axon = load_blocks(
        incoming.axon_state, m, M, mask, sizes, strides.grad_axon_state, OPTIONS.axon_depth, DTYPE
    )
    total_current = tl.zeros([BLOCK], DTYPE)
    total_decay = tl.zeros([BLOCK], DTYPE)
    total_reset_decay = tl.zeros([BLOCK], DTYPE)
    total_threshold = tl.zeros([BLOCK], DTYPE)
    total_reset_potential = tl.zeros([BLOCK], DTYPE)
    total_synapse_a = zeros(m, OPTIONS.synapse[0] if gradients.synapse_feedback is not None else 0, DTYPE)
    total_synapse_b = zeros(m, OPTIONS.synapse[1] if gradients.synapse_feedforward is not None else 0, DTYPE)
    total_axon_a = zeros(m, OPTIONS.axon[0] if gradients.axon_feedback is not None else 0, DTYPE)
    total_axon_b = zeros(m, OPTIONS.axon[1] if gradients.axon_feedforward is not None else 0, DTYPE)

    LEARNS: tl.constexpr = (  # noqa: N806
        len(total_synapse_a) + len(total_synapse_b) + len(total_axon_a) + len(total_axon_b) > 0
        or gradients.decay is not None
        or gradients.reset_decay is not None
        or gradients.threshold is not None
        or gradients.reset_potential is not None
    )
    # The usual layer has enough loads in flight, and a filter alone that learns nothing does not read the current. Any
    # other leaves the compiler too few registers to issue its loads early.
    USUAL: tl.constexpr = (  # noqa: N806
        OPTIONS.reset == FILTER
        and OPTIONS.synapse_depth == 0
        and OPTIONS.axon[0] <= 2
        and OPTIONS.axon[1] <= 1
        and (OPTIONS.axon_depth == 0 or OPTIONS.potential == POTENTIAL_NONE)
        and not OPTIONS.smooth
    )
    ASKS: tl.constexpr = LEARNS or not (USUAL or OPTIONS.reset == NO_MEMBRANE)  # noqa: N806
    # Without the usual layer's room, the gradients are loaded behind the recomputed steps. Loaded before these, they
    # would take registers that the steps need: the compiler would issue them one by one, each where its step wants it.
    LATE: tl.constexpr = ASKS and not (LEARNS or OPTIONS.smooth)  # noqa: N806
    windows = 1 if incoming.checkpoints is None else tl.cdiv(T, every)
    for turn in range(windows):
        if incoming.checkpoints is None:
            first = 0
            end = T
            start_state = load_start(given, m, M, mask, sizes, strides, OPTIONS.synapse_depth, AXON_DEPTH, DTYPE)
        else:
            window = windows - 1 - turn
            first = window * every
            end = tl.minimum(first + every, T)
            here = tl.where(window == 0, mask, False)
            start_state = load_start(given, m, M, here, sizes, strides, OPTIONS.synapse_depth, AXON_DEPTH, DTYPE)
            later = tl.where(window > 0, mask, False)
            checkpoint = incoming.checkpoints + m + (window - 1) * (OPTIONS.depth * M.to(tl.int64))
            saved = restore_state(checkpoint, start_state, M, later, OPTIONS)
            start_state = state_where(window > 0, saved, start_state)

        if ASKS:
            if not OPTIONS.constant:
                ask_for(current, given.current, m, first, end, current_step, mask)
            if not OPTIONS.count and incoming.out is not None:
                ask_for(grad_out, incoming.out, m, first, end, grad_out_step, mask)
            if OPTIONS.potential == POTENTIAL_TRAIN and incoming.potential is not None:
                ask_for(grad_potential, incoming.potential, m, first, end, potential_step, mask)
        segments = tl.cdiv(end - first, SEGMENT)
        if workspace is not None:
            state = start_state
            slot = workspace + m
            for s in range(segments - 1):
                save_state(slot, state, M, mask)
                slot += slot_step
                if not OPTIONS.constant:
                    xs = load_steps(current, first + s * SEGMENT, end, current_step, mask, SEGMENT)
                for k in tl.static_range(SEGMENT):
                    if not OPTIONS.constant:
                        x = xs[k].to(DTYPE)
                    state, _, _ = layer_step(
                        state, x, membrane, synapse, recomputed_axon, extent, OPTIONS, DTYPE
                    )  # fmt: skip
            start_state = state

        if gradients.current is not None and not OPTIONS.constant:
            target = grad_current + (first + segments * SEGMENT) * grad_current_step
        for i in range(segments):
            start = first + (segments - 1 - i) * SEGMENT
            if not OPTIONS.constant:
                xs = load_steps(current, start, end, current_step, mask, SEGMENT)
            if not LATE:
                if not OPTIONS.count and incoming.out is not None:
                    grads = load_steps(grad_out, start, end, grad_out_step, mask, SEGMENT)
                if OPTIONS.potential == POTENTIAL_TRAIN and incoming.potential is not None:
                    grad_vs = load_steps(grad_potential, start, end, potential_step, mask, SEGMENT)
            # For each step, the state before it and its potential and spike. The compiler keeps only those read below.
            states = (start_state,)
            inside = ()
            for k in tl.static_range(SEGMENT):
                if not OPTIONS.constant:
                    x = xs[k].to(DTYPE)
                after, _, step = layer_step(
                    states[k], x, membrane, synapse, recomputed_axon, extent, OPTIONS, DTYPE
                )  # fmt: skip
                states = states + (after,)  # noqa: RUF005
                inside = inside + (step,)  # noqa: RUF005
            if workspace is not None:
                # The start of the next turn (the last one has none). No barrier: a thread reads its own stores.
                slot -= slot_step
                earlier = tl.where(start > first, mask, False)
                start_state = restore_state(slot, start_state, M, earlier, OPTIONS)
            if LATE:
                if not OPTIONS.count and incoming.out is not None:
                    grads = load_steps(grad_out, start, end, grad_out_step, mask, SEGMENT)
                if OPTIONS.potential == POTENTIAL_TRAIN and incoming.potential is not None:
                    grad_vs = load_steps(grad_potential, start, end, potential_step, mask, SEGMENT)

            for k in tl.static_range(SEGMENT - 1, -1, -1):
                live = start + k < end
                v, r, synapse_history, axon_history = states[k]
                potential, spike = inside[k]
                if not OPTIONS.constant:
                    x = xs[k].to(DTYPE)
                if not OPTIONS.count and incoming.out is not None:
                    grad = grads[k].to(DTYPE)
                if OPTIONS.potential == POTENTIAL_TRAIN and incoming.potential is not None:
                    grad_v = grad_vs[k].to(DTYPE)

                grad_y, grad_spike, next_axon = filter_backward_step(carried_axon, grad, axon)
                total_axon_a = add_products(total_axon_a, grad_y, axon_history, live)
                if len(total_axon_b) > 0:
                    past = (spike,) + axon_history[OPTIONS.axon[0] :]  # noqa: RUF005
                    total_axon_b = add_products(total_axon_b, grad_y, past, live)

                adjoint, through_spike, next_v, next_r = membrane_backward_step(
                    carried_v, carried_r, grad_spike, of_read_out(grad_v, peak, start + k, T, OPTIONS), potential,
                    spike, membrane, extent, OPTIONS,
                )  # fmt: skip
                # Steps from T on may hold anything, infinities included: they are selected away, not multiplied.
                if gradients.decay is not None:
                    total_decay += tl.where(live, adjoint * v, 0.0)
                if gradients.reset_decay is not None:
                    total_reset_decay += tl.where(live, carried_r * r, 0.0)
                if gradients.threshold is not None:
                    into_threshold = through_spike
                    if OPTIONS.reset == FILTER:
                        into_threshold = adjoint * r + through_spike
                    elif OPTIONS.reset == SUBTRACT:
                        into_threshold = carried_v * spike + through_spike
                    total_threshold -= tl.where(live, into_threshold, 0.0)
                if gradients.reset_potential is not None:
                    total_reset_potential += tl.where(live, carried_v * spike, 0.0)

                grad_y, grad_x, next_synapse = filter_backward_step(carried_synapse, adjoint, synapse)
                total_synapse_a = add_products(total_synapse_a, grad_y, synapse_history, live)
                if len(total_synapse_b) > 0:
                    past = (x,) + synapse_history[OPTIONS.synapse[0] :]  # noqa: RUF005
                    total_synapse_b = add_products(total_synapse_b, grad_y, past, live)

                if gradients.current is not None:
                    if OPTIONS.constant:
                        total_current += tl.where(live, grad_x, 0.0)
                    else:
                        target -= grad_current_step
                        tl.store(target, grad_x.to(target.dtype.element_ty), mask=tl.where(live, mask, False))
                carried_v = tl.where(live, next_v, carried_v)
                carried_r = tl.where(live, next_r, carried_r)
                carried_synapse = where(live, next_synapse, carried_synapse)
                carried_axon = where(live, next_axon, carried_axon)

    if OPTIONS.constant and gradients.current is not None:
        tl.store(grad_current, total_current.to(grad_current.dtype.element_ty), mask=mask)
    kept = offset_of(m, M, sizes, strides.kept)
    if gradients.decay is not None:
        tl.store(gradients.decay + kept, total_decay, mask=mask)
    if gradients.reset_decay is not None:
        tl.store(gradients.reset_decay + kept, total_reset_decay, mask=mask)
    if gradients.threshold is not None:
        tl.store(gradients.threshold + kept, total_threshold, mask=mask)
    if gradients.reset_potential is not None:
        tl.store(gradients.reset_potential + kept, total_reset_potential, mask=mask)
    if gradients.v is not None:
        tl.store(gradients.v + kept, carried_v, mask=mask)
    if gradients.r is not None:
        tl.store(gradients.r + kept, carried_r, mask=mask)
    if gradients.synapse_feedback is not None:
        store_slots(gradients.synapse_feedback + kept, total_synapse_a, M, mask)
    if gradients.synapse_feedforward is not None:
        store_slots(gradients.synapse_feedforward + kept, total_synapse_b, M, mask)
    if gradients.synapse_state is not None:
        store_blocks(gradients.synapse_state + kept, carried_synapse, M, mask)
    if gradients.axon_feedback is not None:
        store_slots(gradients.axon_feedback + kept, total_axon_a, M, mask)
    if gradients.axon_feedforward is not None:
        store_slots(gradients.axon_feedforward + kept, total_axon_b, M, mask)
    if gradients.axon_state is not None:
        store_blocks(gradients.axon_state + kept, carried_axon, M, mask)
