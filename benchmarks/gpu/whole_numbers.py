"""The instructions of machine code (SASS) that compute whole numbers, for a thread whose registers may be unknown."""

import functools
import math
import re
import struct
from collections.abc import Callable
from typing import NamedTuple

MASK = (1 << 32) - 1
_CONSTANT = re.compile(r"c\[0x([02])\]\[(?:(U?R\d+|U?RZ)\s*\+?\s*)?(-?0x[0-9a-f]+)?\]")
_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "EQ": lambda a, b: a == b, "NE": lambda a, b: a != b, "LT": lambda a, b: a < b, "LE": lambda a, b: a <= b,
    "GT": lambda a, b: a > b, "GE": lambda a, b: a >= b,
}  # fmt: skip
_ALWAYS = ("PT", "UPT")


class Constants(NamedTuple):
    """The constant banks, and the thread's number in a block.

    Bank 0 has the block's size, and the parameters from ``start`` on; bank 2 has the tables of jumps.
    """

    block: int
    parameters: bytes
    start: int
    tables: bytes = b""
    thread: int = 0

    def read(self, bank: str, address: int, size: int) -> int | None:
        """The number of ``size`` bytes at an address; None where it is unknown."""
        if bank == "0" and address < 12:
            return self.block if address == 0 else 1
        held, at = (self.tables, address) if bank == "2" else (self.parameters, address - self.start)
        known = at >= 0 and at + size <= len(held)
        return int.from_bytes(held[at : at + size], "little") if known else None


@functools.cache  # a walk comes to each instruction many times
def split(operands: str) -> tuple[str, ...]:
    """The operands of an instruction."""
    return tuple(one.strip().replace(".reuse", "") for one in re.split(r",(?![^\[]*\])", operands) if one.strip())


@functools.cache
def is_predicate(text: str) -> bool:
    """Tell if an operand is a predicate."""
    return re.fullmatch(r"!?U?P[T0-9]", text) is not None


@functools.cache
def _parsed(text: str) -> tuple[tuple[str, int] | None, re.Match | None, int | None]:
    """An operand without its sign as a register, a place in a constant bank, or a number."""
    register = re.fullmatch(r"(U?R)(\d+)", text)
    if register:
        return (register[1], int(register[2])), None, None
    number = 0 if text in ("RZ", "URZ", "SRZ") else None
    if re.fullmatch(r"0x[0-9a-f]+|\d+", text):
        number = int(text, 0) & MASK
    return None, _CONSTANT.fullmatch(text), number


def _signed(x: int) -> int:
    return x - (1 << 32) if x >> 31 else x


def _known(*values) -> bool:
    return all(value is not None for value in values)


class Registers:
    """The registers of a thread of a grid's first block: numbers of 32 bits, and predicates. None is unknown.

    A number that nothing set is 0: what a program does cannot depend on it. Its bits may hold predicates, set one by
    one.
    """

    def __init__(self, constants: Constants):
        self.constants = constants
        self.numbers: dict[str, int | None] = {}
        self.predicates: dict[str, bool] = {}

    def predicate(self, text: str) -> bool | None:
        """A predicate's value, with its sign."""
        name = text.lstrip("!")
        value = True if name in _ALWAYS else self.predicates.get(name)
        return value if value is None or name == text else not value

    def number(self, text: str, behind: int = 0) -> int | None:
        """The value of an operand, with its sign, or of the register ``behind`` it."""
        sign = text[0] if text[0] in "-~" else ""
        found = self._unsigned(text[len(sign) :].partition(".64")[0], behind)
        if found is None or not sign:
            return found
        return (-found if sign == "-" else ~found) & MASK

    def _unsigned(self, text: str, behind: int) -> int | None:
        register, constant, number = _parsed(text)
        if register:
            return self.numbers.get(f"{register[0]}{register[1] + behind}", 0)
        if constant:
            return self.constant(constant, 4, 4 * behind)
        return number and (0 if behind else number)

    def constant(self, match: re.Match, size: int, further: int = 0) -> int | None:
        """Return the word in a constant bank at an operand's address."""
        bank, register, place = match.groups()
        base = self.number(register) if register else 0
        return None if base is None else self.constants.read(bank, base + int(place or "0", 0) + further, size)

    def put(self, name: str, value: int | None, behind: int = 0) -> None:
        """Set a register, or the one ``behind`` it; None makes it unknown."""
        register, *_ = _parsed(name)
        if register:
            self.numbers[f"{register[0]}{register[1] + behind}"] = None if value is None else value & MASK

    def put_wide(self, name: str, value: int | None) -> None:
        """Set a pair of registers."""
        self.put(name, value)
        self.put(name, None if value is None else value >> 32, 1)

    def decide(self, name: str, value: bool | None) -> None:
        """Set a predicate; None makes it unknown."""
        self.predicates.pop(name, None)
        if value is not None and name not in _ALWAYS:
            self.predicates[name] = value


