"""What a kernel's machine code (SASS) says: its loops over time, what they issue, and how wide their accesses are."""

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
# Where control does not go on to the next instruction, and no target is written.
_ENDS = ("EXIT", "RET", "BRX", "JMX")
_FLOATS = ("FADD", "FMUL", "FFMA")


class Instruction(NamedTuple):
    """``address`` and ``target`` (of a branch) in bytes; whether what it does depends on a predicate; the opcode."""

    address: int
    conditional: bool
    opcode: str
    target: int | None

    @property
    def name(self) -> str:
        """The opcode without its suffixes."""
        return self.opcode.partition(".")[0]


class Loop(NamedTuple):
    """One turn of a loop in the steady state: how many instructions it issues, and of these how many access memory.

    ``loads`` and ``stores`` (global memory), ``kept`` and ``recalled`` (shared memory, stores and loads) count the
    accesses by their width in bits per thread.
    """

    instructions: int
    loads: dict[int, int]
    stores: dict[int, int]
    kept: dict[int, int]
    recalled: dict[int, int]

    @property
    def counts(self) -> tuple[int, int, bool]:
        """Global loads and stores, and whether anything is kept in shared memory: by these loops are told apart."""
        return sum(self.loads.values()), sum(self.stores.values()), bool(self.kept)


def tool(name: str) -> str | None:
    """A program of the CUDA toolkit; Triton brings some of them along."""
    folders = [Path(os.environ[v], "bin") for v in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(v)]
    folders.append(Path("/usr/local/cuda/bin"))
    try:
        import triton

        folders.append(Path(triton.__file__).parent / "backends" / "nvidia" / "bin")
    except ImportError:
        pass
    return shutil.which(name) or next((str(f / name) for f in folders if (f / name).exists()), None)


def resources(file: Path | str, *arguments: str) -> dict[str, dict[str, int]]:
    """Of every function: REG (registers per thread), STACK and LOCAL (bytes per thread), SHARED (bytes per block)."""
    command = [tool("cuobjdump"), "--dump-resource-usage", *arguments, file]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.findall(r"Function (\S+):\s*(REG:.*)", run.stdout)
    return {name: {k: int(v) for k, v in re.findall(r"(REG|STACK|LOCAL|SHARED):(\d+)", use)} for name, use in found}


def disassemble(file: Path | str, *arguments: str) -> dict[str, list[Instruction]]:
    """The functions in a cubin, or in a library that contains some, by their mangled names."""
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
    """The loops that access global memory, in the order of their code, each without the loops within it.

    A turn may take several ways through the body, and options that are no constants of the kernel choose between them.
    The steady one is taken to be that with the most accesses, with the exponential of the Gaussian surrogate and no
    division, with the most floating-point operations, and of these the shortest. ``shortest``: with the most global
    accesses and then the fewest instructions, which is what a layer without a membrane takes.
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
    """The instructions of the best way from ``head`` to ``latch`` without a branch backward between; [] for none."""
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
