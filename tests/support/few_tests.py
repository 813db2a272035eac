"""Some 300 of the kernels' tests on the GPU: a few cases of every test. It is a step of ``benchmarks/gpu_host.sh``.

As a plugin of pytest it draws them, and says what fails at once.
"""

import contextlib
import importlib.util
import os
import sys
import zlib
from collections import Counter

import pytest

from benchmarks.gpu.host import facts

DRAWN, REHEARSED = 300, 6
EVERY = 50  # tests between two facts about their number
# Beyond this the machine is broken, and the first failures told it.
MOST_FAILURES = 30

_say: facts.Facts | None = None  # in the process that reports
_results: Counter = Counter()


def pytest_addoption(parser):
    """The number of tests."""
    parser.addoption("--drawn", type=int, required=True)


@pytest.hookimpl(trylast=True)  # after -k and -m
def pytest_collection_modifyitems(config, items):
    """Draw by the hash of the name, always the same ones: a case of every test and backend, then one more of each."""
    turns: Counter = Counter()
    order = []
    for item in sorted(items, key=lambda item: zlib.crc32(item.nodeid.encode())):
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        group = (item.nodeid.partition("[")[0], parameters.get("target"))
        order.append((turns[group], len(order), item.nodeid))
        turns[group] += 1
    chosen = {name for *_, name in sorted(order)[: config.getoption("--drawn")]}
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in chosen])
    items[:] = [item for item in items if item.nodeid in chosen]


def pytest_runtest_logreport(report):
    """Say what failed, and now and then how many passed."""
    if _say is None:
        return
    if report.failed:
        lines = str(report.longrepr).strip().splitlines()
        _say.say(f"failed {report.nodeid}", next((x[1:].strip() for x in lines if x.startswith("E ")), lines[-1]))
    if report.failed or report.when == "call" or report.skipped:
        _results[report.outcome] += 1
        if sum(_results.values()) % EVERY == 0:
            _count("so far")


def pytest_collectreport(report):
    """Say which file cannot be imported; the others run."""
    if _say is not None and report.failed:
        _say.say(f"cannot be collected: {report.nodeid}", str(report.longrepr).strip().splitlines()[-1])


def _count(when: str) -> None:
    _say.say(when, ", ".join(f"{number} {name}" for name, number in sorted(_results.items())) or "no tests ran")


def main() -> int:
    """Run pytest, whose output goes to the log; return its exit code, or ``TOLD`` if a test failed."""
    global _say
    _say, _ = facts.given(__doc__)
    from emulator.__main__ import DEFINED, KERNELS

    gpu = _say.device == "cuda"
    command = [*(f"tests/kernels/test_{name}.py" for name in KERNELS), *DEFINED]
    command += ["-p", "support.few_tests", "--drawn", str(DRAWN if gpu else REHEARSED), "-p", "no:cacheprovider"]
    command += ["-q", "--tb=short", f"--maxfail={MOST_FAILURES}", "--continue-on-collection-errors", "--capture=sys"]
    command += ["-m", "not large", "-k", "triton-cuda or cuda-cuda" if gpu else "cpu-cpu"]
    # Many processes would share the GPU in turns, and each collects all tests.
    jobs = os.environ.get("JOBS") or ("4" if len(os.sched_getaffinity(0)) > 4 else "1")
    if jobs != "1" and importlib.util.find_spec("xdist"):
        command += ["-n", jobs]
    with contextlib.redirect_stdout(sys.stderr):
        code = pytest.main(command)
    _count("all")
    return facts.TOLD if code == pytest.ExitCode.TESTS_FAILED else int(code)


if __name__ == "__main__":
    # Under its own name, by which pytest loads it as a plugin.
    from support import few_tests

    facts.leave(few_tests.main())
