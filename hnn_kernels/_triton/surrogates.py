# Generated from hnn_kernels/surrogates.py by `make generate`.
"""The surrogates of the distance x = V - V_th to the threshold, as device functions.

``period`` is that of their peaks, for those that have several.
"""

import triton
import triton.language as tl

from .functions import atan, erfc


@triton.jit
def primitive(x, inverse_width, period, surrogate: tl.constexpr):
    """P(x) of the surrogate that has this number."""
    if surrogate == 0:  # gaussian
        return 0.5 * erfc(x * inverse_width * -0.7071067811865476)
    elif surrogate == 1:  # sigmoid
        a = tl.exp2(tl.abs(x * inverse_width) * -1.4426950408889634)
        return tl.where(x >= 0.0, 1.0, a) / (1.0 + a)
    elif surrogate == 2:  # arctan
        return 0.5 + atan(x * inverse_width) * 0.3183098861837907
    elif surrogate == 3:  # fast_sigmoid
        a = x * inverse_width
        return 0.5 + 0.5 * a / (1.0 + tl.abs(a))
    elif surrogate == 4:  # triangle
        a = 1.0 - tl.abs(x * inverse_width)
        b = tl.where(a > 0.0, a, 0.0)
        c = 0.5 * (b * b)
        return tl.where(x >= 0.0, 1.0 - c, c)
    elif surrogate == 5:  # rectangle
        a = x * inverse_width
        b = 1.0 + a
        return tl.where(a >= 1.0, 1.0, 0.5 * tl.where(b > 0.0, b, 0.0))
    elif surrogate == 6:  # exponential
        a = x * inverse_width
        b = 0.5 * tl.exp2(tl.abs(a) * -1.4426950408889634)
        return tl.where(a >= 0.0, 1.0 - b, b)
    elif surrogate == 7:  # periodic_exponential
        a = tl.where(x > 0.0, tl.floor(x / period + 0.5), 0.0)
        b = (x - a * period) * inverse_width
        c = 0.5 * tl.exp2(tl.abs(b) * -1.4426950408889634)
        return a * (1.0 - tl.exp2(tl.abs(0.5 * period * inverse_width) * -1.4426950408889634)) + tl.where(
            b >= 0.0, 1.0 - c, c
        )
    else:
        tl.static_assert(surrogate < 8)


@triton.jit
def density(x, inverse_width, scale, period, surrogate: tl.constexpr):
    """scale * P'(x) of the surrogate that has this number."""
    if surrogate == 0:  # gaussian
        return tl.exp2(x * (inverse_width * inverse_width * -0.7213475204444817) * x) * (
            scale * inverse_width * 0.3989422804014327
        )
    elif surrogate == 1:  # sigmoid
        a = tl.exp2(tl.abs(x * inverse_width) * -1.4426950408889634)
        b = 1.0 + a
        return scale * inverse_width * a / (b * b)
    elif surrogate == 2:  # arctan
        a = x * inverse_width
        return scale * inverse_width * 0.3183098861837907 / (a * a + 1.0)
    elif surrogate == 3:  # fast_sigmoid
        a = 1.0 + tl.abs(x * inverse_width)
        return 0.5 * (scale * inverse_width) / (a * a)
    elif surrogate == 4:  # triangle
        a = 1.0 - tl.abs(x * inverse_width)
        return scale * inverse_width * tl.where(a > 0.0, a, 0.0)
    elif surrogate == 5:  # rectangle
        return tl.where(tl.abs(x * inverse_width) < 1.0, 0.5 * (scale * inverse_width), 0.0)
    elif surrogate == 6:  # exponential
        return 0.5 * (scale * inverse_width) * tl.exp2(tl.abs(x * inverse_width) * -1.4426950408889634)
    elif surrogate == 7:  # periodic_exponential
        return (
            0.5
            * (scale * inverse_width)
            * tl.exp2(
                tl.abs((x - tl.where(x > 0.0, tl.floor(x / period + 0.5), 0.0) * period) * inverse_width)
                * -1.4426950408889634
            )
        )
    else:
        tl.static_assert(surrogate < 8)
