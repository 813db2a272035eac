"""Run the compiled kernels' tests in the emulator, a process of pytest for each compiler, architecture and file.

PYTHONPATH=tests:. python -m emulator            # the conformance tests, every case: make emulate
PYTHONPATH=tests:. python -m emulator --chosen   # the chosen part, which the suite runs too
... --only triton-9.0 -- -n 2 -x                 # one of them, with arguments of pytest

All of it takes hours, so a call goes on where the last one ended: a file that passed is run again only when something
changed that it depends on, or with --again.
"""

import argparse
import hashlib
import importlib.metadata
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from emulator import native, ptx_files

ROOT = Path(__file__).parents[2]
TRITON_ARCHITECTURES = ("8.0", "9.0", "10.0", "12.0")
CHOSEN = tuple(
    f"tests/emulated/test_{name}.py" for name in ("forms", "mutations", "device", "graphs", "direct", "defined")
)
KERNELS = (
    "conformance_filters", "conformance_forward", "conformance_gradient", "conformance_layout", "conformance_time",
    "filters", "potential", "resets_and_surrogates", "surrogates", "coding", "coding_gradient",
    "counts_and_numbers", "shared_coefficients",
)  # fmt: skip
DEFINED = ("tests/kernels/define/test_kernels.py", "tests/kernels/define/test_neurons.py")
# pytest's exit code where a file has no test for a run.
_NO_TESTS = 5
# A graph of torch's own operators, which are not captured here; and a test whose process of its own has no device.
NOT_HERE = ("graph_that_draws_anew", "asserted_on_the_device")


class Run(NamedTuple):
    """A compiler's kernels, and the compute capability of the device that they run on."""

    backend: str
    capability: str

    def __str__(self) -> str:
        return f"{self.backend}-{self.capability}"

    def command(self, files, *arguments: str, every_case: bool) -> tuple[list[str], dict[str, str]]:
        """The command of pytest on ``files``, and its environment."""
        without = "".join(f" and not {name}" for name in NOT_HERE)
        command = [sys.executable, "-m", "pytest", *files, "-k", f"{self.backend}-cuda{without}", *arguments]
        switches = {
            "HNN_EMULATE": self.capability,
            "OMP_NUM_THREADS": "1",
            "HNN_EVERY_CASE": "1" if every_case else "0",
        }
        # An outer pytest's workers and options are not this one's; Triton compiles.
        mine = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "TRITON_", "HNN_REQUIRE"))}
        return command, mine | switches


def runs() -> list[Run]:
    """Return the runs that are possible here: Triton for each architecture, the CUDA module by the PTX that it has."""
    compiled = [Run("cuda", f"{one // 10}.{one % 10}") for one in ptx_files.targets()[-1:]]
    return compiled + [Run("triton", one) for one in TRITON_ARCHITECTURES]


def why_not() -> str:
    """The reason why nothing can run here; empty if it can."""
    import torch

    if torch.version.cuda is None:
        return "this torch is built without CUDA"
    if torch.cuda.is_available():
        return "there is a GPU, on which the kernels' own tests run"
    return "" if native.cuda_headers() else "the headers of the CUDA runtime are not installed"


def _shared() -> bytes:
    """The digest of what every run depends on: the package, what the tests share, the versions of the compilers."""
    found = hashlib.sha256()
    module = ptx_files.module_path()
    files = [ROOT / "tests/conftest.py", *([module] if module else [])]
    for folder in ("hnn_kernels", "tests/emulator", "tests/support"):
        files += [file for file in (ROOT / folder).rglob("*") if file.suffix in (".py", ".cpp", ".h")]
    for file in sorted(files):
        found.update(file.read_bytes())
    for package in ("torch", "triton", "numpy"):
        found.update(importlib.metadata.version(package).encode())
    return found.digest()


class Passed:
    """The files that passed, by digests of all that they depend on. They are kept beside what the emulator compiles."""

    def __init__(self, forgotten: bool):
        self._path = native.BUILD / "passed.txt"
        if forgotten:
            self._path.unlink(missing_ok=True)
        self._known = set(self._path.read_text().split()) if self._path.exists() else set()
        self._shared = _shared()

    def key(self, run: Run, file: str, *arguments: str) -> str:
        """The key of a run's file with these arguments of pytest."""
        parts = [self._shared, (ROOT / file).read_bytes(), repr((run, file, arguments)).encode()]
        return hashlib.sha256(b"".join(parts)).hexdigest()[:32]

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def add(self, key: str) -> None:
        """Keep a key at once: the next file may never end."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(key + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="emulator", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--chosen", action="store_true", help="the chosen part alone")
    parser.add_argument("--only", help="one run, such as triton-9.0")
    parser.add_argument("--again", action="store_true", help="also what passed before")
    parser.add_argument("pytest", nargs="*", help="arguments of pytest")
    given = parser.parse_args()
    reason = why_not()
    if reason:
        raise SystemExit(f"the emulator cannot run here: {reason}")
    kernels = tuple(f"tests/kernels/test_{name}.py" for name in KERNELS)
    files = CHOSEN if given.chosen else (*CHOSEN, *kernels, *DEFINED)
    passed, failed = Passed(given.again), []
    for run in runs():
        if given.only not in (None, str(run)):
            continue
        for file in files:
            key = passed.key(run, file, *given.pytest, str(given.chosen))
            if key in passed:
                print(f"== {run} {file}: passed before", flush=True)
                continue
            print(f"== {run} {file}", flush=True)
            begun = time.monotonic()
            command, environment = run.command((file,), *given.pytest, every_case=not given.chosen)
            code = subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode
            print(f"== {run} {file}: {time.monotonic() - begun:.0f} s", flush=True)
            if code in (0, _NO_TESTS):
                passed.add(key)
            else:
                failed.append(f"{run} {file}")
    if failed:
        print("failed:", *failed, sep="\n")
    return bool(failed)


if __name__ == "__main__":
    raise SystemExit(main())
