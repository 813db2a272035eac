"""The device that is not there: loads the fake driver, and runs what is launched on it.

:func:`install` must come before anything imports torch. It loads a library that has the functions of libcuda and
libcudart (driver/), so torch, the CUDA module and Triton find a GPU whose memory is this process's. What is launched
there is looked up as PTX, nvcc's in the CUDA module and Triton's as it is handed to the driver, and run by
:class:`~emulator.machine.Machine`.
"""

import ctypes
import gc
import importlib.util
import math
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from . import native, ptx_files
from .machine import Machine
from .memory import Report
from .parse import parse

# The numbers of CUDA's errors.
_ILLEGAL, _ASSERT, _NO_BINARY, _UNKNOWN = 700, 710, 209, 999
_RUN, _RECORD, _REPLAY = range(3)
# Triton copies an error's text into 1,024 bytes.
_TEXT = 900


class _Geometry(ctypes.Structure):
    _fields_ = [("grid", ctypes.c_uint * 3), ("block", ctypes.c_uint * 3), ("shared", ctypes.c_uint)]


class Launch(NamedTuple):
    """A launch with its parameters copied, and the module whose PTX has the kernel (None: the CUDA module)."""

    name: str
    image: str | None
    grid: tuple[int, ...]
    block: tuple[int, ...]
    shared: int
    params: bytes


class Loaded(NamedTuple):
    """A kernel, and the memory of its module's variables."""

    machine: Machine
    variables: np.ndarray


