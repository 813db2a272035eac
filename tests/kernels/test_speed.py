"""The main operations are about as fast as they were. ``pytest tests/kernels/test_speed.py`` prints their times."""

import json
import subprocess
import sys
import time

import pytest

from hnn_kernels import _direct
from support import speed
from support.paths import environment
from support.targets import NEEDS_CPU

pytestmark = NEEDS_CPU

# On 2 cores with 10 to 12 processes at work, 18 runs were at most 1.22 times the saved ratios, measured so too.
# The rest is for other processors of the same instruction set.
ALLOWED = 2.0


@pytest.mark.benchmark(group="main operations", timer=time.thread_time)
@pytest.mark.parametrize("name", speed.operations())
def test_time_of(name, benchmark):
    with speed.one_thread():
        benchmark.pedantic(speed.operations()[name], rounds=20, iterations=3, warmup_rounds=2)


def test_ratios_to_a_plain_operation_are_about_those_saved():
    saved = json.loads(speed.BASELINE.read_text())
    if speed.instruction_set() not in saved:
        pytest.skip(f"{speed.BASELINE.name} has no ratios for {speed.instruction_set()}")
    done = subprocess.run(
        [sys.executable, "-m", "support.speed"], env=environment(), capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    for kind in (speed.instruction_set(), speed.FIXED):
        assert not speed.too_slow(found[kind], saved[kind], ALLOWED)


def test_a_call_that_takes_the_operator_is_found(monkeypatch):
    saved = json.loads(speed.BASELINE.read_text())[speed.FIXED]
    monkeypatch.setattr(_direct, "plain", lambda: False)
    found = speed.too_slow(speed.fixed_costs(), saved, 1.5)
    assert found.keys() == saved.keys()


def test_slower_operation_is_found():
    calls = speed.operations()
    usual = speed.ratio(calls["lif"], calls["plain"])
    slowed = speed.ratio(lambda: [calls["lif"]() for _ in range(5)], calls["plain"])
    assert speed.too_slow({"lif": slowed, "iir": 1.0}, {"lif": usual, "iir": 1.0}, ALLOWED) == {"lif": (slowed, usual)}
    assert not speed.too_slow({"lif": usual}, {"lif": usual}, ALLOWED)
