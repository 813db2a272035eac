"""The commit that a measured figure belongs to."""

import os
import subprocess
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def commit() -> str:
    """The commit of the running code, with ``"-dirty"`` behind it if a tracked file was changed.

    Changed records of measurements do not count: after one measurement the next would otherwise be marked. Outside a
    clone the commit is the value of the environment variable HNN_COMMIT, or ``"unknown"``.
    """
    if not (_ROOT / ".git").exists():
        return os.environ.get("HNN_COMMIT") or "unknown"
    dirty = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results")
    return (_git("rev-parse", "--short", "HEAD") or "unknown") + ("-dirty" if dirty else "")


def _git(*arguments: str) -> str:
    try:
        told = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False)
    except OSError:  # git is not installed
        return ""
    return told.stdout.strip()
