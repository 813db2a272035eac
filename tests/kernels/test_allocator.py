"""The allocator keeps what is freed, and a loop that pays page faults because it does not is told once."""

import os
import subprocess
import sys
import types
import warnings

import pytest

import hnn_kernels
from hnn_kernels import memory
from support.paths import ROOT

# 64 MiB: glibc never serves as much from its heap unless it is asked to. Huge pages would be 32 faults. Its first calls
# take new memory all the same: its cache of small blocks, 7 of a size, keeps what aligning a tensor cuts off.
_FAULTS = """
import resource, torch
from hnn_kernels import memory
{ask}
def fill():
    torch.empty(2**24).fill_(1.0)
for _ in range(16):
    fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(ask, **environment):
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"} | environment
    program = _FAULTS.format(ask=ask)
    return int(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, env=environment).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="page faults of glibc")
def test_freed_memory_is_used_again():
    asked = faults("assert memory.keep_what_is_freed()")
    assert asked < 32 < faults(""), asked
    name, _, value = memory.TUNABLES.partition("=")
    assert faults("", **{name: value}) < 32
    assert memory.TUNABLES in (ROOT / "docs" / "scaling.md").read_text()


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_are_left_alone(platform, monkeypatch):
    monkeypatch.setattr(sys, "platform", platform)
    assert memory.keep_what_is_freed() is False


def test_a_c_library_without_mallopt(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert memory.keep_what_is_freed() is False


# -- the warning -------------------------------------------------------------------------------------------------------


@pytest.fixture
def watched(monkeypatch):
    """A function that makes a watch see so many calls, each of so many faults and seconds, and returns its texts."""
    clock = {"faults": 1000, "now": 7.0}
    monkeypatch.setattr(memory, "_watch", memory.Watch())
    monkeypatch.setattr(memory, "_minor_faults", lambda: clock["faults"])
    monkeypatch.setattr(memory.time, "thread_time", lambda: clock["now"])

    def see(calls, faults, seconds):
        texts = []
        for _ in range(calls):
            clock["faults"] += faults
            clock["now"] += seconds
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                memory.watch(stacklevel=2)
            texts += [str(one.message) for one in caught if one.category is hnn_kernels.PageFaultWarning]
        return texts

    return see


def test_many_faults_are_told_once(watched):
    assert watched(64, 800, 0.02) == []  # memory that is touched first
    (text,) = watched(64, 800, 0.02)
    assert text.startswith("this process has 40,000 page faults per second")
    assert "keep_what_is_freed()" in text
    assert memory.TUNABLES in text
    assert memory._watch is None
    assert watched(1000, 800, 0.02) == []


def test_counts_of_two_threads_are_not_compared(watched, monkeypatch):
    """Each thread has a clock of its own."""
    for thread in range(4):
        monkeypatch.setattr(memory.threading, "get_ident", lambda thread=thread: thread)
        assert watched(64, 800, 0.02) == []
    assert len(watched(64, 800, 0.02)) == 1


def test_few_faults_are_left_alone(watched):
    assert watched(64 * 9, 100, 0.02) == []
    assert memory._watch is None
    assert watched(1000, 800, 0.02) == []


def test_nothing_is_told_where_the_memory_is_kept(watched, monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: types.SimpleNamespace(mallopt=lambda *_: 1))
    monkeypatch.setattr(sys, "platform", "linux")
    assert memory.keep_what_is_freed()
    assert watched(1000, 800, 0.02) == []


_LOOP = """
import warnings, torch, hnn_kernels
{first}
x = torch.randn(2, 16, 9000, requires_grad=True)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    {silence}
    for _ in range(140):
        torch.empty(2**24)[: 2**20].fill_(1.0)  # in glibc's usual way it costs 1024 faults
        hnn_kernels.lif({x}, 0.7, 0.7)[0].sum().backward()
print(*[(one.category.__name__, one.filename == "<string>") for one in caught])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="page faults of glibc")
@pytest.mark.skipif("cpu" not in hnn_kernels.backends()["cpu"].devices, reason="no C++ kernels for the CPU")
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "('PageFaultWarning', True)"),
        ({"first": "hnn_kernels.keep_what_is_freed()"}, ""),
        ({"silence": "warnings.filterwarnings('ignore', category=hnn_kernels.PageFaultWarning)"}, ""),
        ({"x": "x[:, :1, :9]"}, ""),  # small layers are not watched
    ],
)
def test_a_loop_with_page_faults(changes, told):
    program = _LOOP.format(**{"first": "", "silence": "", "x": "x"} | changes)
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == told
