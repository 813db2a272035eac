"""Instructions that move values between the parts of a register, and between the threads of a warp."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from . import kinds
from .memory import Report
from .parse import Instruction, PTXError

if TYPE_CHECKING:
    from .machine import Machine

_WARP = 32


def _or_ones(source: Callable, dtype) -> Callable:
    """The value of a source; bits of ones where nothing has written it, for a half of a pair may be of no use."""

    def value():
        try:
            return source()
        except Report:
            return ~dtype(0)

    return value


def pack(machine: "Machine", i: Instruction) -> Callable:
    """``mov`` between a register and the parts of a vector."""
    kind = f"b{kinds.bits(i.opcode[-1])}"
    to, source = i.operands
    parts = [part.strip() for part in (to if "{" in to else source).strip("{} ").split(",")]
    width = kinds.bits(kind) // len(parts)
    part_type, whole_type = kinds.UNSIGNED[width], kinds.UNSIGNED[kinds.bits(kind)]
    if "{" in to:
        whole, writes = machine.source(source, kind), [machine.target(part, f"b{width}") for part in parts]

        def split():
            value = whole()
            for k, write in enumerate(writes):
                write((value >> whole_type(k * width)).astype(part_type))

        return split
    sources = [_or_ones(machine.source(part, f"b{width}"), part_type) for part in parts]
    write = machine.target(to, kind)

    def join():
        value = whole_type(0)
        for k, part in enumerate(sources):
            value = value | part().astype(whole_type) << whole_type(k * width)
        write(value)

    return join


def shuffle(machine: "Machine", i: Instruction) -> Callable:
    """A value of the thread whose number in the warp differs in the bits of the second operand."""
    to, source, bits, clamp, members = i.operands
    if not re.fullmatch(r"0x0*1[fF]|31", clamp) or not re.fullmatch(r"-1|0x0*[fF]{8}", members):
        raise PTXError(i.text)
    value, lanes, write = machine.source(source, "b32"), machine.source(bits, "u32"), machine.target(to, "b32")

    def exchange():
        partner = machine.all ^ lanes().astype(np.int64)
        warps = machine.active // _WARP
        if np.bincount(warps)[np.unique(warps)].min() < _WARP:
            raise Report("a shuffle in which not all threads of the warp take part")
        write(np.broadcast_to(value(), (machine.count,))[partner])

    return exchange
