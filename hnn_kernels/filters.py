"""IIR filters of any order: the synapse filters a current, the axon filters a spike train.

y[t] = sum_{p=1..P} feedback[p-1] * y[t-p] + sum_{q=0..Q} feedforward[q] * x[t-q]        (Muramatsu & Yu 2021, eq. 1d)
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from . import _checks

Coefficient = float | Tensor


class IIR(NamedTuple):
    """The coefficients of a linear filter with infinite impulse response::

        y[t] = sum_{p=1..P} feedback[p-1] * y[t-p] + sum_{q=0..Q} feedforward[q] * x[t-q]

    Each of the two is a tensor or a sequence of floats and tensors. ``feedback`` is ``[P, ...]``, and P may be 0.
    ``feedforward`` is ``[Q + 1, ...]``, with at least one coefficient. The axes behind the first broadcast against the
    features (scalar, per channel, per neuron). Tensors may require a gradient.
    """

    feedback: Tensor | Sequence[Coefficient]
    feedforward: Tensor | Sequence[Coefficient]

    @classmethod
    def exponential(cls, tau: float) -> "IIR":
        """Return the filter ``y[t] = d y[t-1] + x[t]`` with ``d = exp(-1 / tau)``; its impulse response is ``d^t``.

        As a synapse it makes the neuron a current-based LIF neuron.

        Args:
            tau: time constant in steps, above 0.

        Raises:
            TypeError, ValueError: ``tau`` is not a number above 0.
        """
        return cls((_decay("tau", tau),), (1.0,))

    @classmethod
    def dual_exponential(cls, tau_m: float, tau_s: float, normalize: bool = False) -> "IIR":
        """Return the difference of two exponentials.

        By default it is the filter of SNN-IIR (Fang et al. 2020, on whose program the paper's code is built)::

            feedback = (d_m + d_s, -d_m * d_s),   feedforward = (d_m - d_s,),   d = exp(-1 / tau)

        Its impulse response is ``d_m^(t+1) - d_s^(t+1)``, with a peak of 0.471 for time constants of 4 and 1.

        With ``normalize`` the response comes one step later, and its peak is scaled to about 1::

            m <- d_m * m + x,   s <- d_s * s + x,   y = v_0 * (m - s)
            v_0 = h^(h / (h - 1)) / (h - 1),   h = tau_m / tau_s

        Args:
            tau_m, tau_s: time constants in steps; ``tau_m > tau_s > 0``.
            normalize: the second form.

        Raises:
            TypeError, ValueError: a time constant is not a number above 0, or ``tau_m`` is not above ``tau_s``.
        """
        m, s = _decay("tau_m", tau_m), _decay("tau_s", tau_s)
        normalize = _checks.flag("normalize", normalize)
        if tau_m <= tau_s:
            raise ValueError(f"tau_m must be above tau_s; got tau_m={tau_m}, tau_s={tau_s}")
        feedback = (m + s, -m * s)
        if not normalize:
            return cls(feedback, (m - s,))
        ratio = tau_m / tau_s
        peak = ratio ** (ratio / (ratio - 1)) / (ratio - 1)
        return cls(feedback, (0.0, peak * (m - s)))


def _decay(name: str, tau: float) -> float:
    varies = torch.compiler.is_compiling() and _checks.varies(tau)
    exponent = -1 / _checks.number(name, tau, positive=True)
    # torch.compile has a power of a float that varies, and makes a constant of its exponential.
    return math.e**exponent if varies else math.exp(exponent)
