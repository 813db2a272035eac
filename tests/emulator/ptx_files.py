"""The PTX in the CUDA module, taken out once for each build of it."""

import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.gpu.machine_code import tool

from .native import BUILD


def module_path() -> Path | None:
    """The CUDA module's file, None if it is not built."""
    from hnn_kernels import _extensions  # not before the device is there, since it imports torch

    return next(_extensions.PACKAGE.glob(f"{_extensions.CUDA}.*so"), None)


_ENTRY = re.compile(r"^[ \t]*(?:\.visible\s+|\.weak\s+)?\.entry\s+([\w$]+)", re.MULTILINE)
_VARIABLES = re.compile(r"^\.(?:extern|global|const|visible|shared)\b[^;{(]*(?:\{[^}]*\})?;", re.MULTILINE)


class Entries(Mapping):
    """The text of each kernel by its mangled name, with its module's variables."""

    def __init__(self, texts: list[str]):
        self._places = {}
        for text in texts:
            found = list(_ENTRY.finditer(text))
            if found:
                header = "\n".join([text[: found[0].start()], *_VARIABLES.findall(text, found[0].start())])
                ends = [match.start() for match in found[1:]] + [len(text)]
                for match, end in zip(found, ends, strict=True):
                    self._places[match[1]] = header, text, match.start(), end

    def __getitem__(self, name: str) -> str:
        header, text, start, end = self._places[name]
        return header + "\n" + text[start : text.rindex("}", start, end) + 1]

    def __iter__(self):
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _extracted(module: Path, folder: Path) -> None:
    with tempfile.TemporaryDirectory() as work:
        command = [tool("cuobjdump"), "-xptx", "all", module.resolve()]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
        if done.returncode and "does not contain" not in done.stdout + done.stderr:
            raise RuntimeError(f"cuobjdump: {done.stderr or done.stdout}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = folder.with_name(f"{folder.name}.{os.getpid()}")
        new.mkdir()
        for file in Path(work).glob("*.ptx"):
            (new / file.name).write_text(file.read_text())
        try:
            new.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(new)


@functools.cache
def _files() -> dict[int, list[Path]]:
    """The files with PTX out of the CUDA module, by their architectures."""
    module = module_path()
    if module is None or tool("cuobjdump") is None:
        return {}
    digest = hashlib.sha256(module.read_bytes()).hexdigest()[:16]
    folder = BUILD / f"cuda-{digest}"
    if not folder.exists():
        _extracted(module, folder)
    found: dict[int, list[Path]] = {}
    for file in sorted(folder.glob("*.ptx")):
        found.setdefault(int(re.search(r"\.sm_(\d+)", file.name)[1]), []).append(file)
    return found


def targets() -> list[int]:
    """The architectures that the CUDA module has PTX for, such as 90."""
    return sorted(_files())


@functools.cache
def of_cuda_module(capability: int) -> Entries:
    """The PTX that a driver would take on a device of this capability, such as 90: that of the highest architecture."""
    fitting = [one for one in targets() if one <= capability]
    return Entries([file.read_text() for file in _files()[fitting[-1]]] if fitting else [])
