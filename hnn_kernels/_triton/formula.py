"""One time step of a layer, forward and backward, as device functions: the mirror of ``csrc/neuron.h``.

The order of the operations is that of :mod:`hnn_kernels.reference`, and the launches forbid contraction into
multiply-adds, so that the float32 potentials (and with them the spikes) are the reference's bits.
"""

from dataclasses import dataclass, make_dataclass
from typing import Any

import triton
import triton.language as tl

from .. import _layer
from .surrogates import density, primitive

FILTER = tl.constexpr(_layer.RESETS["filter"])
SUBTRACT = tl.constexpr(_layer.RESETS["subtract"])
ZERO = tl.constexpr(_layer.RESETS["zero"])
NO_MEMBRANE = tl.constexpr(_layer.NO_MEMBRANE)

POTENTIAL_NONE = tl.constexpr(_layer.POTENTIALS["none"])
POTENTIAL_TRAIN = tl.constexpr(_layer.POTENTIALS["train"])
POTENTIAL_LAST = tl.constexpr(_layer.POTENTIALS["last"])
POTENTIAL_MAX = tl.constexpr(_layer.POTENTIALS["max"])
POTENTIAL_MEAN = tl.constexpr(_layer.POTENTIALS["mean"])

ONE_STEP = tl.constexpr(_layer.RESET_GRADS["one_step"])
DETACH = tl.constexpr(_layer.RESET_GRADS["detach"])

# The membrane's coefficients and states: how many there are, and which of _layer.TENSORS the first is.
COEFFICIENTS = tl.constexpr(len(_layer.MEMBRANE_COEFFICIENTS))
FIRST_COEFFICIENT = tl.constexpr(_layer.TENSORS.index(_layer.MEMBRANE_COEFFICIENTS[0]))
STATES = tl.constexpr(len(_layer.MEMBRANE_STATES))
FIRST_STATE = tl.constexpr(_layer.TENSORS.index(_layer.MEMBRANE_STATES[0]))


# Dataclasses and not named tuples: Triton 3.9 would turn those into tuples of its own, without the properties.
@dataclass(frozen=True)
class Form:
    """The constants of a kernel. A filter has its numbers of taps: (P, Q + 1), or (0, 0) for none."""

    synapse: tuple[int, int]
    axon: tuple[int, int]
    constant: bool
    readout: int

    @property
    def count(self) -> bool:
        """True if the spikes are summed over time."""
        return self.readout == _layer.READOUTS["count"]

    @property
    def keeps(self) -> tuple[bool, ...]:
        """True for each of the membrane's states that this reset has."""
        membrane = self.reset != _layer.NO_MEMBRANE
        return membrane, membrane and self.reset == _layer.RESETS["filter"]

    @property
    def synapse_depth(self) -> int:
        """P + Q, the number of values that the filter's state keeps."""
        return max(sum(self.synapse) - 1, 0)

    @property
    def axon_depth(self) -> int:
        """P + Q, the number of values that the filter's state keeps."""
        return max(sum(self.axon) - 1, 0)

    @property
    def depth(self) -> int:
        """The number of values per neuron in a checkpoint."""
        return len(_layer.MEMBRANE_STATES) + self.synapse_depth + self.axon_depth


# With them the options of a time step, by the names of _layer.py.
Options: Any = make_dataclass("Options", [(option.name, Any) for option in _layer.OPTIONS], bases=(Form,), frozen=True)


@triton.jit
def scalar(value, DTYPE: tl.constexpr):  # noqa: N803
    """Return a float argument in the state dtype. Triton narrows floats, so a float64 kernel gets their bits."""
    if DTYPE == tl.float64:  # noqa: SIM300
        # In two halves, each as launch.scalar wrote it.
        low = (value[0] >> 2) & 0xFFFFFFFF
        high = (value[1] >> 2) & 0xFFFFFFFF
        return (high << 32 | low).to(tl.float64, bitcast=True)
    else:
        return tl.cast(value, DTYPE)


# -- the membrane: its coefficients are a tuple (decay, reset_decay, threshold, reset_potential), and the extent of its
# -- surrogate is the tuple (1 / w, scale) ---------------------------------------------------------------------------


