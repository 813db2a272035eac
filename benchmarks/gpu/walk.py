"""The instructions that a thread of a kernel executes: a walk through its machine code (SASS) with a call's parameters.

Control in the kernels depends on whole numbers that come from the parameters and from the thread's number. The walk
computes those (whole_numbers.py). What it does not compute, floating-point numbers, what memory holds, is unknown; a
branch that depends on such a value ends the walk with an error.
"""

import functools
import re
from collections import Counter, defaultdict
from typing import NamedTuple

from .machine_code import Instruction
from .whole_numbers import MASK, OPERATIONS, Constants, Registers, is_predicate, split

# The address of the parameters in the constant bank, by compute capability.
PARAMETERS = {80: 0x160, 90: 0x210, 100: 0x380}
# In clocks, from https://pmc.ncbi.nlm.nih.gov/articles/PMC10448217/table/t0015, but for the memory and the L2 cache:
# their latencies under load are assumed, 700 ns and 170 ns at 1.755 GHz.
MEMORY_LATENCY = 1228
INSTRUCTION_BYTES = 16
SECTOR = 32  # bytes that a prefetch brings
CACHE_LATENCY = 300
_LATENCY = {"LDG": MEMORY_LATENCY, "LDS": 30, "LDC": 30, "ULDC": 30, "S2R": 30, "S2UR": 30, "MUFU": 20, "F2F": 20}
_OTHER_LATENCY = 4
_BITS = {"U8": 8, "S8": 8, "U16": 16, "S16": 16, "64": 64, "128": 128}
_ACCESSES = ("LDG", "STG", "LDS", "STS", "LDL", "STL")
# What has no result.
_SILENT = ("NOP", "CCTL", "BSSY", "BSYNC", "WARPSYNC", "STG", "STS", "STL", "DEPBAR", "BAR")
_LIMIT = 10**6


class Walked(NamedTuple):
    """The work of one thread.

    Attributes:
        instructions: those that were issued for it, also where their guard was false.
        bytes: the bytes that it accessed, by opcode: LDG, STG, LDS, STS, LDL, STL.
        clocks: the time that it takes alone, with every load of global memory as late as under load. What a prefetch
            (CCTL) asked for, its own or that of a thread that shares the sector, comes from the L2 cache, and so does
            what the thread stored.
        waiting: the time that it takes alone if arithmetic takes no time but that of its issue.
    """

    instructions: int
    bytes: Counter[str]
    clocks: int
    waiting: int


class UnknownError(Exception):
    """The walk met a branch that depends on what it does not know."""


def _bytes(kinds: list[str]) -> int:
    return next((_BITS[k] for k in kinds if k in _BITS), 32) // 8


def _words(kinds: list[str]) -> int:
    return 4 if "128" in kinds else 2 if {"64", "F64", "WIDE"} & set(kinds) else 1


@functools.cache
def _numbers(operand: str) -> list[str]:
    """The registers in an operand."""
    found = []
    for kind, number, pair in re.findall(r"\b(U?R)(\d+)(\.64)?", operand):
        found += [f"{kind}{int(number) + k}" for k in range(2 if pair else 1)]
    return found


# The prefetches of the threads that share sectors, by sector. Each is known by the loads of its thread before it, and
# by the prefetches since the last of those: a warp's threads issue those of a kind together.
_Asked = defaultdict[int, set[tuple[int, int]]]


class _Clock:
    """The time of one warp alone: an instruction waits for its operands, and for the one before it.

    Args:
        asked: the prefetches.
        arithmetic: that operations take time behind their issue. Without, only loads of global memory do.
    """

    def __init__(self, asked: _Asked, *, arithmetic: bool):
        self.now = 0
        self.asked = asked
        self.issued: dict[tuple[int, int], int] = {}  # the prefetches, and when
        self.loads, self.prefetches = 0, 0
        self.stored: set[int] = set()  # sectors
        self.arithmetic = arithmetic
        self.ready: defaultdict[str, int] = defaultdict(int)

    def issue(self, here: Instruction, operands: tuple[str, ...], sector: int | None, *, runs: bool) -> None:
        """Issue an instruction, which accesses a sector of global memory or none. It has no result unless it runs."""
        result = () if here.name in _SILENT else operands[:1]
        sources = [one for operand in operands[len(result) :] for one in _numbers(operand)]
        sources += [operand.lstrip("!") for operand in operands[1:] if is_predicate(operand)]
        self.now = 1 + max([self.now, self.ready[here.guard.lstrip("!")], *(self.ready[one] for one in sources)])
        if not runs:
            return
        done = self.now + self._latency(here.name, sector)
        for one in result:
            match = re.fullmatch(r"(U?R)(\d+)", one)
            if match:
                for k in range(_words(here.opcode.split("."))):
                    self.ready[f"{match[1]}{int(match[2]) + k}"] = done
            elif is_predicate(one):
                self.ready[one] = done

    def _latency(self, name: str, sector: int | None) -> int:
        if name == "LDG":
            self.loads, self.prefetches = self.loads + 1, 0
            return self._load(sector)
        if name == "CCTL":
            self.issued[self.loads, self.prefetches] = self.now
            self.prefetches += 1
        elif name == "STG":
            self.stored.add(sector)
        return _LATENCY.get(name, _OTHER_LATENCY) if self.arithmetic else 0

    def _load(self, sector: int | None) -> int:
        if sector is None:
            return MEMORY_LATENCY
        if sector in self.stored:
            return CACHE_LATENCY
        # The threads that share a sector are not those of one warp where rows begin anywhere in it.
        asked = [self.issued[one] for one in self.asked[sector] | self.asked[sector + 1] if one in self.issued]
        return max(CACHE_LATENCY, max(asked) + MEMORY_LATENCY - self.now) if asked else MEMORY_LATENCY


