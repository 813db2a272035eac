"""Pytest's report of a run in the emulator: the launches and kernels of all its processes."""

import os
import sys
from collections import Counter

import pytest

from . import device as emulated

_counts: Counter = Counter()
_kernels: set[str] = set()
_session: list[pytest.Session] = []


def pytest_sessionstart(session):
    """Keep the session, which has the exit status at the end."""
    _session.append(session)


def pytest_sessionfinish(session):
    """Count what this process ran; a worker of xdist hands it to the one that reports."""
    ran = emulated.device
    counts = {"launches": ran.launches, "threads": ran.threads, "instructions": ran.executed, "seconds": ran.seconds}
    _counts.update(counts)
    _kernels.update(ran.kernels)
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["emulated"] = (counts, sorted(ran.kernels))


@pytest.hookimpl(optionalhook=True)  # of xdist
def pytest_testnodedown(node, error):
    """Add what a worker ran."""
    counts, kernels = getattr(node, "workeroutput", {}).get("emulated", ({}, ()))
    _counts.update(counts)
    _kernels.update(kernels)


def pytest_terminal_summary(terminalreporter):
    """Write the sums."""
    terminalreporter.write_line(
        f"emulated: {_counts['launches']} launches of {len(_kernels)} kernels, {_counts['threads']} threads, "
        f"{_counts['instructions']} instructions in {_counts['seconds']:.0f} s"
    )


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    """End the process without the clean-up of Python and torch, in which the device that is not there may abort."""
    if _session and not hasattr(config, "workerinput"):  # a worker of xdist still talks to the one that reports
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(_session[0].exitstatus))
