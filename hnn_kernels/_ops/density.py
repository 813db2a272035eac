"""The rule by which a product with spikes takes sums over the spikes or torch's dense product: by density and size."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch


class Window(NamedTuple):
    """The window of a convolution, each pair as (vertical, horizontal)."""

    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    groups: int

    def sides(self, image: Sequence[int], kernel: Sequence[int]) -> list[int]:
        """Return height and width of the output."""
        pairs = zip(image, kernel, self.stride, self.padding, self.dilation, strict=True)
        return [(side + 2 * p - d * (k - 1) - 1) // s + 1 for side, k, s, p, d in pairs]


# The largest density at which the sums are faster than torch's product, by the least number of outputs; fewer outputs
# leave it no gain at any density. Measured on one processor with one and two threads (docs/measured.md), the lower of
# both: equal calls take the same way on any number of threads.
_LIMITS = {
    "spike_linear": ((128, 0.55), (64, 0.4), (32, 0.2)),
    "spike_linear_backward": ((64, 0.6), (32, 0.25), (16, 0.1)),
    "spike_conv2d": ((32, 0.55),),
    "spike_conv2d_backward": ((64, 0.45), (32, 0.4), (16, 0.25)),
}
# An instruction set's part of these limits. The vectors of the plain kernels are short, and torch's product takes the
# processor's own; with AVX2 torch's gradient of a convolution takes longer than with AVX-512, and ours does not.
_PARTS = {
    "default": {
        "spike_linear": 0.3,
        "spike_linear_backward": 0.4,
        "spike_conv2d": 0.45,
        "spike_conv2d_backward": 0.6,
    },
    "avx2": {"spike_conv2d_backward": 1.2},
}
# With units for bfloat16, torch's product of 16 bits takes half of float32's time, and less as a convolution.
_SHORT = {"spike_linear": 0.5, "spike_linear_backward": 0.5, "spike_conv2d": 0.42, "spike_conv2d_backward": 0.5}
# A window of more channels leaves the L1 cache in forward.
_WIDE_CHANNELS, _WIDE = 32, 0.8
# Fewer rows do not pay for the arranged weight, fewer channels not for the lists of events.
_ROWS, _CHANNELS = 64, 16
# Kernels count in 32 bits: the rows of a weight's block, and the places of an image.
_PLACES = 2**25


def linear_gains(outputs: int) -> bool:
    """Tell if sums are faster than torch's product at some density: a short product takes less than the bits do."""
    return any(outputs >= least for least, _ in _LIMITS["spike_linear"])


def conv2d_gains(channels: int, outputs: int) -> bool:
    """Tell the same for a convolution. Its product takes longer than the bits do, so a gain in backward is enough."""
    return channels >= _CHANNELS and any(outputs >= least for least, _ in _LIMITS["spike_conv2d_backward"])


# Tells of the compiled kernels. hnn_kernels/_dispatch.py, which loads them, puts it here.
build_info: Callable[[], Mapping[str, str]] | None = None


def _part(name: str) -> float:
    """Return what part of its limit a product has with the instruction set of the compiled kernels."""
    return 1.0 if build_info is None else _PARTS.get(build_info()["instruction_set"], {}).get(name, 1.0)


def sparse(name: str, spikes: int, rows: int, features: int, outputs: int, dtype: torch.dtype) -> bool:
    """Tell if sums over so many ``spikes`` of ``rows`` of ``features`` are faster than torch's product."""
    limit = next((density for least, density in _LIMITS[name] if outputs >= least), 0.0)
    limit *= _part(name)
    limit *= _SHORT[name] if dtype.itemsize == 2 else 1
    limit *= _WIDE if name == "spike_conv2d" and features > _WIDE_CHANNELS else 1
    return (
        rows >= _ROWS and max(features, rows // 64) <= _PLACES and 0 <= spikes <= limit * rows * features and limit > 0
    )


def sparse_window(
    name: str, spikes: int, input_size: Sequence[int], outputs: int, window: Window, dtype: torch.dtype
) -> bool:
    """Tell the same for a convolution: the kernels take a stride, a dilation and groups of 1."""
    batch, channels, height, width = input_size
    taken = window.groups == 1 and all(one == 1 for one in (*window.stride, *window.dilation))
    largest = max(channels, outputs) * (height + 2 * window.padding[0]) * (width + 2 * window.padding[1])
    return (
        taken
        and channels >= _CHANNELS
        and largest <= _PLACES
        and sparse(name, spikes, batch * height * width, channels, outputs, dtype)
    )
