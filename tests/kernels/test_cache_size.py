"""The size from which on a train is written past the cache, derived from what Linux says of the caches."""

import os
from pathlib import Path

import pytest

from hnn_kernels import _extensions

pytestmark = [
    pytest.mark.skipif(_extensions.cpu is None, reason=f"the C++ kernels are not there: {_extensions.cpu_error}"),
    pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="only Linux describes the caches in files"),
]

MIB = 1 << 20
ASSUMED = 2 * MIB


@pytest.fixture
def own() -> int:
    """The only processor that this process may run on, for the time of a test."""
    before = os.sched_getaffinity(0)
    cpu = min(before)
    os.sched_setaffinity(0, {cpu})
    yield cpu
    os.sched_setaffinity(0, before)


def describe(folder: Path, cpu: int, *caches: tuple[int, str, str]) -> str:
    """Write a description of the caches of ``cpu``, each with level, size and the processors that share it."""
    for i, (level, size, shared) in enumerate(caches):
        index = folder / f"cpu{cpu}" / "cache" / f"index{i}"
        index.mkdir(parents=True)
        for name, text in (("level", level), ("size", size), ("shared_cpu_list", shared)):
            (index / name).write_text(f"{text}\n")
    return str(folder)


@pytest.mark.parametrize(("size", "expected"), [("65536K", 4 * MIB), ("32M", 2 * MIB), ("67108864", 4 * MIB)])
def test_a_sixteenth_of_the_last_level(tmp_path, own, size, expected):
    """Four trains of that size fill a quarter of it. The levels before it do not count, in whatever order they are."""
    caches = [(1, "32K", own), (3, size, own), (2, "1024K", own)]
    assert _extensions.cpu.large_bytes(describe(tmp_path, own, *caches)) == expected


def test_of_a_shared_cache_the_part_of_the_processors_that_the_process_may_run_on(tmp_path, own):
    others = f"{own},{own + 1}-{own + 3}"
    assert _extensions.cpu.large_bytes(describe(tmp_path, own, (3, "131072K", others))) == 2 * MIB


@pytest.mark.parametrize(("size", "expected"), [("1024K", MIB), ("1048576K", 8 * MIB)])
def test_the_least_and_the_most(tmp_path, own, size, expected):
    assert _extensions.cpu.large_bytes(describe(tmp_path, own, (3, size, own))) == expected


@pytest.mark.parametrize("caches", [[], [("", "", "")], [(3, "", "0")], [(3, "big", "0")]])
def test_where_nothing_is_said_the_size_is_assumed(tmp_path, own, caches):
    assert _extensions.cpu.large_bytes(describe(tmp_path, own, *caches)) == ASSUMED


def test_the_size_of_this_machine_is_in_between():
    assert MIB <= _extensions.cpu.large_bytes() <= 8 * MIB
