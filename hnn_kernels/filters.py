"""IIR filters of any order: the synapse that filters a current, the axon that filters a spike train.

y[t] = sum_{p=1..P} feedback[p-1] * y[t-p] + sum_{q=0..Q} feedforward[q] * x[t-q]        (Muramatsu & Yu 2021, eq. 1d)
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from . import _checks

Coefficient = float | Tensor


class IIR(NamedTuple):
    """Coefficients of a filter.

    ``feedback`` is ``[P, ...]`` and ``feedforward`` ``[Q + 1, ...]``: a tensor whose further axes broadcast against the
    features (scalar, per channel, per neuron) and which may require grad, or a sequence of floats and such tensors.
    ``P`` may be 0, ``feedforward`` has at least one coefficient.
    """

    feedback: Tensor | Sequence[Coefficient]
    feedforward: Tensor | Sequence[Coefficient]

    @classmethod
    def exponential(cls, tau: float) -> "IIR":
        """``y[t] = d y[t-1] + x[t]`` with ``d = exp(-1 / tau)``: impulse response ``d^t``.

        As a synapse it makes the neuron current-based LIF. ``tau`` in steps, above 0.
        """
        return cls((_decay("tau", tau),), (1.0,))

    @classmethod
    def dual_exponential(cls, tau_m: float, tau_s: float, normalize: bool = False) -> "IIR":
        """The difference of two exponentials, as the paper's ancestor SNN-IIR has it; ``tau_m > tau_s``, in steps.

        By default ``feedback = (d_m + d_s, -d_m d_s)``, ``feedforward = (d_m - d_s,)`` with ``d = exp(-1 / tau)``:
        impulse response ``d_m^(t+1) - d_s^(t+1)``, which peaks at 0.471 for 4 and 1.

        With ``normalize``, ``v_0 (m - s)`` with ``m <- d_m m + x``, ``s <- d_s s + x``,
        ``v_0 = h^(h / (h - 1)) / (h - 1)``, ``h = tau_m / tau_s``: the same one step later, its peak scaled to about 1.
        """
        m, s = _decay("tau_m", tau_m), _decay("tau_s", tau_s)
        _checks.flag("normalize", normalize)
        if tau_m <= tau_s:
            raise ValueError(f"tau_m must be above tau_s; got tau_m={tau_m}, tau_s={tau_s}")
        feedback = (m + s, -m * s)
        if not normalize:
            return cls(feedback, (m - s,))
        ratio = tau_m / tau_s
        peak = ratio ** (ratio / (ratio - 1)) / (ratio - 1)
        return cls(feedback, (0.0, peak * (m - s)))


def _decay(name: str, tau: float) -> float:
    return math.exp(-1 / _checks.number(name, tau, positive=True))
