"""Surrogate gradients: the one list that every backend shares.

A surrogate is a smooth step ``P(x)`` of the distance ``x = V - V_th`` to the threshold, with its exact derivative
``P'(x)``. Its width ``w`` is in units of the current. The hard mode spikes where ``x >= 0`` and differentiates with
``P'``. The smooth mode uses ``P`` itself.

To add one, write ``P`` and ``P'``, a formula and a source at the end of the list, and run ``make generate``. It writes
them as C++ (``csrc/surrogates.h``) and Triton (``_triton/surrogates.py``). The tests go over the list. ``P`` and ``P'``
are functions of ``x``, of ``s = 1 / w`` and of a namespace ``m``. They are made of numbers, + - * /, comparisons, and
the functions of :class:`TensorMath`.
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
    and ``fma(a, b, c) = a * b + c``, which a kernel may round once.
    """

    where = staticmethod(torch.where)
    exp2 = staticmethod(torch.exp2)
    erfc = staticmethod(torch.erfc)
    atan = staticmethod(torch.atan)

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


def _inverse(x: Tensor, w: float | Tensor) -> Tensor:
    return (1 / w).to(x.device, x.dtype) if isinstance(w, Tensor) else x.new_full((), 1 / w)


class Surrogate(NamedTuple):
    """A smooth step P and its derivative P', as formulas and for tensors.

    Attributes:
        number: the number by which the kernels know it.
        p, p_prime: the formulas of P and P'.
        formula: P or P' as text.
        source: the publication.
    """

    number: int
    p: Formula
    p_prime: Formula
    formula: str
    source: str

    def primitive(self, x: Tensor, w: float | Tensor) -> Tensor:
        """Return P(x) for the width ``w``, in the shape and dtype of ``x``."""
        return self.p(x, _inverse(x, w), TensorMath)

    def density(self, x: Tensor, w: float | Tensor) -> Tensor:
        """Return P'(x) for the width ``w``, in the shape and dtype of ``x``."""
        return self.p_prime(x, _inverse(x, w), TensorMath)


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


_LIST = {
    "gaussian": (
        lambda x, s, m: 0.5 * m.erfc(x * s * -math.sqrt(0.5)),
        # A power of two, so that the parts that do not depend on x are one factor in the exponent and one outside.
        lambda x, s, m: m.scaled_exp2(x * (s * s * (-0.5 * _LOG2_E)) * x, s * (1 / math.sqrt(2 * math.pi))),
        "P' = exp(-x^2 / 2w^2) / (sqrt(2 pi) w)",
        "Muramatsu & Yu 2021, eq. 5 and 6",
    ),
    "sigmoid": (
        lambda x, s, m: m.where(x >= 0, 1, _falling(x * s, m)) / (1 + _falling(x * s, m)),
        lambda x, s, m: s * _falling(x * s, m) / _square(1 + _falling(x * s, m)),
        "P = 1 / (1 + exp(-x / w))",
        "Wozniak et al. 2020, Nature Machine Intelligence 2; SpikingJelly's Sigmoid with alpha = 1 / w",
    ),
    "arctan": (
        lambda x, s, m: 0.5 + m.atan(x * s) * (1 / math.pi),
        lambda x, s, m: s * (1 / math.pi) / m.fma(x * s, x * s, 1),
        "P = 1/2 + arctan(x / w) / pi",
        "Fang et al. 2021, ICCV, with pi alpha / 2 = 1 / w",
    ),
    "fast_sigmoid": (
        lambda x, s, m: 0.5 + 0.5 * (x * s) / (1 + m.abs(x * s)),
        lambda x, s, m: 0.5 * s / _square(1 + m.abs(x * s)),
        "P = 1/2 + (x / w) / 2(1 + |x / w|)",
        "Zenke & Ganguli 2018 (SuperSpike), with beta = 1 / w and the area normalised to 1",
    ),
    "triangle": (
        lambda x, s, m: m.where(x >= 0, 1 - 0.5 * _square(_tent(x * s, m)), 0.5 * _square(_tent(x * s, m))),
        lambda x, s, m: s * _tent(x * s, m),
        "P' = max(0, 1 - |x / w|) / w",
        "Bellec et al. 2018, NeurIPS, with the area normalised to 1",
    ),
    "rectangle": (
        lambda x, s, m: m.where(x * s >= 1, 1, 0.5 * _positive(1 + x * s, m)),
        lambda x, s, m: m.where(m.abs(x * s) < 1, 0.5 * s, 0),
        "P' = 1 / 2w for |x| < w, else 0",
        "Wu et al. 2018, Frontiers in Neuroscience 12:331, eq. 24 with a = 2w",
    ),
}

SURROGATES: dict[str, Surrogate] = {
    name: Surrogate(number, *entry) for number, (name, entry) in enumerate(_LIST.items())
}
