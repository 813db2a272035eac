"""The machine code (SASS) of kernels, and the resources that they take."""

import os
import re
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

_INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P[T0-9]+)\s+)?([A-Z][A-Z0-9_.]*)([^;]*);")

_TABLE = ".nv.constant2."


class Instruction(NamedTuple):
    """An instruction.

    Attributes:
        address: its address in bytes.
        guard: the predicate that it depends on, such as ``"!P0"``; empty without one.
        opcode: the opcode with its suffixes.
        operands: the text behind the opcode.
    """

    address: int
    guard: str
    opcode: str
    operands: str

    @property
    def name(self) -> str:
        """The opcode without its suffixes."""
        return self.opcode.partition(".")[0]


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


def tables(file: Path | str, *arguments: str) -> dict[str, bytes]:
    """The tables of jumps (constant bank 2) of every function that has one, by its mangled name.

    Arguments are as for :func:`resources`.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [tool("cuobjdump"), "-xelf", "all", *arguments, str(Path(file).resolve())]
        subprocess.run(command, cwd=folder, capture_output=True, check=True)
        images = [one.read_bytes() for one in Path(folder).iterdir()]
    return {
        name.removeprefix(_TABLE): image[at : at + size]
        for image in images
        for name, at, size in _sections(image)
        if name.startswith(_TABLE)
    }


def _sections(image: bytes) -> list[tuple[str, int, int]]:
    """The sections of an ELF file: name, place and size."""
    (at,), (count, names) = struct.unpack_from("<Q", image, 0x28), struct.unpack_from("<HH", image, 0x3C)
    # Of a header of 64 bytes: the name's place, then place and size of the section.
    headers = [struct.unpack_from("<I20xQQ", image, at + 64 * i) for i in range(count)]
    strings = headers[names][1]
    return [(image[strings + name : image.index(b"\0", strings + name)].decode(), *where) for name, *where in headers]


def _parse(sass: str) -> list[Instruction]:
    return [
        Instruction(int(address, 16), guard, opcode, operands.strip())
        for address, guard, opcode, operands in _INSTRUCTION.findall(sass)
    ]