# -- the instructions: each takes the registers, the opcode's suffixes and the operands -------------------------------


def _set_predicate(t: Registers, kinds: list[str], operands: tuple[str, ...]) -> None:
    order = next(k for k in kinds if k in _COMPARE)
    a, b, result = t.number(operands[2]), t.number(operands[3]), None
    if _known(a, b):
        if "U32" not in kinds:
            a, b = _signed(a), _signed(b)
        # With EX these are the upper halves, and the lower ones decide where they are equal.
        result = t.predicate(operands[5]) if "EX" in kinds and a == b else _COMPARE[order](a, b)
    other = t.predicate(operands[4])
    if "AND" in kinds:
        joined = False if False in (other, result) else None if None in (other, result) else True
    elif "OR" in kinds:
        joined = True if True in (other, result) else None if None in (other, result) else False
    else:
        joined = None
    t.decide(operands[0], joined)
    t.decide(operands[1], None)


def _combine_predicates(t: Registers, kinds: list[str], operands: tuple[str, ...]) -> None:
    sources = [t.predicate(one) for one in operands[2:5]]
    row = sum(bit << 2 - i for i, bit in enumerate(sources)) if _known(*sources) else None
    t.decide(operands[0], None if row is None else bool(int(operands[5], 16) >> row & 1))
    t.decide(operands[1], None)


def _predicates_to_number(t: Registers, kinds: list[str], operands: tuple[str, ...]) -> None:
    value, mask = t.number(operands[2]), int(operands[3], 16)
    bits = [t.predicate(f"P{i}") if mask >> i & 1 else False for i in range(7)]
    known = _known(value, *bits)
    t.put(operands[0], value & ~mask | sum(bit << i for i, bit in enumerate(bits)) if known else None)


def _move(t: Registers, kinds: list[str], operands: tuple[str, ...]) -> None:
    special = t.constants.thread if operands[1] == "SR_TID.X" else 0
    t.put(operands[0], special if operands[1].startswith("SR_") else t.number(operands[1]))


def _clear(t: Registers, kinds: list[str], operands: tuple[str, ...]) -> None:
    t.put_wide(operands[0], 0 if operands[1] == "SRZ" else None)


def _load_constant(t: Registers, kinds: list[str], operands: tuple[str, ...]) -> None:
    size = 1 if "U8" in kinds else 8 if "64" in kinds else 4
    match = _CONSTANT.fullmatch(operands[1])
    value = t.constant(match, size) if match and not {"S8", "U16", "S16"} & set(kinds) else None
    (t.put_wide if size == 8 else t.put)(operands[0], value)


def _add(t: Registers, kinds: list[str], operands: tuple[str, ...]) -> None:
    numbers = [one for one in operands[1:] if not is_predicate(one)]
    last = max(i for i, one in enumerate(operands) if not is_predicate(one))
    values = [t.number(one) for one in numbers] + [t.predicate(one) for one in operands[last + 1 :]]
    total = sum(values) if _known(*values) else None
    if total is not None:  # minus 0 is 2^32: a subtraction's carry says that nothing was borrowed
        total += sum(1 << 32 for one in numbers if one[0] == "-" and t.number(one) == 0)
    t.put(operands[0], total)
    for i, one in enumerate(one for one in operands[1:last] if is_predicate(one)):
        t.decide(one, None if total is None else total >> 32 > i)


def _multiply_add(t: Registers, kinds: list[str], operands: tuple[str, ...]) -> None:
    a, b, c = (t.number(one) for one in operands[1:4])
    if "WIDE" in kinds:
        high = t.number(operands[3], 1)
        total = None
        if _known(a, b, c, high):
            total = (a * b if "U32" in kinds else _signed(a) * _signed(b)) + (c | high << 32)
        t.put_wide(operands[0], total)
        return
    carry = t.predicate(operands[4]) if "X" in kinds and len(operands) > 4 else False
    product = 0 if "MOV" in kinds or 0 in (a, b) else a * b if _known(a, b) else None
    if "HI" in kinds and product is not None:
        product = product >> 32 if "U32" in kinds else None
    t.put(operands[0], product + c + carry if _known(product, c, carry) else None)


def _select(t: Registers, kinds: list[str], operands: tuple[str, ...]) -> None:
    chosen = t.predicate(operands[3])
    t.put(operands[0], None if chosen is None else t.number(operands[1 if chosen else 2]))


def _absolute(t: Registers, kinds: list[str], operands: tuple[str, ...]) -> None:
    value = t.number(operands[1])
    t.put(operands[0], None if value is None else abs(_signed(value)) & MASK)


