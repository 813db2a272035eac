r"""A filter of any order with real poles, as leaky integrators in a row.

The filter of :func:`hnn_kernels.iir` is ``H(x) = sum_q b_q x^q / (1 - sum_p a_p x^p)``, where x is the delay by a step.
With the poles ``z_p``, the roots of ``z^P - a_1 z^(P-1) - ... - a_P``, the denominator is the product of ``1 - z_p x``.
So H is one integrator of decay ``z_p`` for each pole, in a row, and behind them the sum of the delayed and scaled
values. In a row no two large numbers cancel, as they do in a sum of partial fractions where poles are near each other.
"""

from typing import Any

import numpy as np
import torch

from ..filters import IIR
from .equations import Values

# The roots of (z - d)^2 come out as d +- 1e-8 i: the square root of the rounding. Its square is what it changes.
_IMAGINARY = 1e-6


def arrays(filter_: IIR) -> tuple[Values, Values]:
    """Return feedback ``[P, ...]`` and feedforward ``[Q + 1, ...]`` as float64."""
    return _array(filter_.feedback), _array(filter_.feedforward)


def poles(feedback: Values) -> Values:
    """Return the poles ``[P, ...]`` of a filter, the slowest first.

    Raises:
        ValueError: a pole that is not a real number in [0, 1].
    """
    order = len(feedback)
    if order < 2:
        found = feedback
    else:
        companion = np.zeros((*feedback.shape[1:], order, order))
        companion[..., 0, :] = np.moveaxis(feedback, 0, -1)
        companion[..., range(1, order), range(order - 1)] = 1
        roots = np.linalg.eigvals(companion)
        if (np.abs(roots.imag) > _IMAGINARY).any():
            raise ValueError(f"a filter must have real poles; got {roots[np.abs(roots.imag) > _IMAGINARY][0]:.4g}")
        found = np.moveaxis(np.sort(roots.real)[..., ::-1], -1, 0)
        found = np.where(np.abs(found) < 1e-12, 0.0, found)
    wrong = ~((found >= 0) & (found <= 1))
    if wrong.any():
        raise ValueError(f"a filter must have poles in [0, 1]; got {found[wrong][0]:.4g}")
    return found


def _array(coefficients: Any) -> Values:
    if isinstance(coefficients, torch.Tensor):
        return coefficients.detach().double().cpu().numpy()
    values = [c.detach().double().cpu().numpy() if isinstance(c, torch.Tensor) else c for c in coefficients]
    if not values:
        return np.zeros(0)
    return np.stack(np.broadcast_arrays(*(np.asarray(value, np.float64) for value in values)))
