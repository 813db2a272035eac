"""A launch of a kernel, before it is made."""

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Call(NamedTuple):
    """A launch: the kernel, its grid, its arguments in order, and the options of the compiler."""

    kernel: Any
    grid: tuple[int]
    arguments: tuple
    options: dict[str, Any]

    def start(self, tensor: Tensor) -> None:
        """Launch the kernel on the tensor's device and current stream."""
        with torch.cuda.device_of(tensor):
            self.kernel[self.grid](*self.arguments, **self.options)