def _extreme(t: Registers, kinds: list[str], operands: tuple[str, ...]) -> None:
    *added, other, least = operands[1:]
    values = [t.number(one) for one in added]
    a, b, least = sum(values) & MASK if _known(*values) else None, t.number(other), t.predicate(least)
    if _known(a, b) and "U32" not in kinds:
        a, b = _signed(a), _signed(b)
    t.put(operands[0], (min if least else max)(a, b) if _known(a, b, least) else None)


def _logic(t: Registers, kinds: list[str], operands: tuple[str, ...]) -> None:
    any_bit, operands = (operands[0], operands[1:]) if is_predicate(operands[0]) else ("PT", operands)
    values, table, result = [t.number(one) for one in operands[1:4]], int(operands[4], 16), 0
    a, b, c = values if _known(*values) else (0, 0, 0)
    for row in range(8):
        if table >> row & 1:
            result |= (a if row & 4 else ~a) & (b if row & 2 else ~b) & (c if row & 1 else ~c)
    result = result & MASK if _known(*values) else None
    t.put(operands[0], result)
    t.decide(any_bit, None if result is None else result != 0)


def _shift(t: Registers, kinds: list[str], operands: tuple[str, ...]) -> None:
    low, by, high = (t.number(one) for one in operands[1:4])
    result = None
    if _known(low, by, high) and "W" not in kinds:
        pair = (_signed(high) if "S32" in kinds else high) << 32 | low
        shifted = pair << by if kinds[0] == "L" else pair >> by
        result = shifted >> 32 if "HI" in kinds else shifted
    t.put(operands[0], result)


def _scaled_add(t: Registers, kinds: list[str], operands: tuple[str, ...]) -> None:
    last = max(i for i, one in enumerate(operands) if not is_predicate(one))
    carries = [one for one in operands[1:last] if is_predicate(one)]
    numbers = [t.number(one) for one in operands[1:] if not is_predicate(one)]
    numbers += [t.predicate(one) for one in operands[last + 1 :]]
    total = None
    if _known(*numbers):
        carry = numbers.pop() if last + 1 < len(operands) else 0
        low, added, *high, by = numbers
        scaled = (low | (high[0] << 32 if high else 0)) << by
        total = (scaled >> 32 & MASK if "HI" in kinds else scaled & MASK) + added + carry
    t.put(operands[0], total)
    for one in carries:
        t.decide(one, None if total is None else total >> 32 > 0)


def _half_pair(t: Registers, kinds: list[str], operands: tuple[str, ...]) -> None:
    """A way to write a constant: 0 * 0 plus two numbers of 16 bits."""
    constant = operands[1].lstrip("-") == "RZ" and not operands[4].startswith(("R", "-R"))
    t.put(operands[0], None)
    if constant:
        bits = struct.pack("<2e", float(operands[4]), float(operands[3]))
        t.put(operands[0], int.from_bytes(bits, "little"))


# The first guess at a quotient of whole numbers is a reciprocal in float32.


def _bits(x: float) -> int:
    return struct.unpack("<I", struct.pack("<f", x))[0]


def _float(bits: int | None) -> float:
    return math.nan if bits is None else struct.unpack("<f", struct.pack("<I", bits))[0]


def _to_float(t: Registers, kinds: list[str], operands: tuple[str, ...]) -> None:
    value = t.number(operands[1])
    t.put_wide(operands[0], None) if "F64" in kinds else t.put(operands[0], None if value is None else _bits(value))


def _reciprocal(t: Registers, kinds: list[str], operands: tuple[str, ...]) -> None:
    value = _float(t.number(operands[1]))
    t.put(operands[0], _bits(1 / value) if kinds == ["RCP"] and abs(value) >= 1 else None)


def _from_float(t: Registers, kinds: list[str], operands: tuple[str, ...]) -> None:
    value = _float(t.number(operands[1]))
    t.put(operands[0], int(value) if math.isfinite(value) and "F64" not in kinds else None)


# By the opcode's name; those on uniform registers have a U before it.
OPERATIONS: dict[str, Callable[[Registers, list[str], tuple[str, ...]], None]] = {
    "ISETP": _set_predicate, "PLOP3": _combine_predicates, "P2R": _predicates_to_number, "MOV": _move, "R2UR": _move,
    "S2R": _move, "S2UR": _move, "CS2R": _clear, "LDC": _load_constant, "IADD3": _add, "VIADD": _add,
    "IMAD": _multiply_add, "SEL": _select, "VIMNMX": _extreme, "IMNMX": _extreme, "VIADDMNMX": _extreme, "LOP3": _logic,
    "SHF": _shift, "LEA": _scaled_add, "HFMA2": _half_pair, "I2F": _to_float, "MUFU": _reciprocal, "F2I": _from_float,
    "IABS": _absolute,
}  # fmt: skip
OPERATIONS |= {f"U{name}": does for name, does in OPERATIONS.items()}
