"""The types of PTX as numpy has them, and the roundings between floating-point formats."""

import functools

import numpy as np

from .parse import PTXError

UNSIGNED = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
SIGNED = {8: np.int8, 16: np.int16, 32: np.int32, 64: np.int64}
FLOAT = {16: np.float16, 32: np.float32, 64: np.float64}
# In a register, bfloat16 and pairs are bits.
_PACKED = {"bf16": np.uint16, "bf16x2": np.uint32, "f16x2": np.uint32, "f32x2": np.uint64}


@functools.cache
def dtype(kind: str):
    """The numpy dtype of a PTX type, as ``s32``; ``bool`` for a predicate."""
    if kind == "pred":
        return np.bool_
    if kind in _PACKED:
        return _PACKED[kind]
    table = {"u": UNSIGNED, "b": UNSIGNED, "s": SIGNED, "f": FLOAT}.get(kind[:1])
    if table is None or not kind[1:].isdigit() or int(kind[1:]) not in table:
        raise PTXError(f"the type {kind!r}")
    return table[int(kind[1:])]


def is_type(text: str) -> bool:
    """True for the name of a type."""
    try:
        return dtype(text) is not None
    except PTXError:
        return False


@functools.cache
def bits(kind: str) -> int:
    """The bits of a register of this type."""
    return np.dtype(dtype(kind)).itemsize * 8


def is_float(kind: str) -> bool:
    return kind in ("f16", "f32", "f64", "bf16")


def from_bfloat16(x: np.ndarray) -> np.ndarray:
    """The bits of bfloat16 as float32."""
    return (x.astype(np.uint32) << np.uint32(16)).view(np.float32)


def to_bfloat16(x: np.ndarray) -> np.ndarray:
    """float32, rounded to nearest even, as the bits of bfloat16. A NaN becomes PTX's."""
    u = x.view(np.uint32).astype(np.uint64)
    rounded = (u + np.uint64(0x7FFF) + ((u >> np.uint64(16)) & np.uint64(1))) >> np.uint64(16)
    return np.where(np.isnan(x), np.uint16(0x7FFF), rounded.astype(np.uint16))


def flushed(x: np.ndarray) -> np.ndarray:
    """``x`` with zeros, of the same sign, in the place of float32's subnormal numbers."""
    return np.where(np.abs(x) < np.float32(2.0**-126), np.copysign(np.float32(0), x), x)


def _maximum(a: np.ndarray, b: np.ndarray, larger: bool, nan: bool) -> np.ndarray:
    choose = {(True, True): np.maximum, (True, False): np.fmax, (False, True): np.minimum, (False, False): np.fmin}
    word = UNSIGNED[a.dtype.itemsize * 8]
    x, y = a.view(word), b.view(word)
    equal = (x & y if larger else x | y).view(a.dtype)  # +0 is larger than -0
    return np.where(a == b, equal, choose[larger, nan](a, b))


def maximum(a: np.ndarray, b: np.ndarray, nan: bool = False) -> np.ndarray:
    """The larger float; with one NaN the other one, or with ``nan`` a NaN."""
    return _maximum(a, b, True, nan)


def minimum(a: np.ndarray, b: np.ndarray, nan: bool = False) -> np.ndarray:
    """The smaller float, as :func:`maximum`."""
    return _maximum(a, b, False, nan)
