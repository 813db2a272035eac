"""A launch of a kernel, before it is made."""

from typing import Any, NamedTuple

import torch

from .._layer import Layer


class Call(NamedTuple):
    """A launch: the kernel, its grid, its arguments in order, and the options of the compiler."""

    kernel: Any
    grid: tuple[int]
    arguments: tuple
    options: dict[str, Any]

    def start(self, layer: Layer) -> None:
        """Launch the kernel on the layer's device and current stream."""
        with torch.cuda.device_of(layer.current):
            self.kernel[self.grid](*self.arguments, **self.options)
