"""The emulated device, where HNN_EMULATE asks for it.

A program that runs what is launched there calls :func:`device` before anything imports torch, and :func:`operators`
after.
"""

import os
import sys
from types import ModuleType


def wanted() -> bool:
    """True if HNN_EMULATE asks for a device."""
    return bool(os.environ.get("HNN_EMULATE", "").strip())


def device() -> None:
    """Load the fake driver, and run what is launched there."""
    from emulator import device as emulated

    installed = emulated.device or emulated.install()
    installed.most = None


def operators():
    """Put functions in the place of torch's own kernels. Return the device; None where there is none."""
    module: ModuleType | None = sys.modules.get("emulator.device")
    if module is None or module.device is None:
        return None
    from emulator import torch_ops

    torch_ops.install()
    return module.device
