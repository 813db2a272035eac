"""The C++ compiler of this machine. ``setup.py`` runs this file on its own."""

import os
import shutil


def find_compiler() -> str | None:
    """Return the command of the C++ compiler, or None where there is none.

    Raises:
        ValueError: the environment variable CXX names one that is not there.
    """
    named = os.environ.get("CXX", "").strip()
    if named and not shutil.which(named.split()[0]):
        raise ValueError(f"CXX must be the command of a C++ compiler; there is no {named!r}")
    return named or next((c for c in ("c++", "g++", "clang++") if shutil.which(c)), None)
