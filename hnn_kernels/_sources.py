"""The digest of the sources that a compiled module is built from. ``setup.py`` runs this file on its own."""

import hashlib
from pathlib import Path

SUFFIXES = (".h", ".inl", ".cpp", ".cu", ".cuh", ".toml")
# The folders of csrc/ with a module's own sources; those in csrc/ itself belong to each.
FOLDERS = {"cpu": ("cpu",), "cuda": ("cuda",), "shim": ("cuda", "shim"), "inspect": ("inspect",)}


def digest(csrc: Path, name: str) -> str:
    """Return the digest of a module's sources.

    Args:
        csrc: the folder of the sources.
        name: one of FOLDERS.
    """
    files = [file for folder in (".", *FOLDERS[name]) for file in (csrc / folder).iterdir() if file.suffix in SUFFIXES]
    found = hashlib.sha256()
    for file in sorted(files):
        text = file.read_bytes().replace(b"\r\n", b"\n")
        found.update(f"{file.relative_to(csrc).as_posix()} {len(text)}\n".encode())
        found.update(text)
    return found.hexdigest()[:16]
