"""Surrogate gradients: the one list that every backend shares.

A surrogate is a smooth step ``P(x)`` of the distance ``x = V - V_th`` to the threshold and its exact derivative
``P'(x)``, of a width ``w`` in units of the current. The hard mode spikes with ``x >= 0`` and differentiates with
``P'``; the smooth mode uses ``P`` itself. To add one: a line here, and its two functions in ``csrc/neuron.h`` and
``hnn_kernels/triton/formula.py`` under the same number.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Surrogate(NamedTuple):
    """A smooth step (``primitive``), its derivative (``density``), and the number the kernels know it by."""

    number: int
    primitive: Callable[[Tensor, float], Tensor]
    density: Callable[[Tensor, float], Tensor]
    formula: str
    source: str


def _triangle_primitive(x: Tensor, w: float) -> Tensor:
    z = x / w
    tail = 0.5 * (1 - z.abs()).clamp(min=0).square()
    return torch.where(z >= 0, 1 - tail, tail)


SURROGATES: dict[str, Surrogate] = {
    "gaussian": Surrogate(
        0,
        lambda x, w: 0.5 * torch.erfc(x * (-1 / (math.sqrt(2) * w))),
        lambda x, w: torch.exp(x * x * (-0.5 / w**2)) * (1 / (math.sqrt(2 * math.pi) * w)),
        "P' = exp(-x^2 / 2w^2) / (sqrt(2 pi) w)",
        "Muramatsu & Yu 2021, eq. 5 and 6",
    ),
    "sigmoid": Surrogate(
        1,
        lambda x, w: torch.sigmoid(x / w),
        lambda x, w: torch.sigmoid(x / w) * torch.sigmoid(-x / w) / w,
        "P = 1 / (1 + exp(-x / w))",
        "Wozniak et al. 2020, Nature Machine Intelligence 2; SpikingJelly's Sigmoid with alpha = 1 / w",
    ),
    "arctan": Surrogate(
        2,
        lambda x, w: 0.5 + torch.atan(x / w) / math.pi,
        lambda x, w: 1 / (math.pi * w * (1 + (x / w).square())),
        "P = 1/2 + arctan(x / w) / pi",
        "Fang et al. 2021, ICCV, with pi alpha / 2 = 1 / w",
    ),
    "fast_sigmoid": Surrogate(
        3,
        lambda x, w: 0.5 + 0.5 * (x / w) / (1 + (x / w).abs()),
        lambda x, w: 0.5 / (w * (1 + (x / w).abs()).square()),
        "P = 1/2 + (x / w) / 2(1 + |x / w|)",
        "Zenke & Ganguli 2018 (SuperSpike), with beta = 1 / w and the area normalised to 1",
    ),
    "triangle": Surrogate(
        4,
        _triangle_primitive,
        lambda x, w: (1 - (x / w).abs()).clamp(min=0) / w,
        "P' = max(0, 1 - |x / w|) / w",
        "Bellec et al. 2018, NeurIPS, with the area normalised to 1",
    ),
    "rectangle": Surrogate(
        5,
        lambda x, w: (0.5 + 0.5 * x / w).clamp(0, 1),
        lambda x, w: ((x / w).abs() < 1).to(x.dtype) * (0.5 / w),
        "P' = 1 / 2w for |x| < w, else 0",
        "Wu et al. 2018, Frontiers in Neuroscience 12:331, eq. 24 with a = 2w",
    ),
}
