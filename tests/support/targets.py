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
        """True for Triton's interpreter, which has the kernel's arithmetic and is a thousand times slower."""
        return self == ("triton", "cpu")

    @property
    def exact(self) -> bool:
        """True if the results must have the reference's bits: everywhere but on a GPU."""
        return self.device == "cpu"


def dtype_id(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
