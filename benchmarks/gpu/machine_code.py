"""The machine code (SASS) of a kernel: its loops over time, their instructions, and the widths of their accesses."""

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(@!?U?P[T0-9]+\s+)?([A-Z][A-Z0-9_.]*)([^;]*);")
_TARGET = re.compile(r"0x([0-9a-f]+)\s*$")
_BITS = {"U8": 8, "S8": 8, "U16": 16, "S16": 16, "64": 64, "128": 128}
# Instructions after which control does not go on to the next one, and which have no written target.
_ENDS = ("EXIT", "RET", "BRX", "JMX")
_FLOATS = ("FADD", "FMUL", "FFMA")


class Instruction(NamedTuple):
    """An instruction.

    Attributes:
        address: its address in bytes.
        conditional: True if it depends on a predicate.
        opcode: the opcode with its suffixes.
        target: the address to which it branches, None if it is no branch.
    """

    address: int
    conditional: bool
    opcode: str
    target: int | None

    @property
    def name(self) -> str:
        """The opcode without its suffixes."""
        return self.opcode.partition(".")[0]


class Loop(NamedTuple):
    """One turn of a loop in the steady state.

    Attributes:
        instructions: the number of instructions that it issues.
        loads, stores: the accesses to global memory, counted by their width in bits per thread.
        kept, recalled: the stores to and loads from shared memory, counted in the same way.
    """

    instructions: int
    loads: dict[int, int]
    stores: dict[int, int]
    kept: dict[int, int]
    recalled: dict[int, int]

    @property
    def counts(self) -> tuple[int, int, bool]:
        """The numbers of global loads and stores, and True for stores to shared memory. These tell loops apart."""
        return sum(self.loads.values()), sum(self.stores.values()), bool(self.kept)


def tool(name: str) -> str | None:
    """The path of a program of the CUDA toolkit, or of Triton, which contains some; None if there is none."""
    folders = [Path(os.environ[v], "bin") for v in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(v)]
    folders.append(Path("/usr/local/cuda/bin"))
    try:
        import triton

        folders.append(Path(triton.__file__).parent / "backends" / "nvidia" / "bin")
    except ImportError:
        pass
    return shutil.which(name) or next((str(f / name) for f in folders if (f / name).exists()), None)


def resources(file: Path | str, *arguments: str) -> dict[str, dict[str, int]]:
    """The resources of every function: REG (registers per thread), STACK, LOCAL (bytes per thread), SHARED (per block).

    Args:
        file: a cubin, or a library that contains some.
        arguments: further arguments of cuobjdump.
    """
    command = [tool("cuobjdump"), "--dump-resource-usage", *arguments, file]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.findall(r"Function (\S+):\s*(REG:.*)", run.stdout)
    return {name: {k: int(v) for k, v in re.findall(r"(REG|STACK|LOCAL|SHARED):(\d+)", use)} for name, use in found}


def disassemble(file: Path | str, *arguments: str) -> dict[str, list[Instruction]]:
    """The code of every function by its mangled name, with arguments as for :func:`resources`."""
    run = subprocess.run([tool("cuobjdump"), "-sass", *arguments, file], capture_output=True, text=True, check=True)
    _, *parts = re.split(r"^\s*Function : (\S+)\s*$", run.stdout, flags=re.MULTILINE)
    return {name: _parse(text) for name, text in zip(parts[::2], parts[1::2], strict=True)}


def _parse(sass: str) -> list[Instruction]:
    code = []
    for address, guard, opcode, operands in _INSTRUCTION.findall(sass):
        target = _TARGET.search(operands) if opcode.startswith("BRA") else None
        # `BRA.U UP0, 0x...` has its predicate among the operands.
        conditional = bool(guard) or (target is not None and "," in operands)
        code.append(Instruction(int(address, 16), conditional, opcode, int(target[1], 16) if target else None))
    return code


def loops(code: list[Instruction], *, shortest: bool = False) -> list[Loop]:
    """The loops that access global memory, in the order of their code, each without the loops inside it.

    A turn may take several ways through the body, because options that are no constants of the kernel choose between
    them. The steady way is taken to be the one with the most accesses, then with the exponential of the Gaussian
    surrogate and no division, then with the most floating-point operations, and then the shortest.

    Args:
        code: the instructions of a function.
        shortest: choose the way with the most global accesses and then the fewest instructions instead, the way of a
            layer without a membrane.
    """
    index = {i.address: at for at, i in enumerate(code)}
    found = []
    for latch, last in enumerate(code):
        if last.target is None or last.target >= last.address:
            continue
        way = _best_way(code, index, index[last.target], latch, shortest)
        if any(i.name in ("LDG", "STG") for i in way):
            found.append(Loop(len(way), *(_widths(way, name) for name in ("LDG", "STG", "STS", "LDS"))))
    return found


def _widths(way: Iterable[Instruction], name: str) -> dict[int, int]:
    bits = (next((_BITS[s] for s in i.opcode.split(".") if s in _BITS), 32) for i in way if i.name == name)
    return dict(Counter(bits))


def _merit(i: Instruction, shortest: bool) -> tuple[int, ...]:
    if shortest:
        return (i.name in ("LDG", "STG"), -1)
    accesses = i.name in ("LDG", "STG", "LDS", "STS")
    return (accesses, (i.opcode == "MUFU.EX2") - 2 * (i.opcode == "MUFU.RCP"), i.name in _FLOATS, -1)


def _best_way(code: list[Instruction], index: dict[int, int], head: int, latch: int, shortest: bool):
    """The instructions of the best way from ``head`` to ``latch`` without a backward branch between, or []."""
    best: dict[int, tuple[tuple[int, ...], int]] = {latch: (_merit(code[latch], shortest), -1)}
    for at in range(latch - 1, head - 1, -1):
        here, onward = code[at], []
        if here.target is not None and here.target > here.address:
            onward.append(index[here.target])
        if here.conditional or (here.target is None and here.name not in _ENDS):
            onward.append(at + 1)
        mine = _merit(here, shortest)
        ways = [(tuple(map(sum, zip(mine, best[to][0], strict=True))), to) for to in onward if to in best]
        if ways:
            best[at] = max(ways)
    way, at = [], head if head in best else -1
    while at >= 0:
        way.append(code[at])
        at = best[at][1]
    return way
