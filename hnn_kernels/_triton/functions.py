"""Functions that Triton or its interpreter lacks."""

import triton
import triton.language as tl


@triton.jit
def erfc(x):
    """The complementary error function; its error is small absolutely, not relatively."""
    return 1.0 - tl.erf(x)


@triton.jit
def atan(x):
    """Cephes' rational approximation, to the last bits of float64."""
    size = tl.abs(x)
    # arctan(s) = pi/2 - arctan(1/s) = pi/4 + arctan((s - 1) / (s + 1))
    large = size > 2.414213562373095
    medium = size > 0.66
    offset = tl.where(large, 2.0, tl.where(medium, 1.0, 0.0)).to(x.dtype) * 0.7853981633974483
    over = tl.where(large, -1.0, tl.where(medium, size - 1.0, size))
    under = tl.where(large, size, tl.where(medium, size + 1.0, 1.0))
    y = over / under
    z = y * y
    p = z * -8.750608600031904122785e-1 - 1.615753718733365076637e1  # a constant by itself would be a float32
    p = p * z - 7.500855792314704667340e1
    p = p * z - 1.228866684490136173410e2
    p = p * z - 6.485021904942025371773e1
    q = z + 2.485846490142306297962e1
    q = q * z + 1.650270098316988542046e2
    q = q * z + 4.328810604912902668951e2
    q = q * z + 4.853903996359136964868e2
    q = q * z + 1.945506571482613964425e2
    angle = offset + (y + y * (z * p / q))
    return tl.where(x < 0.0, -angle, angle)


# -- for the steps of defined neurons: operands have the dtype of the state ----------------------------------------


@triton.jit
def divide(a, b):
    """The quotient, rounded to the nearest, as the reference has it."""
    if b.dtype == tl.float32:
        return tl.div_rn(a, b)
    else:
        return a / b


@triton.jit
def square_root(x):
    """The square root, rounded to the nearest, as the reference has it."""
    if x.dtype == tl.float32:
        return tl.sqrt_rn(x)
    else:
        return tl.sqrt(x)


@triton.jit
def tanh(x):
    """The hyperbolic tangent: (1 - a) / (1 + a) with a = exp(-2|x|), near 0 a polynomial, since that would cancel."""
    size = tl.abs(x)
    a = tl.exp(size * -2.0)
    far = divide(1.0 - a, 1.0 + a)
    square = x * x
    if x.dtype == tl.float32:
        # Cephes' tanhf
        p = square * -5.70498872745e-3 + 2.06390887954e-2
        p = p * square - 5.37397155531e-2
        p = p * square + 1.33314422036e-1
        p = p * square - 3.33332819422e-1
        near = p * square * size + size
    else:
        # Cephes' tanh
        p = square * -9.64399179425052238628e-1 - 9.92877231001918586564e1
        p = p * square - 1.61468768441708447952e3
        q = square + 1.12811678491632931402e2
        q = q * square + 2.23548839060100448583e3
        q = q * square + 4.84406305325125486048e3
        near = size + size * square * (p / q)
    found = tl.where(size < 0.625, near, far)
    return tl.where(x < 0.0, found * -1.0, found)


@triton.jit
def round_half_even(x):
    """The nearest whole number; a half goes to the even one. Numbers too large for a fraction are their own."""
    size = tl.abs(x)
    if x.dtype == tl.float32:
        whole = (size + 8388608.0) - 8388608.0
        found = tl.where(size < 8388608.0, whole, size)
    else:
        whole = (size + 4503599627370496.0) - 4503599627370496.0
        found = tl.where(size < 4503599627370496.0, whole, size)
    return tl.where(x < 0.0, found * -1.0, tl.where(x == 0.0, x, found))


@triton.jit
def power(a, n):
    """``a`` to the power ``n``, by float64's logarithm; a negative ``a`` has one where ``n`` is a whole number."""
    wide = n.to(tl.float64)
    size = tl.exp(wide * tl.log(tl.abs(a.to(tl.float64)))).to(a.dtype)
    whole = n == tl.floor(n)
    odd = whole & (n != 2.0 * tl.floor(n * 0.5))
    found = tl.where((a < 0.0) & odd, size * -1.0, size)
    found = tl.where((a < 0.0) & ~whole, float("nan"), found)
    return tl.where(n == 0.0, 1.0, found).to(a.dtype)
