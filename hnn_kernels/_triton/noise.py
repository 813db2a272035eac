"""The noise of the codings as device functions: the mirror of :mod:`hnn_kernels._noise`, which defines it.

The launches forbid contraction into multiply-adds, so that the bits are the same.
"""

import triton
import triton.language as tl


@triton.jit
def as_int(x):
    """Return the bits of a float32."""
    return x.to(tl.int32, bitcast=True)


@triton.jit
def as_float(x):
    """Return the float32 with these bits."""
    return x.to(tl.float32, bitcast=True)


@triton.jit
def normals(radius, angle):
    """Make two independent standard normal numbers from two words (Box and Muller)."""
    u = (radius >> 1).to(tl.int32).to(tl.float32) + 0.5
    bits = as_int(u)
    shifted = bits - 0x3F3504F3
    f = as_float(bits - (shifted & -0x800000)) - 1.0
    p = f * 0.08734841104200014 - 0.14307520964404502
    p = p * f + 0.14917973940519852
    p = p * f - 0.16570508284949248
    p = p * f + 0.19962072114179255
    p = p * f - 0.2500175524950008
    p = p * f + 0.33333950222089354
    p = p * f - 0.4999999160642517
    log_m = f + f * f * p
    length = tl.sqrt_rn((31 - (shifted >> 23)).to(tl.float32) * 0.6931471805599453 - log_m)
    d = ((angle & 0x3FFFFFFF).to(tl.int32) - 0x20000000).to(tl.float32) * 1.4629180792671596e-09
    z = d * d
    s = z * -0.00019504021998962504 + 0.008332036875148635
    s = s * z - 0.16666650699202343
    t = z * -0.0013585908508208667 + 0.04165502688406858
    t = t * z - 0.4999985669584427
    sin = d + d * (z * s)
    cos = 1.0 + z * t
    first = length * (cos + sin)
    second = length * (cos - sin)
    return tl.where((angle >> 31) != 0, -first, first), tl.where(((angle >> 30) & 1) != 0, -second, second)


@triton.jit
def group_noise(seed, element, group, NORMAL: tl.constexpr):  # noqa: N803
    """Return the noise of ``element`` in the four steps of ``group``: normal, or uniform in [0, 1)."""
    group = tl.zeros_like(element) + group
    a, b, c, d = tl.philox(
        seed, element.to(tl.uint32), (element >> 32).to(tl.uint32), group.to(tl.uint32), (group >> 32).to(tl.uint32)
    )
    if NORMAL:
        a, b = normals(a, b)
        c, d = normals(c, d)
        return a, b, c, d
    else:
        return uniform(a), uniform(b), uniform(c), uniform(d)


@triton.jit
def uniform(word):
    """Make a number uniform on the multiples of 2^-24 in [0, 1)."""
    return (word >> 8).to(tl.int32).to(tl.float32) * 5.9604644775390625e-08


@triton.jit
def exp(x):
    """Return exp(x); in float32 it has the bits of :func:`hnn_kernels._noise.exp`."""
    if x.dtype == tl.float64:
        return tl.exp(x)
    else:
        inside = tl.where(x < -87.3, -87.3, tl.where(x > 88.72, 88.72, x))
        shifted = inside * 1.4426950408889634 + 12582912.0  # 1.5 * 2^23: adding it rounds to an integer in the low bits
        n = shifted - 12582912.0
        f = inside - n * 0.693359375 - n * -2.12194440e-4
        p = f * 0.0013950602284401132 + 0.008368953512663022
        p = p * f + 0.041666204138832666
        p = p * f + 0.16666518306017716
        p = p * f + 0.5000000095700851
        p = 1.0 + (f + f * f * p)
        y = as_float(as_int(p) + (as_int(shifted) << 23))
        y = tl.where(x > 88.72, float("inf"), tl.where(x < -87.3, 0.0, y))
        return tl.where(x != x, x, y)
