"""The C compiler and Python's headers, with which Triton compiles the stub of its driver at the first launch."""

import os
import shutil
import sysconfig
from pathlib import Path

import triton


def missing() -> str:
    """Tell what Triton lacks to compile at its first launch; nothing if all is there.

    It looks where ``triton.runtime.build`` does: the command that ``CC`` names, else gcc, else clang.
    """
    if triton.knobs.build.impl is not None:
        return ""  # a compiler of the user's own
    named = os.environ.get("CC")
    if named is not None and shutil.which(named) is None:
        return f"Triton needs a C compiler, and CC must be its command; got {named!r}"
    if named is None and not (shutil.which("gcc") or shutil.which("clang")):
        return "Triton needs a C compiler, and there is no gcc and no clang (CC may name another one)"
    folders = [_headers(), *triton.knobs.build.backend_dirs]
    for paths in (os.environ.get("CPATH", ""), os.environ.get("C_INCLUDE_PATH", "")):
        folders += filter(None, paths.split(os.pathsep))
    if not any((Path(folder) / "Python.h").exists() for folder in folders):
        return f"Triton needs the headers of Python, and there is no Python.h in {folders[0]}"
    return ""


def _headers() -> str:
    scheme = sysconfig.get_default_scheme()
    # Debian's scheme for what users install; Python's own headers are in the other one.
    return sysconfig.get_paths("posix_prefix" if scheme == "posix_local" else scheme)["include"]
