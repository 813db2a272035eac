r"""From the differential equations of NIR to the steps of :func:`hnn_kernels.lif`, and back.

The equations are those that the neurons of the package ``nir`` 1.0.8 have in their docstrings (Pedersen et al. 2024)::

    LI, LIF            tau dv/dt = (v_leak - v) + r I
    I, IF                  dv/dt = r I
    CubaLI, CubaLIF    tau_syn dI/dt = -I + w_in S,    tau_mem dv/dt = (v_leak - v) + r I
    IF, LIF, CubaLIF   z = 1 if v > v_threshold else 0,    v <- v_reset if z = 1

Forward Euler with the step dt, with the input of step t in step t, gives for u = v - v_leak::

    u[t] = (1 - dt / tau) u[t-1] + (r dt / tau) I[t]        so decay = 1 - dt / tau, gain = r dt / tau
    u[t] = u[t-1] + (r dt) I[t]                             so decay = 1,            gain = r dt
    I[t] = (1 - dt / tau_syn) I[t-1] + (w_in dt / tau_syn) S[t]

In terms of u the threshold is ``v_threshold - v_leak``, and the neuron is reset to ``v_reset - v_leak``. From zero
state v starts at ``v_leak``. An IF has no leak. There u = v - v_reset, so v starts at ``v_reset``, as in SpikingJelly.

That is the method ``"euler"``. The method ``"exponential"`` solves each equation with its input held over the step:
``decay = exp(-dt / tau)`` and ``gain = r (1 - decay)``. So does sinabs; snnTorch, SpikingJelly and Norse take Euler's.
The two agree to first order in ``dt / tau``.

The way back is exact with the same dt and method: ``tau = dt / (1 - decay)`` or ``-dt / log(decay)``, and
``r = gain / (1 - decay)`` in both. A neuron that was not made for continuous time thus has an input whose unit is a
change of the potential per step. At another dt, or with another method, the same equations make other spikes.
"""

from typing import NamedTuple

import numpy as np

METHODS = ("euler", "exponential")
Values = np.ndarray  # float64


class Time(NamedTuple):
    """The time of a step, and the method, one of :data:`METHODS`."""

    dt: float
    method: str = "euler"


class Filter(NamedTuple):
    """A step of first order, ``u[t] = decay u[t-1] + gain x[t]``; each is float64, of the features' shape or less."""

    decay: Values
    gain: Values


def from_leak(tau: Values, r: Values, time: Time) -> Filter:
    """Return the step of ``tau du/dt = -u + r x``.

    Raises:
        ValueError: a time constant that is not above 0, or is below dt: a step of Euler then changes the sign of u.
    """
    dt = time.dt
    if time.method == "exponential":
        if not (tau > 0).all():
            raise ValueError(f"a time constant must be above 0; got {tau.min():g}")
        decay = np.exp(-dt / tau)
        return Filter(decay, r * (1 - decay))
    if not (tau >= dt * (1 - 1e-6)).all():  # float32 has 7 digits: a tau of dt is no smaller than that
        raise ValueError(f"a time constant must be at least dt = {dt:g}; got {tau.min():g}")
    decay = 1 - dt / tau
    return Filter(np.where(decay > 0, decay, 0.0), r * dt / tau)


def from_integral(r: Values, time: Time) -> Filter:
    """Return the step of ``du/dt = r x``."""
    return Filter(np.ones_like(r), r * time.dt)


def to_leak(step: Filter, time: Time) -> tuple[Values, Values]:
    """Return tau and r of ``tau du/dt = -u + r x``, whose step is ``step``.

    Raises:
        ValueError: a decay that is not in [0, 1), or is 0 with the method "exponential".
    """
    decay, exponential = step.decay, time.method == "exponential"
    if not ((decay >= 0) & (decay < 1)).all() or (exponential and not decay.all()):
        low = "(0" if exponential else "[0"
        raise ValueError(f"a decay must be in {low}, 1), or 1 for all neurons; got {_range(decay)}")
    return time.dt / (-np.log(decay) if exponential else 1 - decay), step.gain / (1 - decay)


def to_integral(step: Filter, time: Time) -> Values:
    """Return r of ``du/dt = r x``, whose step is ``step``; its decay is 1."""
    return step.gain / time.dt


def is_integral(step: Filter) -> bool:
    """True if nothing leaks."""
    return bool((step.decay == 1).all())


def is_one(gain: Values, dtype: np.dtype) -> bool:
    """True if ``gain`` is 1 up to the rounding of a product of three numbers of ``dtype``, in which it was written."""
    precision = np.finfo(dtype).eps if np.issubdtype(dtype, np.floating) else np.finfo(np.float64).eps
    return bool((np.abs(gain - 1) <= 4 * precision).all())


def _range(values: Values) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
