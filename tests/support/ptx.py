"""Kernels written by hand for tests of the emulator, and their runs."""

import re
import struct

import numpy as np

from emulator.machine import Machine
from emulator.parse import parse

_KERNEL = """
.version 8.0
.target sm_90
.address_size 64
.extern .shared .align 16 .b8 room[];
.visible .entry kernel({parameters})
{{
  .reg .pred %p<8>;
  .reg .b16 %h<8>;
  .reg .b32 %r<16>;
  .reg .b64 %d<16>;
{body}
}}
"""
# The first instructions of every kernel: %r0 is the thread of all, %r1 the one of its block, and %d<i> the address of
# the thread's own element of array i.
_START = """
  mov.u32 %r0, %ctaid.x;
  mov.u32 %r1, %ntid.x;
  mul.lo.u32 %r0, %r0, %r1;
  mov.u32 %r1, %tid.x;
  add.u32 %r0, %r0, %r1;
"""


def run(body: str, *arrays: np.ndarray, block: int = 32, grid: int = 1, shared: int = 0) -> Machine:
    """Run ``body`` over the arrays. An array is the block of global memory behind the parameter a<i>."""
    addresses = ""
    for i, array in enumerate(arrays):
        size = array.itemsize
        addresses += f"ld.param.u64 %d{i}, [a{i}]; mul.wide.u32 %d15, %r0, {size}; add.u64 %d{i}, %d{i}, %d15;\n"
    parameters = ", ".join(f".param .u64 a{i}" for i in range(len(arrays)))
    entry = parse(_KERNEL.format(parameters=parameters, body=_START + addresses + body + "\nret;"))["kernel"]
    given = struct.pack(f"<{len(arrays)}Q", *(array.ctypes.data for array in arrays))
    order = sorted(arrays, key=lambda array: array.ctypes.data)
    blocks = tuple(np.array(x, np.uint64) for x in ([a.ctypes.data for a in order], [a.nbytes for a in order]))
    machine = Machine(entry)
    machine.run((grid,), (block,), shared, given, blocks)
    return machine


def compute(instruction: str, *sources: np.ndarray, result: str) -> np.ndarray:
    """The results of one instruction, as bits of type ``result``. Its operands are ``to``, ``a``, ``b`` and ``c``."""
    n = sources[0].size
    sources = [np.ascontiguousarray(s) for s in sources]
    bits = int(re.search(r"\d+", result.replace("bf", "f"))[0]) if result != "pred" else 32
    out = np.zeros(n, {16: np.uint16, 32: np.uint32, 64: np.uint64}[bits])
    letter = {2: "%h", 4: "%r", 8: "%d"}
    names, body = {}, ""
    for i, source in enumerate(sources):
        names["abc"[i]] = register = f"{letter[source.itemsize]}{5 + i}"
        body += f"ld.global.b{8 * source.itemsize} {register}, [%d{i}];\n"
    names["to"] = "%p1" if result == "pred" else f"{letter[bits // 8]}4"
    body += re.sub(r"\b(to|a|b|c)\b(?=[\s,;!|]|$)", lambda m: names[m[1]], instruction) + ";\n"
    if result == "pred":
        body += "selp.b32 %r4, 1, 0, %p1;\n"
    run(body + f"st.global.b{bits} [%d{len(sources)}], {letter[bits // 8]}4;", *sources, out, block=n)
    return out
