"""The noise of the codings in plain PyTorch: the definition that ``csrc/noise.h`` and ``_triton/noise.py`` mirror.

The noise of an element at a step is a pure function of a 64-bit seed, the number of the element and the number of the
step. It is word ``step % 4`` of Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011)
under the key ``seed`` at the counter ``(element, step // 4)``, 64 bits each, low words first. Two words in a row make
two normal numbers.

Everything is float32, whatever dtype the coded values have. It is made of the operations that IEEE 754 rounds exactly
(+, -, *, square root), each rounded once, so the bits are the same everywhere.
"""

import torch
from torch import Tensor

from ._ops import generators, pointwise

_WORD = 0xFFFFFFFF
_ROUNDS = 10
# Nearest polynomials: (ln(1 + f) - f) / f^2 on [sqrt(1/2) - 1, sqrt(2) - 1] (error 3e-8 of ln(1 + f)); (sin(d) - d) / d
# and cos(d) - 1 over z = d^2, |d| <= pi/4 (4e-9 and 3e-8); (exp(f) - 1 - f) / f^2, |f| <= ln(2) / 2 (3e-9 of exp(f)).
# The highest power first.
_LOG = (
    0.08734841104200014, -0.14307520964404502, 0.14917973940519852, -0.16570508284949248, 0.19962072114179255,
    -0.2500175524950008, 0.33333950222089354, -0.4999999160642517,
)  # fmt: skip
_SIN = (-0.00019504021998962504, 0.008332036875148635, -0.16666650699202343)
_COS = (-0.0013585908508208667, 0.04165502688406858, -0.4999985669584427)
_EXP = (0.0013950602284401132, 0.008368953512663022, 0.041666204138832666, 0.16666518306017716, 0.5000000095700851)


def _polynomial(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    y = torch.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        y = y * x + c
    return y


def philox(counter: list[Tensor], key: list[Tensor]) -> list[Tensor]:
    """Return four words of Philox4x32-10 for a counter of four words and a key of two.

    All are int64 tensors with values below 2^32.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        # A product of two words wraps around to the int64 of the same bits.
        low, high = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1 = (high >> 32) & _WORD ^ c1 ^ k0, high & _WORD
        c2, c3 = (low >> 32) & _WORD ^ c3 ^ k1, low & _WORD
        k0, k1 = (k0 + 0x9E3779B9) & _WORD, (k1 + 0xBB67AE85) & _WORD
    return [c0, c1, c2, c3]


def _groups(seed: Tensor, count: int, steps: int, first_step: int, first_element: int) -> list[Tensor]:
    """Return the words of all groups of four steps that have a step in the range: four tensors ``[groups, count]``."""
    device = seed.device
    element = first_element + torch.arange(count, device=device)
    group = torch.arange(first_step // 4, (first_step + steps + 3) // 4, device=device)[:, None]
    counter = [element & _WORD, element >> 32 & _WORD, group & _WORD, group >> 32 & _WORD]
    return philox([word.expand(group.shape[0], count) for word in counter], [seed & _WORD, seed >> 32 & _WORD])


def _in_time(numbers: list[Tensor], steps: int, first_step: int) -> Tensor:
    """Join four tensors ``[groups, count]``, one for each step of a group, to ``[steps, count]``."""
    # A copy, so that nobody keeps the memory of steps outside the range.
    return torch.stack(numbers, 1).flatten(0, 1)[first_step % 4 :][:steps].clone()


def _normals(radius: Tensor, angle: Tensor) -> list[Tensor]:
    """Make two independent standard normal numbers from two words (Box and Muller 1958).

    They are ``sqrt(-2 ln u) (sin a, cos a)``, where u in (0, 1] has 31 bits and the angle a has 32. Two bits of the
    angle are the signs; the other 30 are d of ``a = pi/4 + d`` in a quadrant, where
    ``sqrt(2) (sin a, cos a) = (cos d + sin d, cos d - sin d)``. The largest number is 6.66.
    """
    u = (radius >> 1).to(torch.float32) + 0.5  # in units of 2^-31
    bits = u.view(torch.int32)
    shifted = bits - 0x3F3504F3  # sqrt(1/2): the mantissa m is in [sqrt(1/2), sqrt(2))
    f = (bits - (shifted & -0x800000)).view(torch.float32) - 1.0
    log_m = f + f * f * _polynomial(f, _LOG)
    square = (31 - (shifted >> 23)).to(torch.float32) * 0.6931471805599453 - log_m
    # Through float64, which rounds to the nearest float32: torch's own float32 root may be the one beside it.
    length = torch.sqrt(square.double()).float()
    d = ((angle & 0x3FFFFFFF) - 0x20000000).to(torch.float32) * 1.4629180792671596e-09  # pi / 2^31
    z = d * d
    sin, cos = d + d * (z * _polynomial(z, _SIN)), 1.0 + z * _polynomial(z, _COS)
    first, second = length * (cos + sin), length * (cos - sin)
    return [torch.where(angle & 0x80000000 != 0, -first, first), torch.where(angle & 0x40000000 != 0, -second, second)]


def _normal(seed: Tensor, count: int, steps: int, first_step: int, first_element: int) -> Tensor:
    a, b, c, d = _groups(seed, count, steps, first_step, first_element)
    return _in_time(_normals(a, b) + _normals(c, d), steps, first_step)


def _uniform(seed: Tensor, count: int, steps: int, first_step: int, first_element: int) -> Tensor:
    words = _groups(seed, count, steps, first_step, first_element)
    return _in_time([(w >> 8).to(torch.float32) * 2.0**-24 for w in words], steps, first_step)


_normal_operator = generators.define("normal", _normal)
_uniform_operator = generators.define("uniform", _uniform)


def normal(seed: Tensor, count: int, steps: int, *, first_step: int = 0, first_element: int = 0) -> Tensor:
    """Return standard normal noise ``[steps, count]`` in float32."""
    return _normal_operator(seed, count, steps, first_step, first_element)


def uniform(seed: Tensor, count: int, steps: int, *, first_step: int = 0, first_element: int = 0) -> Tensor:
    """Return noise ``[steps, count]`` in float32, uniform on the 2^24 multiples of 2^-24 in [0, 1)."""
    return _uniform_operator(seed, count, steps, first_step, first_element)


def _exp(x: Tensor) -> Tensor:
    n = torch.round(torch.clamp(x, -87.3, 88.72) * 1.4426950408889634)
    # ln(2) in two parts; n times the first part is exact.
    f = x - n * 0.693359375 - n * -2.12194440e-4
    p = 1.0 + (f + f * f * _polynomial(f, _EXP))
    y = (p.view(torch.int32) + (n.to(torch.int32) << 23)).view(torch.float32)
    y = torch.where(x > 88.72, torch.inf, torch.where(x < -87.3, 0.0, y))
    return torch.where(x.isnan(), x, y)


# The exponential in float32, within 2 ulp: 0 below 2^-126, infinity from 3.4e38 on.
_float32_exp = pointwise.define("exp", "(Tensor x) -> Tensor", _exp, lambda y, x: y)


def exp(x: Tensor) -> Tensor:
    """Return ``exp(x)`` for float32 or float64, differentiable; in float32 the bits are the same everywhere."""
    return torch.exp(x) if x.dtype == torch.float64 else _float32_exp(x)
