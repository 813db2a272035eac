"""One time step of a layer, forward and backward, as device functions: the mirror of ``csrc/neuron.h``.

The order of the operations is that of :mod:`hnn_kernels.reference`, and the launches forbid contraction into
multiply-adds, so that the float32 potentials (and with them the spikes) are the reference's bits.
"""

import triton
import triton.language as tl

GAUSSIAN = tl.constexpr(0)

FULL = tl.constexpr(0)
ONE_STEP = tl.constexpr(1)
DETACH = tl.constexpr(2)

_INVERSE_SQRT_2 = tl.constexpr(0.7071067811865476)
_MINUS_HALF_LOG2_E = tl.constexpr(-0.7213475204444817)
_INVERSE_SQRT_2_PI = tl.constexpr(0.3989422804014327)


@triton.jit
def scalar(value, DTYPE: tl.constexpr):  # noqa: N803
    """A float argument in the state dtype. Triton narrows floats to float32, so a float64 kernel gets their bits."""
    if DTYPE == tl.float64:  # noqa: SIM300
        return value.to(tl.int64).to(tl.float64, bitcast=True)
    else:
        return tl.cast(value, DTYPE)


@triton.jit
def density(x, inverse_width, SURROGATE: tl.constexpr):  # noqa: N803
    """The derivative of :func:`primitive` at the distance ``x`` to the threshold."""
    tl.static_assert(SURROGATE == GAUSSIAN)
    # As a power of two, so that what does not depend on x is one factor within the exponent and one outside.
    exponent = inverse_width * inverse_width * _MINUS_HALF_LOG2_E
    return tl.exp2(x * exponent * x) * (inverse_width * _INVERSE_SQRT_2_PI)


@triton.jit
def primitive(x, inverse_width, SURROGATE: tl.constexpr):  # noqa: N803
    """The surrogate's smooth step. 1 + erf for erfc, which Triton lacks: its error is absolute, not relative."""
    tl.static_assert(SURROGATE == GAUSSIAN)
    return 0.5 + 0.5 * tl.erf(x * (inverse_width * _INVERSE_SQRT_2))


@triton.jit
def forward_step(
    v, r, x, decay, reset_decay, threshold, inverse_width,
    SURROGATE: tl.constexpr, SMOOTH: tl.constexpr, DTYPE: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """``(V[t], R[t+1], O[t])`` from ``V[t-1]``, ``R[t]`` and the current."""
    v = decay * v + x - threshold * r
    if SMOOTH:  # noqa: SIM108
        spike = primitive(v - threshold, inverse_width, SURROGATE)
    else:
        spike = (v >= threshold).to(DTYPE)
    return v, reset_decay * r + spike, spike


@triton.jit
def backward_step(
    carried_v, carried_r, grad, v, decay, reset_decay, threshold, inverse_width,
    SURROGATE: tl.constexpr, RESET_GRAD: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """One step back in time.

    ``carried_v`` is what later steps say of V[t], ``carried_r`` the adjoint of R[t+1], ``grad`` that of O[t]. Returns
    the adjoint of V[t] (which is the current's gradient), its part through the spike, and both carried on to t-1.
    """
    if RESET_GRAD != DETACH:
        grad += carried_r
    through_spike = density(v - threshold, inverse_width, SURROGATE) * grad
    adjoint = carried_v + through_spike
    into_r = -threshold * adjoint
    if RESET_GRAD != ONE_STEP:
        into_r += reset_decay * carried_r
    return adjoint, through_spike, decay * adjoint, into_r
