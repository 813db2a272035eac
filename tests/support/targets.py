"""Pairs of a backend and a device, and how the tests name them."""

import os
import sys
from typing import NamedTuple

import pytest
import torch

from hnn_kernels import _extensions

# Of tests whose kernels are those of the CPU.
NEEDS_CPU = pytest.mark.skipif(
    _extensions.cpu is None, reason=f"the C++ kernels are not there: {_extensions.cpu_error}"
)


def emulated_device():
    """The device of the emulator (tests/emulator/), None where there is none."""
    emulator = sys.modules.get("emulator.device")
    return emulator and emulator.device


class Target(NamedTuple):
    """A backend on a device type it takes."""

    backend: str
    device: str

    def __str__(self) -> str:
        return f"{self.backend}-{self.device}"

    @property
    def interpreted(self) -> bool:
        """True for Triton's interpreter, which has the kernel's arithmetic and is a thousand times slower."""
        return self == ("triton", "cpu")

    @property
    def exact(self) -> bool:
        """True if the results must have the reference's bits: everywhere but on a real GPU."""
        return self.device == "cpu" or emulated_device() is not None


ARCHITECTURES = ("8.0", "9.0", "10.0", "12.0")
EVERY_CASE = os.environ.get("HNN_EVERY_CASE", "").strip() == "1"


def turn_of_another(number: int) -> bool:
    """True if a case of Triton's code, which takes seconds to compile, is for another architecture than this one."""
    return not EVERY_CASE and ARCHITECTURES[number % 4] != os.environ["HNN_EMULATE"]


def dtype_id(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
