"""Every form of kernel under compute-sanitizer's memory checker.

The race checker is left out: no thread reads what another one wrote to shared memory.
"""

import re
import sys

from . import facts
from .programs import found, run, taken

BACKENDS = ("cuda", "triton")


def main() -> int:
    """Say the errors that each backend's kernels make; return ``TOLD`` if there are any."""
    say, given = facts.given(__doc__)
    import hnn_kernels

    bad = 0
    for backend in BACKENDS:
        if "cuda" not in hnn_kernels.backends()[backend].devices or say.known().get(backend, "").startswith("0 "):
            continue
        report = say.out / f"gpu_host_memcheck_{backend}.log"
        # The reference's launches would take the checker minutes.
        inner = [sys.executable, "-m", "support.each_form", "--backend", backend, "--alone"]
        inner += facts.arguments(f"memcheck-{backend}", say.device, say.out, (say.call,), say.started, given.limit)
        # Failing calls of the runtime are not reported: torch asks for functions that a driver may not have.
        checker = [found("compute-sanitizer") or "compute-sanitizer", "--tool", "memcheck", "--report-api-errors", "no"]
        # Every tensor has its own allocation, so that an access beyond its end never falls into another tensor.
        code = run(
            [*checker, "--error-exitcode", "9", "--log-file", str(report), *inner],
            {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
        )
        verdict = errors(taken(report))
        say.say(backend, f"{verdict}, exit code {code}")
        bad += code != 0
    return facts.TOLD if bad else 0


def errors(report: str) -> str:
    """The checker's sum, and the first error that it found."""
    sums = re.findall(r"ERROR SUMMARY: (\d+ errors?)", report)
    first = re.search(
        r"^========= ((?:Invalid|Misaligned|Leaked|Program hit|Out-of-range|Uninitialized).*)$", report, re.M
    )
    return "; ".join([*sums[-1:], *([first[1]] if first else [])]) or "no verdict"


if __name__ == "__main__":
    raise SystemExit(main())
