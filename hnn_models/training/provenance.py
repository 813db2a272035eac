"""Where a figure comes from: the commit that was measured."""

import os
import subprocess
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def commit() -> str:
    """The commit that runs, ``"-dirty"`` behind it where the tree differs.

    Records of measurements may differ: a second one would else be marked for the first. Outside a clone it is what
    HNN_COMMIT says, or ``"unknown"``.
    """
    if not (_ROOT / ".git").exists():
        return os.environ.get("HNN_COMMIT", "unknown")
    dirty = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results")
    return (_git("rev-parse", "--short", "HEAD") or "unknown") + ("-dirty" if dirty else "")


def _git(*arguments: str) -> str:
    try:
        told = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False)
    except OSError:  # there is no git
        return ""
    return told.stdout.strip()
