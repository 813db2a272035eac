"""Where a figure comes from: the commit that was measured, and the device."""

import os
import platform
import subprocess
from pathlib import Path

import torch

_ROOT = Path(__file__).parents[1]


def commit() -> str:
    """The commit that runs, ``"-dirty"`` behind it where the tree differs.

    Records of measurements may differ: a second one would else be marked for the first. Outside a clone it is what
    HNN_COMMIT says, or ``"unknown"``.
    """
    if not (_ROOT / ".git").exists():
        return os.environ.get("HNN_COMMIT", "unknown")
    dirty = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results")
    return (_git("rev-parse", "--short", "HEAD") or "unknown") + ("-dirty" if dirty else "")


def device_name(device: torch.device) -> str:
    """The GPU's name, or the processor's as Linux tells it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _git(*arguments: str) -> str:
    try:
        told = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False)
    except OSError:  # there is no git
        return ""
    return told.stdout.strip()
