"""Tests that need the emulated device are collected only where there is one: HNN_EMULATE, or `make emulate`."""

from support.targets import emulated_device

collect_ignore = (
    ["test_emulator.py"]
    if emulated_device()
    else ["test_device.py", "test_forms.py", "test_mutations.py", "test_graphs.py", "test_direct.py", "test_defined.py"]
)
