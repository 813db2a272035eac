"""Surrogate gradients: the one list that every backend shares.

A surrogate is a smooth step ``P(x)`` of the distance ``x = V - V_th`` to the threshold, with its exact derivative
``P'(x)``. Its width ``w`` is in units of the current. The hard mode spikes where ``x >= 0`` and differentiates with
``P'``. The smooth mode uses ``P`` itself. A scale ``k`` multiplies both.

To add one, write ``P`` and ``k P'``, a formula and a source at the end of the list, and run ``make generate``. It
writes them as C++ (``csrc/surrogates.h``) and Triton (``_triton/surrogates.py``). The tests go over the list. ``P`` and
``k P'`` are functions of ``x``, of an :class:`Extent` ``e`` and of a namespace ``m``. They are made of numbers,
+ - * /, comparisons, and the functions of :class:`TensorMath`. ``P'`` is ``1 / w`` times a function of ``x / w``, so
the scale is a factor of ``e.height`` and costs no operation at a step.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

Formula = Callable[[Any, Any, Any], Any]


class TensorMath:
    """The functions that a formula may call, here for tensors. A kernel has functions of the same names.

    They are ``where(condition, a, b)``, where ``a`` or ``b`` must not be a plain number; ``abs``; ``exp2`` of arguments
    up to 0; ``scaled_exp2(a, b) = exp2(a) * b`` for a positive ``b`` that does not depend on ``x``; ``erfc``; ``atan``;
    ``round`` to the nearest whole number, of two either one; and ``fma(a, b, c) = a * b + c``, which a kernel may round
    once.
    """

    where = staticmethod(torch.where)
    exp2 = staticmethod(torch.exp2)
    erfc = staticmethod(torch.erfc)
    atan = staticmethod(torch.atan)
    round = staticmethod(torch.round)

    @staticmethod
    def abs(a):
        # As in the kernels. The derivative of torch.abs at 0 is 0, which would make that of P at the threshold 0 too.
        return torch.where(a < 0, -a, a)

    @staticmethod
    def scaled_exp2(a, b):
        return torch.exp2(a) * b

    @staticmethod
    def fma(a, b, c):
        return a * b + c


class Extent(NamedTuple):
    """The size of a surrogate as a formula has it: numbers, tensors, or symbols.

    Attributes:
        inverse: ``1 / w``.
        height: ``k / w``.
        period: from one peak of P' to the next, for a surrogate that has several; the layer's threshold.
    """

    inverse: Any
    height: Any
    period: Any


def _scalar(x: Tensor, value: float | Tensor) -> Tensor:
    return value.to(x.device, x.dtype) if isinstance(value, Tensor) else x.new_full((), value)


class Surrogate(NamedTuple):
    """A smooth step P and its derivative P', as formulas and for tensors.

    Attributes:
        number: the number by which the kernels know it.
        p, p_prime: the formulas of P, without its scale, and of ``k P'``.
        formula: P or P' as text.
        source: the publication.
        periodic: True if the formulas depend on the period.
    """

    number: int
    p: Formula
    p_prime: Formula
    formula: str
    source: str
    periodic: bool = False

    def primitive(
        self, x: Tensor, w: float | Tensor, scale: float | Tensor = 1.0, period: float | Tensor = 1.0
    ) -> Tensor:
        """Return ``scale * P(x)`` for the width ``w``, in the shape and dtype of ``x``."""
        return _scalar(x, scale) * self.p(x, self._extent(x, w, scale, period), TensorMath)

    def density(
        self, x: Tensor, w: float | Tensor, scale: float | Tensor = 1.0, period: float | Tensor = 1.0
    ) -> Tensor:
        """Return ``scale * P'(x)`` for the width ``w``, in the shape and dtype of ``x``."""
        return self.p_prime(x, self._extent(x, w, scale, period), TensorMath)

    @staticmethod
    def _extent(x: Tensor, w: float | Tensor, scale: float | Tensor, period: float | Tensor) -> Extent:
        inverse = _scalar(x, 1 / w)
        return Extent(inverse, _scalar(x, scale) * inverse, _scalar(x, period))


_LOG2_E = math.log2(math.e)


def _square(a):
    return a * a


def _positive(a, m):
    return m.where(a > 0, a, 0)  # compilers recognise this form as a maximum


def _tent(a, m):
    return _positive(1 - m.abs(a), m)


def _falling(a, m):
    """Return ``exp(-|a|)``, whose exponent is never positive, so that nothing overflows."""
    return m.exp2(m.abs(a) * -_LOG2_E)


