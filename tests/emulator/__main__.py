"""Run the compiled kernels' tests in the emulator, a process of pytest for each compiler and architecture.

PYTHONPATH=tests:. python -m emulator            # the conformance tests, every case: make emulate
PYTHONPATH=tests:. python -m emulator --chosen   # the chosen part, which the suite runs too
... --only triton-9.0 -- -n 2 -x                 # one of them, with arguments of pytest
"""

import argparse
import os
import subprocess
import sys
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
    "filters", "resets_and_surrogates", "surrogates", "coding", "coding_gradient", "properties", "state",
    "counts_and_numbers",
)  # fmt: skip
DEFINED = ("tests/kernels/define/test_kernels.py", "tests/kernels/define/test_neurons.py")
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


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="emulator", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--chosen", action="store_true", help="the chosen part alone")
    parser.add_argument("--only", help="one run, such as triton-9.0")
    parser.add_argument("pytest", nargs="*", help="arguments of pytest")
    given = parser.parse_args()
    reason = why_not()
    if reason:
        raise SystemExit(f"the emulator cannot run here: {reason}")
    files = CHOSEN if given.chosen else (*CHOSEN, *(f"tests/kernels/test_{name}.py" for name in KERNELS), *DEFINED)
    failed = []
    for run in runs():
        if given.only not in (None, str(run)):
            continue
        print(f"== {run}", flush=True)
        command, environment = run.command(files, *given.pytest, every_case=not given.chosen)
        if subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode:
            failed.append(str(run))
    if failed:
        print("failed:", *failed)
    return bool(failed)


if __name__ == "__main__":
    raise SystemExit(main())
