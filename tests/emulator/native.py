"""The emulator's C++: compiled once for these sources, and kept in the folder `build`."""

import ctypes
import functools
import hashlib
import os
import site
import subprocess
import sysconfig
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
BUILD = HERE.parent.parent / "build" / "emulator"
DRIVER_SOURCES = ("driver/driver.cpp", "driver/runtime.cpp")
DRIVER_HEADERS = ("driver/fake.h", "driver/graph.h")


def compiled(name: str, sources: tuple[str, ...], headers: tuple[str, ...] = (), flags: tuple[str, ...] = ()) -> Path:
    """The path of a shared library ``name``, compiled from the sources unless it is there."""
    texts = [(HERE / file).read_bytes() for file in (*sources, *headers)]
    digest = hashlib.sha256(b"\0".join([*texts, " ".join(flags).encode()])).hexdigest()[:16]
    library = BUILD / digest / name
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        new = library.with_name(f"{name}.{os.getpid()}")
        compiler = (os.environ.get("CXX") or "c++").split()
        command = [*compiler, "-std=c++17", "-O2", "-ffp-contract=off", "-fPIC", "-shared", f"-Wl,-soname,{name}"]
        subprocess.run([*command, *flags, *(HERE / s for s in sources), "-o", new], check=True)
        new.rename(library)  # at once, so that two processes may do this
    return library


def _packages() -> list[Path]:
    return [Path(p) for p in dict.fromkeys([sysconfig.get_path("purelib"), *site.getsitepackages(), *os.sys.path]) if p]


def cuda_headers() -> list[Path]:
    """The folders with the headers of the CUDA runtime that torch was built for; [] if they are not installed."""
    places = ("nvidia/cu13/include", "nvidia/cuda_runtime/include", "triton/backends/nvidia/include")
    found = [folder / place for place in places for folder in _packages() if (folder / place).is_dir()]
    return found if any((folder / "cuda_runtime_api.h").exists() for folder in found) else []


def driver() -> Path:
    """The path of the fake libcuda.so.1."""
    flags = tuple(f"-I{folder}" for folder in cuda_headers())
    return compiled("libcuda.so.1", DRIVER_SOURCES, DRIVER_HEADERS, flags)


@functools.cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(compiled("libhnn_emulator.so", ("native.cpp",)))


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _elementwise(function: str, *arrays: np.ndarray) -> np.ndarray:
    arrays = [np.ascontiguousarray(a) for a in np.broadcast_arrays(*arrays)]
    out = np.empty_like(arrays[0])
    getattr(_library(), function)(*map(_pointer, arrays), _pointer(out), ctypes.c_int64(out.size))
    return out


def fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """``a * b + c``, rounded once."""
    return _elementwise("hnn_fma_f32" if a.dtype == np.float32 else "hnn_fma_f64", a, b, c)


def high(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The upper 64 bits of the product of 64-bit integers."""
    return _elementwise("hnn_high_u64" if a.dtype == np.uint64 else "hnn_high_s64", a, b)


def gather(addresses: np.ndarray, size: int) -> np.ndarray:
    """The bytes at the addresses, [n, size]."""
    out = np.empty((addresses.size, size), np.uint8)
    addresses = np.ascontiguousarray(addresses, np.uint64)
    _library().hnn_gather(_pointer(addresses), _pointer(out), ctypes.c_int64(size), ctypes.c_int64(addresses.size))
    return out


def scatter(addresses: np.ndarray, values: np.ndarray) -> None:
    """Write the bytes, [n, size], to the addresses."""
    addresses, values = np.ascontiguousarray(addresses, np.uint64), np.ascontiguousarray(values)
    n, size = values.shape
    _library().hnn_scatter(_pointer(addresses), _pointer(values), ctypes.c_int64(size), ctypes.c_int64(n))
