"""Other programs that a step runs: compilers, profilers, tests."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from .state import ROOT


def found(name: str) -> str | None:
    """The path of a program; one of CUDA's is looked for in the toolkit, too."""
    toolkit = Path(os.environ.get("CUDA_HOME") or "/usr/local/cuda") / "bin"
    return shutil.which(name) or shutil.which(name, path=str(toolkit))


def output(command: Sequence[str], seconds: float) -> str:
    """Return the output of a short program on one line, or the reason why there is none."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "; ".join((done.stdout or done.stderr).strip().splitlines())


def taken(report: Path) -> str:
    """The text of a program's report, which goes to the log; the file is removed. Empty if there is none."""
    if not report.exists():
        return ""
    text = report.read_text(errors="replace")
    print(text, file=sys.stderr, flush=True)
    report.unlink()
    return text


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """The exit code of a program whose output goes to the log.

    The limit is the step's: with it the whole group of processes ends.
    """
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | dict(environment or {}), stdin=subprocess.DEVNULL, stdout=sys.stderr,
        check=False,
    ).returncode  # fmt: skip
