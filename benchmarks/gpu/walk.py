"""The instructions that a thread of a kernel executes: a walk through its machine code (SASS) with a call's parameters.

Control in the kernels depends on whole numbers that come from the parameters and from the thread's number. The walk
computes those (whole_numbers.py). What it does not compute, floating-point numbers, what memory holds, is unknown; a
branch that depends on such a value ends the walk with an error.
"""

import re
from collections import Counter, defaultdict
from typing import NamedTuple

from .machine_code import Instruction
from .whole_numbers import OPERATIONS, Constants, Registers, is_predicate, split

# The address of the parameters in the constant bank, by compute capability.
PARAMETERS = {80: 0x160, 90: 0x210, 100: 0x380}
# In clocks, from https://pmc.ncbi.nlm.nih.gov/articles/PMC10448217/table/t0015, but for the memory and the L2 cache:
# their latencies under load are assumed, 700 ns and 170 ns at 1.755 GHz.
MEMORY_LATENCY = 1228
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
        clocks: the time that it takes alone, with every load of global memory as late as under load. Behind a prefetch
            (CCTL) the loads are taken to be of what was asked for, up to the next one.
    """

    instructions: int
    bytes: Counter[str]
    clocks: int


class UnknownError(Exception):
    """The walk met a branch that depends on what it does not know."""


def _words(kinds: list[str]) -> int:
    return 4 if "128" in kinds else 2 if {"64", "F64", "WIDE"} & set(kinds) else 1


def _numbers(operand: str) -> list[str]:
    """The registers in an operand."""
    found = []
    for kind, number, pair in re.findall(r"\b(U?R)(\d+)(\.64)?", operand):
        found += [f"{kind}{int(number) + k}" for k in range(2 if pair else 1)]
    return found


class _Clock:
    """The time of one warp alone: an instruction waits for its operands, and for the one before it."""

    def __init__(self):
        self.now = 0
        self.arrives = 0  # in the L2 cache, what was asked for
        self.ready: defaultdict[str, int] = defaultdict(int)

    def issue(self, here: Instruction, operands: list[str]) -> None:
        result = () if here.name in _SILENT else operands[:1]
        sources = [one for operand in operands[len(result) :] for one in _numbers(operand)]
        sources += [operand.lstrip("!") for operand in operands[1:] if is_predicate(operand)]
        self.now = 1 + max([self.now, self.ready[here.guard.lstrip("!")], *(self.ready[one] for one in sources)])
        done = self.now + _LATENCY.get(here.name, _OTHER_LATENCY)
        if here.name == "CCTL":
            self.arrives = self.now + MEMORY_LATENCY
        elif here.name == "LDG" and self.arrives:
            done = max(self.now + CACHE_LATENCY, self.arrives)
        for one in result:
            match = re.fullmatch(r"(U?R)(\d+)", one)
            if match:
                for k in range(_words(here.opcode.split("."))):
                    self.ready[f"{match[1]}{int(match[2]) + k}"] = done
            elif is_predicate(one):
                self.ready[one] = done


def walk(code: list[Instruction], parameters: bytes, capability: int, block: int) -> Walked:
    """Walk through a kernel as the first thread of its grid.

    Args:
        code: the kernel's instructions.
        parameters: the bytes of its parameters.
        capability: the compute capability, a key of ``PARAMETERS``.
        block: the threads of a block.

    Raises:
        UnknownError: a branch depends on what the walk does not know.
    """
    t = Registers(Constants(block, parameters, PARAMETERS[capability]))
    clock, accessed = _Clock(), Counter()
    index = {one.address: at for at, one in enumerate(code)}
    at = 0
    for count in range(1, _LIMIT):
        here = code[at]
        at += 1
        name, *kinds = here.opcode.split(".")
        operands = split(here.operands)
        clock.issue(here, operands)
        runs = t.predicate(here.guard) if here.guard else True
        if name in ("BRA", "EXIT", "RET", "CALL", "BRX"):
            if name == "BRA" and len(operands) > 1:
                also = t.predicate(operands[0])
                runs = False if False in (runs, also) else None if None in (runs, also) else True
            if runs is None or name == "BRX":
                raise UnknownError(f"{here.address:#x}: {here.guard} {here.opcode} {here.operands}")
            if not runs:
                continue
            if name == "EXIT":
                return Walked(count, accessed, clock.now)
            to = t.number(operands[0].split()[0]) if name == "RET" else int(operands[-1], 16)
            if to not in index:
                raise UnknownError(f"{here.address:#x}: {here.opcode} {here.operands}")
            at = index[to]
            continue
        if runs is False:
            continue
        if name in _ACCESSES:
            accessed[name] += next((_BITS[k] for k in kinds if k in _BITS), 32) // 8
        if name not in _SILENT:
            _execute(t, name, kinds, operands, sure=runs is True)
    raise UnknownError(f"no end after {_LIMIT} instructions")


def _execute(t: Registers, name: str, kinds: list[str], operands: list[str], *, sure: bool) -> None:
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
