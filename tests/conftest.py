"""The backends that can be tested here, and the fixtures of all tests."""

import math
import os
import zlib
from collections import Counter

import pytest

from emulator import asked

# Before anything imports torch, which then finds a GPU.
if asked.wanted():
    asked.device()

import torch

# Before anything imports triton: a kernel is bound to the interpreter, or to the compiler, when it is decorated.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = os.environ.get("TRITON_INTERPRET") or "1"

import hnn_kernels
from hnn_kernels._define.operator import forward_ops
from hnn_kernels._dispatch import KERNEL_BACKENDS
from support.paths import ROOT
from support.targets import Target

# What tests compile is kept apart from what the user does.
os.environ["HNN_CACHE_DIR"] = os.environ.get("HNN_CACHE_DIR") or str(ROOT / "build" / "neurons")

if device := asked.operators():
    from emulator import pytest_hooks

REQUIRED = tuple(name.strip() for name in os.environ.get("HNN_REQUIRE_BACKENDS", "").split(",") if name.strip())

EVERY_CASE = os.environ.get("HNN_EVERY_CASE", "").strip() or "0"


def pytest_configure(config):
    if EVERY_CASE not in ("0", "1"):
        raise pytest.UsageError(f"HNN_EVERY_CASE must be 0 or 1; got {EVERY_CASE!r}")
    if device:
        config.pluginmanager.register(pytest_hooks)
    config.addinivalue_line("markers", "emulated: runs compiled kernels in the emulator, a minute in all")
    config.addinivalue_line("markers", "large: needs tens of gigabytes of device memory (run only on a CUDA device)")
    # A run that requires a backend must not pass because that backend is absent.
    for name in REQUIRED:
        if name not in KERNEL_BACKENDS:
            raise pytest.UsageError(f"HNN_REQUIRE_BACKENDS: {name!r} is not one of {KERNEL_BACKENDS}")
        if not _devices(name):
            reason = hnn_kernels.backends()[name].reason
            raise pytest.UsageError(f"HNN_REQUIRE_BACKENDS asks for {name!r}, which cannot run here: {reason}")


def _devices(name: str) -> list[str]:
    devices = hnn_kernels.backends()[name].devices
    if device:  # what runs on the CPU is tested without an emulator
        return ["cuda"] if "cuda" in devices else []
    if name == "cuda" and "cuda" in devices:
        return ["cuda"]  # the CUDA source on the host stands in for a GPU
    return [d for d in ("cpu", "cuda") if d in devices and (d == "cpu" or torch.cuda.is_available())]


TARGETS = [Target(name, device) for name in KERNEL_BACKENDS for device in _devices(name)]
REFERENCES = [Target("reference", name) for name in ("cpu", "cuda") if name == "cpu" or torch.cuda.is_available()]


def pytest_generate_tests(metafunc):
    """``target`` is every usable pair of kernel backend and device; ``any_target`` has the reference too.

    ``neuron_target`` has those that compile a neuron by its definition.
    A backend that cannot run here is one visible skip with its reason, in test_dispatch.py.
    """
    if "target" in metafunc.fixturenames:
        metafunc.parametrize("target", TARGETS, ids=str)
    if "any_target" in metafunc.fixturenames:
        metafunc.parametrize("any_target", REFERENCES + TARGETS, ids=str)
    if "neuron_target" in metafunc.fixturenames:
        metafunc.parametrize("neuron_target", [t for t in TARGETS if t.backend in forward_ops], ids=str)


INTERPRETED_CASES = 3


def pytest_collection_modifyitems(config, items):
    """Triton's interpreter takes about this many cases of a long product of options; HNN_EVERY_CASE=1 gives it all.

    The cases are drawn by the hash of their file's name and their own: always the same ones, whatever folder the file
    is in, and no option is tied to another by a stride. Compiled kernels run every case.
    """
    if EVERY_CASE == "1":
        return

    def product(item) -> str | None:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        target = next(
            (parameters[name] for name in ("target", "any_target", "neuron_target") if name in parameters), None
        )
        return item.nodeid.partition("[")[0] if isinstance(target, Target) and target.interpreted else None

    def drawn(item) -> int:
        return zlib.crc32(f"{item.path.name}::{item.nodeid.partition('::')[2]}".encode())

    lengths = Counter(filter(None, map(product, items)))
    left_out = [
        item for item in items if (name := product(item)) and drawn(item) % math.ceil(lengths[name] / INTERPRETED_CASES)
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        dropped = set(left_out)
        items[:] = [item for item in items if item not in dropped]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(20210521)