def walk(code: list[Instruction], parameters: bytes, capability: int, block: int, tables: bytes = b"") -> Walked:
    """Walk through a kernel as the first thread of its grid.

    Args:
        code: the kernel's instructions.
        parameters: the bytes of its parameters.
        capability: the compute capability, a key of ``PARAMETERS``.
        block: the threads of a block.
        tables: the kernel's tables of jumps.

    Raises:
        UnknownError: a branch depends on what the walk does not know.
    """
    bank = Constants(block, parameters, PARAMETERS[capability], tables)
    asked = _Asked(set)
    if any(one.name == "CCTL" for one in code):
        least = min(_bytes(one.opcode.split(".")) for one in code if one.name == "LDG")
        for thread in range(SECTOR // least):
            _walk(code, bank._replace(thread=thread), asked, clocks=[])
    return _walk(code, bank, asked, clocks=[_Clock(asked, arithmetic=True), _Clock(asked, arithmetic=False)])


def _walk(code: list[Instruction], constants: Constants, asked: _Asked, clocks: list[_Clock]) -> Walked:
    """Walk as one thread, whose prefetches are added to ``asked``."""
    t = Registers(constants)
    accessed: Counter[str] = Counter()
    index = {one.address: at for at, one in enumerate(code)}
    at, loads, prefetches = 0, 0, 0
    for count in range(1, _LIMIT):
        here = code[at]
        at += 1
        name, *kinds = here.opcode.split(".")
        operands = split(here.operands)
        runs = t.predicate(here.guard) if here.guard else True
        sector = _sector(t, here.operands) if name in ("CCTL", "LDG", "STG") and runs is not False else None
        if name == "LDG" and runs is not False:
            loads, prefetches = loads + 1, 0
        elif name == "CCTL" and runs is not False:
            if sector is not None:
                asked[sector].add((loads, prefetches))
            prefetches += 1
        for clock in clocks:
            clock.issue(here, operands, sector, runs=runs is not False)
        if name in ("BRA", "EXIT", "RET", "CALL", "BRX"):
            if name == "BRA" and len(operands) > 1:
                also = t.predicate(operands[0])
                runs = False if False in (runs, also) else None if None in (runs, also) else True
            if runs is None:
                raise UnknownError(f"{here.address:#x}: {here.guard} {here.opcode} {here.operands}")
            if not runs:
                continue
            if name == "EXIT":
                return Walked(count, accessed, *([clock.now for clock in clocks] or (0, 0)))
            to = _target(t, here, operands)
            if to not in index:
                raise UnknownError(f"{here.address:#x}: {here.opcode} {here.operands}")
            at = index[to]
            continue
        if runs is False:
            continue
        if name in _ACCESSES:
            accessed[name] += _bytes(kinds)
        if name not in _SILENT:
            _execute(t, name, kinds, operands, sure=runs is True)
    raise UnknownError(f"no end after {_LIMIT} instructions")


def _target(t: Registers, here: Instruction, operands: tuple[str, ...]) -> int | None:
    """The address that a branch goes to; None where it is unknown."""
    if here.name not in ("RET", "BRX"):
        return int(operands[-1], 16)
    register, *further = operands[0].split()
    to = t.number(register)
    if here.name == "RET" or to is None:
        return to
    return (to + int(further[0], 16) + here.address + INSTRUCTION_BYTES) & MASK  # from the next instruction on


def _sector(t: Registers, operands: str) -> int | None:
    """The sector of global memory that an instruction accesses; None where it is unknown."""
    name, further = re.search(r"\[(\w+)(?:\.\w+)*(?:\+?(-?0x[0-9a-f]+))?\][^\[]*$", operands).groups()
    low, high = t.number(name), t.number(name, 1)
    return None if low is None or high is None else ((high << 32 | low) + int(further or "0", 16)) // SECTOR


def _execute(t: Registers, name: str, kinds: list[str], operands: tuple[str, ...], *, sure: bool) -> None:
    """Carry out an instruction. Where it is unknown, or it is unknown if it runs, its results are."""
    if name in OPERATIONS and sure:
        OPERATIONS[name](t, kinds, operands)
        return
    if name == "F2F":  # to and from
        kinds = kinds[:1]
    words = 2 if name in ("CS2R",) or name[0] == "D" else _words(kinds)
    for one in operands[:2]:
        if is_predicate(one):
            t.decide(one, None)
    for k in range(words):
        t.put(next((one for one in operands if not is_predicate(one)), ""), None, k)
