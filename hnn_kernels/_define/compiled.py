"""Compile a source on first use, and keep it on disk by what it was made of.

An entry is a library, whose name has the digest of its bytes, and a record, whose name has the digest of everything
that the library was made of: source, headers, flags, compiler, machine. The record names the library and is written
last, by an atomic rename. An entry that is not ours, or whose bytes are not those of its record, is made again.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import stat
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from .. import _compiler, _extensions

# The sources that a neuron's source includes: in a clone, or as the installed package has them (setup.py).
CSRC = _extensions.CSRC if _extensions.CLONE else _extensions.PACKAGE / "csrc"
_lock = threading.Lock()
# Libraries stay loaded as long as the process, since calls know their addresses.
_loaded: dict[str, ctypes.CDLL] = {}


class CompilerError(RuntimeError):
    """A neuron's kernels cannot be compiled here."""


def folder() -> Path:
    """Return the folder of the entries, made if it is not there.

    Raises:
        CompilerError: it cannot be made, or others may write into it.
    """
    given = os.environ.get("HNN_CACHE_DIR", "").strip()
    base = os.environ.get("XDG_CACHE_HOME", "").strip()
    found = Path(given) if given else (Path(base) if base else Path.home() / ".cache") / "hnn_kernels"
    try:
        found.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CompilerError(f"{found} cannot be made ({error}): set HNN_CACHE_DIR to a folder of your own") from error
    if not _ours(found):
        raise CompilerError(
            f"{found} belongs to, or is open to, another user: set HNN_CACHE_DIR to a folder of your own"
        )
    return found


def _ours(path: Path) -> bool:
    """Tell if a file or folder belongs to this user, and nobody else may write it."""
    found = path.stat()
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


@functools.cache
def _flags() -> dict:
    return tomllib.loads((CSRC / "flags.toml").read_text())


@functools.cache
def _headers() -> str:
    """Return the digest of the headers that a source may include."""
    found = hashlib.sha256()
    for name in _flags()["defined"]["headers"]:
        found.update(f"{name}\n".encode() + (CSRC / name).read_bytes())
    return found.hexdigest()


@functools.cache
def _version(compiler: str) -> str:
    told = subprocess.run([*shlex.split(compiler), "--version"], capture_output=True, text=True, check=False)
    return told.stdout


def _compiler_of_the_machine() -> str:
    try:
        compiler = _compiler.find_compiler()
    except ValueError as error:
        raise CompilerError(f"{error}; backend='reference' needs no compiler") from error
    if compiler is None:
        raise CompilerError(
            "the kernels of a defined neuron are compiled at its first call, and there is no C++ compiler (c++, g++ or "
            "clang++ on the path, or the command in CXX); backend='reference' needs none"
        )
    return compiler


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock among processes. Where the system has none, two processes may do the same work, and no harm."""
    with open(path, "w") as file:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _written(record: Path, library: bytes) -> Path:
    """Write an entry; return the path of its library."""
    digest = hashlib.sha256(library).hexdigest()
    path = record.with_name(f"{record.stem}-{digest[:16]}.so")
    for target, content in ((path, library), (record, f"{digest} {path.name}\n".encode())):
        handle, temporary = tempfile.mkstemp(dir=record.parent)
        with open(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, target)
    return path


def _known(record: Path) -> Path | None:
    """Return the library of a record; None where there is none, or where it is not what was written."""
    try:
        if not _ours(record):
            return None
        digest, name = record.read_text().split()
        path = record.with_name(name)
        if path.parent != record.parent or not _ours(path):
            return None
        return path if hashlib.sha256(path.read_bytes()).hexdigest() == digest else None
    except (OSError, ValueError):
        return None


def _compile(command: Sequence[str], source: str, record: Path, what: str) -> Path:
    print(f"hnn_kernels: compiling {what}, once: it is kept in {record.parent}", file=sys.stderr, flush=True)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=record.parent) as place:
        source_file, library = Path(place, "neuron.cpp"), Path(place, "neuron.so")
        source_file.write_text(source)
        done = subprocess.run(
            [*command, str(source_file), "-o", str(library)], capture_output=True, text=True, check=False
        )
        if done.returncode or not library.exists():
            raise CompilerError(
                f"{shlex.join(command)} failed on {what}: {(done.stderr or done.stdout)[-2000:]}\n"
                "backend='reference' needs no compiler"
            )
        path = _written(record, library.read_bytes())
    print(f"hnn_kernels: compiled {what} in {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
    return path


def load(source: str, flags: Sequence[str], what: str, symbol: str) -> int:
    """Return the address of a symbol of a compiled source.

    Args:
        source: the source, whose includes are relative to ``csrc``.
        flags: the compiler's flags beside those of ``csrc/flags.toml``.
        what: the source in words, for messages.
        symbol: the name of the symbol.

    Raises:
        CompilerError: there is no compiler, it fails, or there is no folder to keep what it makes.
    """
    compiler = _compiler_of_the_machine()
    command = [
        *shlex.split(compiler), *_flags()["cxx"], "-w", *flags, "-fPIC", "-shared", f"-I{CSRC}",
    ]  # fmt: skip
    made_of = (source, _headers(), command[:-1], _version(compiler), platform.machine(), sys.platform)
    key = hashlib.sha256(repr(made_of).encode()).hexdigest()[:32]
    with _lock:
        if key not in _loaded:
            record = folder() / f"{key}.txt"
            path = _known(record)
            if path is None:
                with _alone(record.with_suffix(".lock")):
                    path = _known(record) or _compile(command, source, record, what)
            _loaded[key] = ctypes.CDLL(str(path))
        return ctypes.addressof(ctypes.c_char.in_dll(_loaded[key], symbol))
