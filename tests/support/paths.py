"""The folders of the repository, and the environment of a process that imports from them."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"


def environment(**changes: str) -> dict[str, str]:
    """This process's environment with ``changes``, in which the packages and ``support`` can be imported."""
    path = [str(ROOT), str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(path)} | changes
