"""The allocator keeps what is freed: in the long run a tensor costs no page faults."""

import subprocess
import sys

import pytest

from hnn_models.training import memory

# 64 MiB: glibc never serves as much from its heap unless it is asked to. Huge pages would be 32 faults. Its first calls
# take new memory all the same: its cache of small blocks, 7 of a size, keeps what aligning a tensor cuts off.
_FAULTS = """
import resource, torch
from hnn_models.training import memory
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


def faults(ask):
    return int(subprocess.run([sys.executable, "-c", _FAULTS.format(ask=ask)], check=True, capture_output=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="page faults of glibc")
def test_freed_memory_is_used_again():
    asked = faults("assert memory.keep_what_is_freed()")
    assert asked < 32 < faults(""), asked


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_are_left_alone(platform, monkeypatch):
    monkeypatch.setattr(sys, "platform", platform)
    assert memory.keep_what_is_freed() is False


def test_a_c_library_without_mallopt(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert memory.keep_what_is_freed() is False
