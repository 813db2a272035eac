"""The memory that is left, as the system tells it."""

import subprocess
import sys

import pytest
import torch

from hnn_models import memory
from hnn_models.errors import DataError

CPU = torch.device("cpu")


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A system of 1000 KiB, 200 KiB of it swap, whose control groups are under ``tmp_path``."""
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 800 kB\nSwapFree: 200 kB\n")
    (tmp_path / "cgroup").write_text("")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "_CONTROLLERS", tmp_path / "groups")
    monkeypatch.setattr(memory, "_address_space", lambda: None)
    return tmp_path


def group(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def test_the_systems_memory_and_swap(system):
    assert memory.available(CPU) == 1000 * 1024


def test_a_control_group_bounds_it(system):
    (system / "cgroup").write_text("0::/job/step\n")
    group(system / "groups/job", memory__max=5000, memory__current=3000, memory__stat="anon 2\ninactive_file 1000")
    group(system / "groups/job/step", memory__max="max", memory__current=3000, memory__stat="inactive_file 0")
    assert memory.available(CPU) == 3000


def test_a_control_group_of_version_1_bounds_it(system):
    (system / "cgroup").write_text("5:cpu:/x\n4:memory:/not/here\n0::/\n")
    group(
        system / "groups/memory",
        memory__limit_in_bytes=5000,
        memory__usage_in_bytes=4500,
        memory__stat="total_inactive_file 100",
    )
    assert memory.available(CPU) == 600


def test_without_figures_nothing_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: None)
    memory.require("images", 10**15, (3, 1000, 1000), torch.uint8)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is one of Linux")
def test_the_limit_of_the_address_space():
    code = (
        "import resource, torch; from hnn_models import memory; "
        "resource.setrlimit(resource.RLIMIT_AS, (2**36, 2**36)); "
        "print(memory._address_space(), memory.available(torch.device('cpu')))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    left, available = map(int, told.stdout.split())
    assert available <= left < 2**36


def test_what_is_asked_for_in_this_process():
    with pytest.raises(
        DataError, match=r"the images do not fit .*: 1000000000000 x \(3, 224, 224\) in uint8 are 150,528,000"
    ):
        memory.require("the images", 10**12, (3, 224, 224), torch.uint8)
    memory.require("the images", 10, (3, 224, 224), torch.uint8)