class Device:
    """The emulated device of this process.

    Attributes:
        launches, threads, executed, seconds: what was run so far.
        kernels: the names of the kernels that ran; Triton's with the digest of their PTX.
        most: launches of more threads do nothing; None runs all.
        edit: changes a kernel's PTX before it is parsed, for tests that break it; None leaves it.
    """

    def __init__(self, library: ctypes.CDLL):
        self._library = library
        # The smallest of the devices: one emulated machine with several is for tests of the choice among them.
        self.capability = min(round(10 * float(one)) for one in os.environ["HNN_EMULATE"].split(","))
        self.launches = self.threads = self.executed = 0
        self.seconds = 0.0
        self.kernels: set[str] = set()
        self.most: int | None = None
        self.edit: Callable[[str, str], str] | None = None
        self._loaded: dict[tuple[str, str | None, object], Loaded] = {}
        self._recorded: list[Launch] = []
        kind = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.POINTER(_Geometry),
            ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_int),
        )  # fmt: skip
        self._hook = kind(self._on_launch)  # kept, because C calls it
        library.hnn_fake_blocks.restype = ctypes.c_size_t
        library.hnn_fake_set_hook(self._hook)

    def carveout(self, kernel: str) -> int | None:
        """The share of a multiprocessor's memory, in per cent, that was asked for a CUDA kernel; None if none was."""
        found = self._library.hnn_fake_carveout(kernel.encode())
        return None if found < 0 else found

    def _on_launch(self, action, name, image, geometry, params, number) -> int:
        try:
            if action == _REPLAY:
                return self._run(self._recorded[number[0]])
            text = ctypes.string_at(image).decode() if image else None
            loaded = self._load(name.decode(), text)
            given = bytearray(loaded.machine.entry.parameter_bytes)
            for i, one in enumerate(loaded.machine.entry.parameters.values()):
                given[one.offset : one.offset + one.size] = ctypes.string_at(params[i], one.size)
            shape = geometry[0]
            launch = Launch(name.decode(), text, tuple(shape.grid), tuple(shape.block), shape.shared, bytes(given))
            if action == _RECORD:
                self._recorded.append(launch)
                number[0] = len(self._recorded) - 1
                return 0
            return self._run(launch)
        except KeyError as missing:
            return self._fail(_NO_BINARY, f"no PTX for {missing}")
        except Report as report:
            return self._fail(_ASSERT if "assertion" in str(report) else _ILLEGAL, str(report))
        except BaseException as error:
            traceback.print_exc()
            return self._fail(_UNKNOWN, f"the emulator: {type(error).__name__}: {error}")

    def _fail(self, code: int, text: str) -> int:
        self._library.hnn_fake_report(text.encode()[:_TEXT])
        return code

    def _load(self, name: str, image: str | None) -> Loaded:
        key = (name, image, self.edit)
        if key not in self._loaded:
            text = image if image is not None else ptx_files.of_cuda_module(self.capability)[name]
            entry = parse(self.edit(name, text) if self.edit else text)[name]
            size = max((v.offset + v.size for v in entry.variables.values()), default=0)
            variables = np.zeros(size + 16, np.uint8)
            for variable in entry.variables.values():
                content = np.frombuffer(variable.content, np.uint8)
                variables[variable.offset : variable.offset + content.size] = content
            self._loaded[key] = Loaded(Machine(entry, variables.ctypes.data), variables)
        return self._loaded[key]

    def _blocks(self, extra: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        count = self._library.hnn_fake_blocks(None, None, ctypes.c_size_t(0))
        starts, sizes = np.zeros((2, count + 1), np.uint64)
        pointers = (ctypes.c_void_p(a.ctypes.data) for a in (starts, sizes))
        self._library.hnn_fake_blocks(*pointers, ctypes.c_size_t(count))
        starts[count], sizes[count] = extra.ctypes.data, extra.size
        order = np.argsort(starts)
        return starts[order], sizes[order]

    def _run(self, launch: Launch) -> int:
        if self.most is not None and math.prod(launch.grid) * math.prod(launch.block) > self.most:
            return 0
        started = time.perf_counter()
        loaded = self._load(launch.name, launch.image)
        machine = loaded.machine
        machine.run(launch.grid, launch.block, launch.shared, launch.params, self._blocks(loaded.variables))
        self.launches += 1
        self.threads += machine.count
        self.executed += machine.executed
        self.seconds += time.perf_counter() - started
        self.kernels.add(launch.name if launch.image is None else f"{launch.name} {hash(launch.image) & 0xFFFFFFFF:x}")
        return 0


device: Device | None = None


def _strict() -> bool:
    """True if the real ptxas must take Triton's code too."""
    return os.environ.get("HNN_EMULATE_PTXAS", "").strip() == "1"


def _stand_ins(folder: Path) -> dict[str, str]:
    """Programs that Triton calls as ptxas. They hand it PTX in the place of a cubin.

    With HNN_EMULATE_PTXAS=1 they do so only after the real ptxas has taken it.
    """
    triton = importlib.util.find_spec("triton")
    if triton is None:
        return {}
    strict = _strict()
    found = {}
    for name in ("ptxas", "ptxas-blackwell"):
        real = Path(triton.origin).parent / "backends/nvidia/bin" / name
        script = folder / f"{name}{'-too' if strict else ''}"
        new = script.with_name(f"{script.name}.{os.getpid()}")
        new.write_text(_STAND_IN.format(real=real, first=f'{real} "$@" || exit' if strict else ""))
        new.chmod(0o755)
        new.rename(script)
        found[f"TRITON_{name.upper().replace('-', '_')}_PATH"] = str(script)
    return found


_STAND_IN = """#!/bin/sh
case "$*" in *--version*) exec {real} --version;; esac
{first}
while [ $# -gt 0 ]; do
  case "$1" in *.ptx) from="$1";; -o) to="$2"; shift;; esac
  shift
done
exec cp "$from" "$to"
"""


def install(run: bool = True) -> Device | None:
    """Load the fake driver; with ``run`` also run what is launched, else a launch does nothing.

    Raises:
        RuntimeError: torch is imported already.
    """
    global device

    if "torch" in sys.modules:
        raise RuntimeError("the device that is not there must be installed before torch is imported")
    path = native.driver()
    os.environ["TRITON_LIBCUDA_PATH"] = str(path.parent)
    # Triton links to the library by this name; the loader finds the one that is loaded already.
    library = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    if run:
        # One block of memory for each tensor, so that its bounds are known.
        os.environ["PYTORCH_NO_CUDA_MEMORY_CACHING"] = "1"
        os.environ.update(_stand_ins(path.parent))
        os.environ["TRITON_CACHE_DIR"] = str(native.BUILD / ("triton-ptxas" if _strict() else "triton"))
        # A prepared kernel is many small functions, and each collection would go over all of them.
        gc.set_threshold(200_000, 20, 20)
        device = Device(library)
    return device