@triton.jit
def membrane_step(v, r, x, coefficients, extent, OPTIONS: tl.constexpr, DTYPE: tl.constexpr):  # noqa: N803
    """Return V[t] before its reset, the value that decays into V[t+1], R[t+1] and O[t]."""
    decay, reset_decay, threshold, reset_potential = coefficients
    inverse_width, scale = extent
    if OPTIONS.reset == NO_MEMBRANE:
        return x, v, r, x
    else:
        potential = decay * v + x
        if OPTIONS.reset == FILTER:
            potential = potential - threshold * r
        if OPTIONS.smooth:
            spike = scale * primitive(potential - threshold, inverse_width, threshold, OPTIONS.surrogate)
        elif OPTIONS.tie_fires:
            spike = (potential >= threshold).to(DTYPE)
        else:
            spike = (potential > threshold).to(DTYPE)
        after = potential
        if OPTIONS.reset == FILTER:
            r = reset_decay * r + spike
        elif OPTIONS.reset == SUBTRACT:
            after = potential - threshold * spike
        elif OPTIONS.reset == ZERO:
            if OPTIONS.smooth:
                after = potential * (1.0 - spike) + reset_potential * spike
            else:
                after = tl.where(spike > 0.0, reset_potential, potential)
        return potential, after, r, spike


@triton.jit
def membrane_backward_step(
    carried_v, carried_r, grad, grad_potential, potential, spike, coefficients, extent, OPTIONS: tl.constexpr  # noqa: N803
):  # fmt: skip
    """One step back in time.

    ``carried_v`` is what later steps say of V[t] after its reset, ``carried_r`` the adjoint of R[t+1], ``grad`` that of
    O[t], and ``grad_potential`` what is said of V[t] outside, where the potential is a result. Returns the adjoint of
    V[t] (which is that of the current), its part through the spike, and both carried on to t-1.
    """
    decay, reset_decay, threshold, reset_potential = coefficients
    inverse_width, scale = extent
    if OPTIONS.reset == NO_MEMBRANE:
        return grad, grad, carried_v, carried_r
    else:
        if OPTIONS.reset_grad != DETACH:
            if OPTIONS.reset == FILTER:
                grad += carried_r
            elif OPTIONS.reset == SUBTRACT:
                grad -= threshold * carried_v
            elif OPTIONS.reset == ZERO:
                grad += (reset_potential - potential) * carried_v
        through_spike = density(potential - threshold, inverse_width, scale, threshold, OPTIONS.surrogate) * grad
        if OPTIONS.reset == ZERO:
            carried_v *= 1.0 - spike
        if OPTIONS.potential != POTENTIAL_NONE:
            carried_v += grad_potential
        adjoint = carried_v + through_spike
        into_r = carried_r
        if OPTIONS.reset == FILTER:
            into_r = -threshold * adjoint
            if OPTIONS.reset_grad != ONE_STEP:
                into_r += reset_decay * carried_r
        return adjoint, through_spike, decay * adjoint, into_r


@triton.jit
def read_potential(read, peak, potential, t, live, OPTIONS: tl.constexpr):  # noqa: N803
    """Return the read-out of V up to step t, and the step of its maximum, unchanged in a step that is not ``live``."""
    if OPTIONS.potential == POTENTIAL_LAST:
        read = tl.where(live, potential, read)
    elif OPTIONS.potential == POTENTIAL_MEAN:
        read += tl.where(live, potential, 0.0)
    elif OPTIONS.potential == POTENTIAL_MAX:
        # NaN is larger than any number, and stays.
        higher = (potential > read) | ((potential != potential) & (read == read)) | (t == 0)
        higher = higher & live
        read = tl.where(higher, potential, read)
        peak = tl.where(higher, t, peak)
    return read, peak


@triton.jit
def of_read_out(grad, peak, t, T, OPTIONS: tl.constexpr):  # noqa: N803
    """Return the gradient that a read-out of V, which gets ``grad``, gives to V[t]; a train has one for each step."""
    if OPTIONS.potential == POTENTIAL_LAST:
        grad = tl.where(t + 1 == T, grad, 0.0)
    elif OPTIONS.potential == POTENTIAL_MAX:
        grad = tl.where(peak == t, grad, 0.0)
    elif OPTIONS.potential == POTENTIAL_MEAN:
        grad = grad / T
    return grad


