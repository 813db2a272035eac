"""Surrogate gradients: the one list that every backend shares.

A surrogate is a smooth step ``P(x)`` of the distance ``x = V - V_th`` to the threshold and its exact derivative
``P'(x)``. The hard mode spikes with ``x >= 0`` and differentiates with ``P'``; the smooth mode uses ``P`` itself.
To add one: a line here, and its two functions in ``csrc/neuron.h`` and ``hnn_kernels/triton/formula.py`` under the
same number.
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
    source: str


def _gaussian_primitive(x: Tensor, sigma: float) -> Tensor:
    return 0.5 * torch.erfc(x * (-1 / (math.sqrt(2) * sigma)))


def _gaussian_density(x: Tensor, sigma: float) -> Tensor:
    return torch.exp(x * x * (-0.5 / sigma**2)) * (1 / (math.sqrt(2 * math.pi) * sigma))


SURROGATES: dict[str, Surrogate] = {
    "gaussian": Surrogate(0, _gaussian_primitive, _gaussian_density, "Muramatsu & Yu 2021, eq. 5 and 6"),
}
