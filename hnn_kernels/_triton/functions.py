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
