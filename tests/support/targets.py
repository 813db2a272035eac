"""Pairs of a backend and a device, and how the tests name them."""

from typing import NamedTuple

import torch


class Target(NamedTuple):
    """A backend on a device type it takes."""

    backend: str
    device: str

    def __str__(self) -> str:
        return f"{self.backend}-{self.device}"

    @property
    def interpreted(self) -> bool:
        """Triton's interpreter: the kernel's own arithmetic, a thousand times slower."""
        return self == ("triton", "cpu")

    @property
    def exact(self) -> bool:
        """Whether the contract asks for the reference's own bits: everywhere but on a real GPU."""
        return self.device == "cpu"


def dtype_id(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
