"""The arithmetic of the instructions. Memory and control are the machine's own (machine.py).

:func:`operation` gives, for an opcode, the types of the operands and a function of their values. The arithmetic is
exact where IEEE 754 or PTX fixes the result. Approximations (``ex2.approx`` and its kind) are rounded correctly here,
which is within the error that PTX allows them; no hardware need have these very bits.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from . import kinds, native
from .memory import Report
from .parse import PTXError


class Operation(NamedTuple):
    """The types of the result (or results) and of the sources, and the function from these to that."""

    result: str
    sources: tuple[str, ...]
    compute: Callable


_COMPARE = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal,
}  # fmt: skip
_LOGIC = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}
_APPROXIMATE = {
    "ex2": np.exp2, "lg2": np.log2, "rcp": np.reciprocal, "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x),
    "sin": np.sin, "cos": np.cos, "tanh": np.tanh,
}  # fmt: skip
_ROUND = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}
# Modifiers that change nothing here, or that the functions below ask for.
_MODIFIERS = frozenset(
    (
        "rn",
        "approx",
        "full",
        "ftz",
        "lo",
        "hi",
        "wide",
        "NaN",
        "l",
        "r",
        "wrap",
        "clamp",
        "nan",
        "num",
        *_LOGIC,
        *_ROUND,
    )
)
_UNORDERED = frozenset(f"{name}u" for name in _COMPARE)
_OPERATIONS: dict[str, Callable[[tuple[str, ...]], Operation]] = {}


@functools.cache
def operation(opcode: tuple[str, ...]) -> Operation:
    """The operation of an opcode; raises a :class:`PTXError` if it is not known."""
    make = _OPERATIONS.get(opcode[0])
    others = set(opcode[1:]) - _MODIFIERS - (_COMPARE.keys() | _UNORDERED if opcode[0] == "setp" else set())
    known = all(kinds.is_type(part) for part in others)
    made = make(opcode) if make and known else None
    if made is None:
        raise PTXError(f"the instruction {'.'.join(opcode)}")
    return made


def _named(*names: str):
    def register(function):
        _OPERATIONS.update(dict.fromkeys(names, function))
        return function

    return register


def _flushing(opcode: tuple[str, ...], compute: Callable) -> Callable:
    """``compute`` with the modifier ``.ftz``, if the opcode has it: subnormal float32 operands and results are zero."""
    if "ftz" not in opcode or opcode[-1] != "f32":
        return compute
    return lambda *values: kinds.flushed(compute(*map(kinds.flushed, values)))


@_named("add", "sub", "mul", "div", "fma", "neg", "abs", "min", "max", "mad", "rem")
def _arithmetic(op):
    kind = op[-1]
    if kind == "f32x2":
        return _pair(op)
    if sum(map(kinds.is_type, op)) > 1:
        return _mixed(op)
    if not kinds.is_float(kind):
        return _integer(op)
    if kind == "bf16":
        return _bfloat16(op)
    two = {
        "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
        "min": lambda a, b: kinds.minimum(a, b, "NaN" in op), "max": lambda a, b: kinds.maximum(a, b, "NaN" in op),
    }  # fmt: skip
    if op[0] in two:
        return Operation(kind, (kind,) * 2, _flushing(op, two[op[0]]))
    if op[0] in ("neg", "abs"):  # of the sign alone, also of a NaN
        word = kinds.UNSIGNED[kinds.bits(kind)]
        sign = word(1 << (kinds.bits(kind) - 1))
        bits = f"b{kinds.bits(kind)}"
        return Operation(bits, (bits,), (lambda a: a ^ sign) if op[0] == "neg" else (lambda a: a & ~sign))
    if op[0] in ("fma", "mad") and kind in ("f32", "f64"):
        return Operation(kind, (kind,) * 3, _flushing(op, native.fma))
    return None


def _mixed(op):
    """A sum in float32 whose first operand is narrow, or a multiply-add whose first two are."""
    narrow = {"bf16": kinds.from_bfloat16, "f16": lambda x: x.astype(np.float32)}.get(op[-1])
    if op[-2] != "f32" or narrow is None or op[0] not in ("add", "sub", "fma"):
        return None
    plain = _arithmetic((*op[:-2], "f32"))
    sources = (op[-1],) * (len(plain.sources) - 1) + ("f32",)
    return Operation("f32", sources, lambda *values: plain.compute(*map(narrow, values[:-1]), values[-1]))


def _bfloat16(op):
    """One operation in float32, rounded once more: for these the same as one rounding."""
    if op[0] in ("add", "sub", "mul", "min", "max", "neg", "abs"):
        plain = _arithmetic((op[0], "f32"))

        def compute(*values):
            wide = [kinds.from_bfloat16(v) for v in values]
            if op[0] in ("neg", "abs"):
                wide = [v.view(np.uint32) for v in wide]
            return kinds.to_bfloat16(plain.compute(*wide).view(np.float32))

        return Operation("bf16", ("bf16",) * len(plain.sources), compute)
    return None


def _pair(op):
    """Both float32 halves of 64 bits."""
    one = _arithmetic((*op[:-1], "f32"))

    def compute(*values):
        halves = [
            np.ascontiguousarray(v).reshape(-1).view(np.float32).reshape(-1, 2) for v in np.broadcast_arrays(*values)
        ]
        result = np.ascontiguousarray(one.compute(*halves)).view(np.uint64)
        return result.reshape(np.broadcast(*values).shape)

    return Operation("b64", ("b64",) * len(one.sources), compute)


def _quotient(a, b):
    if (b == 0).any():
        raise Report("an integer division by zero")
    return (a - np.fmod(a, b)) // b


def _remainder(a, b):
    if (b == 0).any():
        raise Report("an integer remainder by zero")
    return np.fmod(a, b)


def _integer(op):
    kind, width = op[-1], kinds.bits(op[-1])
    dtype = kinds.dtype(kind)
    if op[0] in ("mul", "mad"):
        wide, table = f"{kind[0]}{2 * width}", kinds.SIGNED if kind[0] == "s" else kinds.UNSIGNED
        if "wide" in op:
            out = table[2 * width]
            result, product = wide, lambda a, b: a.astype(out) * b.astype(out)
        elif "hi" in op and width < 64:
            out = table[2 * width]
            result, product = kind, lambda a, b: ((a.astype(out) * b.astype(out)) >> out(width)).astype(dtype)
        elif "hi" in op:
            result, product = kind, native.high
        else:
            result, product = kind, np.multiply
        if op[0] == "mul":
            return Operation(result, (kind, kind), product)
        return Operation(result, (kind, kind, result), lambda a, b, c: product(a, b) + c)
    functions = {
        "add": np.add, "sub": np.subtract, "min": np.minimum, "max": np.maximum, "div": _quotient, "rem": _remainder,
        "neg": np.negative, "abs": np.abs,
    }  # fmt: skip
    if op[0] not in functions:
        return None
    return Operation(kind, (kind,) * (1 if op[0] in ("neg", "abs") else 2), functions[op[0]])


@_named("and", "or", "xor", "not")
def _logic(op):
    kind = op[-1]
    if op[0] == "not":
        return Operation(kind, (kind,), np.logical_not if kind == "pred" else np.invert)
    return Operation(kind, (kind, kind), _LOGIC[op[0]])


@_named("shl", "shr")
def _shift(op):
    kind, width = op[-1], kinds.bits(op[-1])
    dtype = kinds.dtype(kind)

    def compute(a, count):
        by = np.minimum(count, width - 1).astype(dtype)
        moved = np.left_shift(a, by) if op[0] == "shl" else np.right_shift(a, by)
        if op[0] == "shr" and kind[0] == "s":
            return moved
        return np.where(count >= width, dtype(0), moved)

    return Operation(kind, (kind, "u32"), compute)


@_named("shf")
def _funnel(op):
    def compute(low, high, count):
        by = (count & np.uint32(31) if "wrap" in op else np.minimum(count, 32)).astype(np.uint64)
        both = high.astype(np.uint64) << np.uint64(32) | low
        moved = (both << by) >> np.uint64(32) if op[1] == "l" else both >> by
        return moved.astype(np.uint32)

    return Operation("b32", ("b32", "b32", "u32"), compute)


@_named("prmt")
def _permute(op):
    if op != ("prmt", "b32"):
        return None

    def compute(a, b, selector):
        both, result = b.astype(np.uint64) << np.uint64(32) | a, np.uint32(0)
        for k in range(4):
            nibble = selector >> np.uint32(4 * k) & np.uint32(15)
            byte = (both >> ((nibble & np.uint32(7)).astype(np.uint64) * np.uint64(8))).astype(np.uint32) & np.uint32(
                255
            )
            sign = np.where(byte & np.uint32(128), np.uint32(255), np.uint32(0))
            result = result | np.where(nibble & np.uint32(8), sign, byte) << np.uint32(8 * k)
        return result

    return Operation("b32", ("b32",) * 3, compute)


@_named("lop3")
def _lookup(op):
    def compute(a, b, c, table):
        result = np.uint32(0)
        for k in range(8):
            term = (a if k & 4 else ~a) & (b if k & 2 else ~b) & (c if k & 1 else ~c)
            result = result | np.where(table >> np.uint32(k) & np.uint32(1), term, np.uint32(0))
        return result

    return Operation("b32", ("b32",) * 4, compute)


@_named("bfe")
def _field(op):
    kind = op[-1]
    if kind[0] != "u":
        return None
    dtype = kinds.dtype(kind)

    def compute(a, position, length):
        shifted = np.where(position < kinds.bits(kind), a >> position.astype(dtype), dtype(0))
        mask = (dtype(1) << np.minimum(length, kinds.bits(kind) - 1).astype(dtype)) - dtype(1)
        return np.where(length >= kinds.bits(kind), shifted, shifted & mask)

    return Operation(kind, (kind, "u32", "u32"), compute)


@_named("popc", "clz")
def _counts(op):
    kind, width = op[-1], kinds.bits(op[-1])
    dtype = kinds.dtype(kind)

    def compute(a):
        ones = [(a >> dtype(k)) & dtype(1) for k in range(width)]
        if op[0] == "popc":
            return sum(ones).astype(np.uint32)
        found, zeros = np.zeros(np.shape(a), bool), np.zeros(np.shape(a), np.uint32)
        for one in reversed(ones):
            found = found | (one != 0)
            zeros = zeros + ~found
        return zeros.astype(np.uint32)

    return Operation("u32", (kind,), compute)


@_named("ex2", "lg2", "rcp", "sqrt", "rsqrt", "sin", "cos", "tanh")
def _function(op):
    kind, function = op[-1], _APPROXIMATE[op[0]]
    if kind == "f64" and op[0] == "rcp" and "approx" in op:  # the upper half of the bits
        return Operation(
            kind, (kind,), lambda a: (np.reciprocal(a).view(np.uint64) & np.uint64(0xFFFFFFFF << 32)).view(np.float64)
        )
    if kind == "f64":
        return Operation(kind, (kind,), function) if "rn" in op else None
    if kind != "f32":
        return None
    return Operation(kind, (kind,), _flushing(op, lambda a: function(a.astype(np.float64)).astype(np.float32)))


@_named("copysign")
def _copysign(op):
    return Operation(op[-1], (op[-1],) * 2, lambda sign, magnitude: np.copysign(magnitude, sign))


@_named("setp", "set")
def _compare(op):
    if op[0] == "set":
        return None
    kind, name, logic = op[-1], op[1], next((part for part in op[2:-1] if part in _LOGIC), None)
    real = kinds.is_float(kind)
    unordered = real and name.endswith("u")
    base = name[:-1] if unordered else name

    def compare(a, b):
        if kind == "bf16":
            a, b = kinds.from_bfloat16(a), kinds.from_bfloat16(b)
        elif "ftz" in op:
            a, b = kinds.flushed(a), kinds.flushed(b)
        if not real:
            return _COMPARE[base](a, b)
        nan = np.isnan(a) | np.isnan(b)
        if base in ("nan", "num"):
            return nan if base == "nan" else ~nan
        return _COMPARE[base](a, b) | nan if unordered else _COMPARE[base](a, b) & ~nan

    if logic is None:
        return Operation("pred", (kind, kind), compare)
    return Operation("pred", (kind, kind, "pred"), lambda a, b, c: _LOGIC[logic](compare(a, b), c))


@_named("selp")
def _select(op):
    kind = f"b{kinds.bits(op[-1])}"
    return Operation(kind, (kind, kind, "pred"), lambda a, b, c: np.where(c, a, b))


@_named("cvt")
def _convert(op):
    to, source = op[-2:]
    if to in ("bf16x2", "f16x2") and source == "f32":  # the first source is the upper half
        narrow = kinds.to_bfloat16 if to == "bf16x2" else lambda x: x.astype(np.float16).view(np.uint16)
        return Operation(
            "b32",
            ("f32", "f32"),
            lambda a, b: narrow(a).astype(np.uint32) << np.uint32(16) | narrow(b).astype(np.uint32),
        )
    if "bf16" in (to, source):
        if source == "f32":
            return Operation(to, (source,), kinds.to_bfloat16)
        if to == "f32":
            return Operation(to, (source,), kinds.from_bfloat16)
        return None
    out, real, was_real = kinds.dtype(to), kinds.is_float(to), kinds.is_float(source)
    rounding = next((_ROUND[part] for part in op if part in _ROUND), None)
    flush = "ftz" in op and "f32" in (to, source)
    if real and was_real:

        def compute(a):
            a = kinds.flushed(a) if flush and source == "f32" else a
            a = (rounding(a) if rounding else a).astype(out)
            return kinds.flushed(a) if flush and to == "f32" else a

        return Operation(to, (source,), compute)
    if was_real:
        limits = np.iinfo(out)

        def clamp(a):
            whole = rounding(a.astype(np.float64))
            inside = (whole >= float(limits.min)) & (whole < float(limits.max) + 1)
            result = np.where(inside, whole, 0).astype(out)
            result = np.where(
                whole >= float(limits.max), limits.max, np.where(whole < float(limits.min), limits.min, result)
            )
            return np.where(np.isnan(a), 0, result).astype(out)

        return Operation(to, (source,), clamp) if rounding else None
    return Operation(to, (source,), lambda a: a.astype(out))