def _exponential(a, m):
    """Return the integral of ``exp(-|a|) / 2``, the distribution function of Laplace."""
    return m.where(a >= 0, 1 - 0.5 * _falling(a, m), 0.5 * _falling(a, m))


def _spikes_before(x, e, m):
    """Return how many whole periods the nearest peak lies above the threshold."""
    return m.where(x > 0, m.round(x / e.period), 0)


_LIST = {
    "gaussian": (
        lambda x, e, m: 0.5 * m.erfc(x * e.inverse * -math.sqrt(0.5)),
        # A power of two, so that the parts that do not depend on x are one factor in the exponent and one outside.
        lambda x, e, m: m.scaled_exp2(
            x * (e.inverse * e.inverse * (-0.5 * _LOG2_E)) * x, e.height * (1 / math.sqrt(2 * math.pi))
        ),
        "P' = exp(-x^2 / 2w^2) / (sqrt(2 pi) w)",
        "Muramatsu & Yu 2021, eq. 5 and 6",
    ),
    "sigmoid": (
        lambda x, e, m: m.where(x >= 0, 1, _falling(x * e.inverse, m)) / (1 + _falling(x * e.inverse, m)),
        lambda x, e, m: e.height * _falling(x * e.inverse, m) / _square(1 + _falling(x * e.inverse, m)),
        "P = 1 / (1 + exp(-x / w))",
        "Wozniak et al. 2020, Nature Machine Intelligence 2; SpikingJelly's Sigmoid with alpha = 1 / w",
    ),
    "arctan": (
        lambda x, e, m: 0.5 + m.atan(x * e.inverse) * (1 / math.pi),
        lambda x, e, m: e.height * (1 / math.pi) / m.fma(x * e.inverse, x * e.inverse, 1),
        "P = 1/2 + arctan(x / w) / pi",
        "Fang et al. 2021, ICCV, with pi alpha / 2 = 1 / w",
    ),
    "fast_sigmoid": (
        lambda x, e, m: 0.5 + 0.5 * (x * e.inverse) / (1 + m.abs(x * e.inverse)),
        lambda x, e, m: 0.5 * e.height / _square(1 + m.abs(x * e.inverse)),
        "P = 1/2 + (x / w) / 2(1 + |x / w|)",
        "Zenke & Ganguli 2018 (SuperSpike), with beta = 1 / w and the area normalised to 1",
    ),
    "triangle": (
        lambda x, e, m: m.where(
            x >= 0, 1 - 0.5 * _square(_tent(x * e.inverse, m)), 0.5 * _square(_tent(x * e.inverse, m))
        ),
        lambda x, e, m: e.height * _tent(x * e.inverse, m),
        "P' = max(0, 1 - |x / w|) / w",
        "Bellec et al. 2018, NeurIPS, with the area normalised to 1",
    ),
    "rectangle": (
        lambda x, e, m: m.where(x * e.inverse >= 1, 1, 0.5 * _positive(1 + x * e.inverse, m)),
        lambda x, e, m: m.where(m.abs(x * e.inverse) < 1, 0.5 * e.height, 0),
        "P' = 1 / 2w for |x| < w, else 0",
        "Wu et al. 2018, Frontiers in Neuroscience 12:331, eq. 24 with a = 2w",
    ),
    "exponential": (
        lambda x, e, m: _exponential(x * e.inverse, m),
        lambda x, e, m: 0.5 * e.height * _falling(x * e.inverse, m),
        "P' = exp(-|x| / w) / 2w",
        "Shrestha & Orchard 2018 (SLAYER), with the area normalised to 1; sinabs' SingleExponential",
    ),
    "periodic_exponential": (
        # Each peak but the first adds its area, which its neighbours cut off half a period away.
        lambda x, e, m: (
            _spikes_before(x, e, m) * (1 - _falling(0.5 * e.period * e.inverse, m))
            + _exponential((x - _spikes_before(x, e, m) * e.period) * e.inverse, m)
        ),
        lambda x, e, m: 0.5 * e.height * _falling((x - _spikes_before(x, e, m) * e.period) * e.inverse, m),
        "P' = exp(-|d| / w) / 2w, with d from V to the nearest positive multiple of V_th",
        "Weidel & Sheik 2021 (WaveSense), with the area of the first peak normalised to 1. sinabs' PeriodicExponential"
        " takes twice the distance above the threshold",
    ),
}

_PERIODIC = {"periodic_exponential"}

SURROGATES: dict[str, Surrogate] = {
    name: Surrogate(number, *entry, periodic=name in _PERIODIC) for number, (name, entry) in enumerate(_LIST.items())
}