# -- IIR filters: y[t] = sum_q b[q] x[t-q] + sum_p a[p-1] y[t-p] -----------------------------------------------------
# A filter is a tuple (a, b) of tuples of P and Q + 1 coefficients; without any b it is none. Its history is a tuple,
# newest first: y[t-1..t-P], then x[t-1..t-Q].


@triton.jit
def filter_step(history, x, filter):
    """Return ``(y[t], the history after the step)``."""
    a, b = filter
    if len(b) == 0:
        return x, history
    else:
        y = b[0] * x
        for q in tl.static_range(1, len(b)):
            y = y + b[q] * history[len(a) + q - 1]
        for p in tl.static_range(len(a)):
            y = y + a[p] * history[p]
        return y, shifted(history, y, x, len(a))


@triton.jit
def shifted(history, y, x, P: tl.constexpr):  # noqa: N803
    """Return the history one step later, with ``y`` and ``x`` as the newest of its two parts."""
    after = ()
    for i in tl.static_range(len(history)):
        if i == 0 and P > 0:
            after = after + (y,)  # noqa: RUF005
        elif i == P:
            after = after + (x,)  # noqa: RUF005
        else:
            after = after + (history[i - 1],)  # noqa: RUF005
    return after


@triton.jit
def filter_backward_step(carried, grad_y, filter):
    """One step back in time.

    ``carried`` holds, in the order of the history, what later steps say of y[t-p] and x[t-q], ``grad_y`` what is said
    of y[t] outside. Returns the whole adjoint of y[t], the adjoint of x[t], and what is carried on to t-1.
    """
    a, b = filter
    if len(b) == 0:
        return grad_y, grad_y, carried
    else:
        P: tl.constexpr = len(a)  # noqa: N806
        Q: tl.constexpr = len(b) - 1  # noqa: N806
        if P > 0:
            grad_y = grad_y + carried[0]
        grad_x = b[0] * grad_y
        if Q > 0:
            grad_x = grad_x + carried[P]
        before = ()
        for p in tl.static_range(P):
            into = a[p] * grad_y
            if p + 1 < P:
                into += carried[p + 1]
            before = before + (into,)  # noqa: RUF005
        for q in tl.static_range(Q):
            into = b[q + 1] * grad_y
            if q + 1 < Q:
                into += carried[P + q + 1]
            before = before + (into,)  # noqa: RUF005
        return grad_y, grad_x, before


@triton.jit
def add_products(sums, grad_y, values, live):
    """Add to the gradients of a filter's coefficients: ``sums[i] + grad_y * values[i]``, in a step that is ``live``.

    Steps from T on may hold anything, infinities included: they are selected away, not multiplied.
    """
    after = ()
    for i in tl.static_range(len(sums)):
        after = after + (sums[i] + tl.where(live, grad_y * values[i], 0.0),)  # noqa: RUF005
    return after


# -- the layer: synapse, membrane, axon --------------------------------------------------------------------------------


@triton.jit
def layer_step(
    state, x, membrane, synapse, axon, extent, OPTIONS: tl.constexpr, DTYPE: tl.constexpr  # noqa: N803
):  # fmt: skip
    """Return ``(the state after the step, the output, (V[t] before its reset, O[t]))``.

    The state is ``(v, r, the synapse's history, the axon's history)``.
    """
    v, r, synapse_history, axon_history = state
    current, synapse_history = filter_step(synapse_history, x, synapse)
    potential, v, r, spike = membrane_step(v, r, current, membrane, extent, OPTIONS, DTYPE)
    out, axon_history = filter_step(axon_history, spike, axon)
    return (v, r, synapse_history, axon_history), out, (potential, spike)


@triton.jit
def state_where(condition, chosen, other):
    """Apply ``tl.where`` to two states of :func:`layer_step`."""
    return (
        tl.where(condition, chosen[0], other[0]),
        tl.where(condition, chosen[1], other[1]),
        where(condition, chosen[2], other[2]),
        where(condition, chosen[3], other[3]),
    )


@triton.jit
def where(condition, chosen, other):
    """Apply ``tl.where`` to two tuples."""
    values = ()
    for i in tl.static_range(len(chosen)):
        values = values + (tl.where(condition, chosen[i], other[i]),)  # noqa: RUF005
    return values
