"""Spike trains as bits, by torch's operations on any device.

A row of bits is the last axis of a linear input, or a line of a convolution's input with the channels innermost. It
begins with a byte of its own, lowest bit first.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def row_bytes(length: int) -> int:
    """Return the bytes of a row of so many bits."""
    return (length + 7) // 8


def pack(rows: Tensor) -> Tensor:
    """Return ``[*, n]``, in which everything but 0 is a spike, as bits ``[*, row_bytes(n)]``, uint8."""
    length = rows.shape[-1]
    spikes = functional.pad((rows != 0).to(torch.uint8), (0, 8 * row_bytes(length) - length))
    places = torch.arange(8, device=rows.device, dtype=torch.uint8)
    return (spikes.unflatten(-1, (-1, 8)) << places).sum(-1, dtype=torch.uint8)


def unpack(bits: Tensor, length: int, like: Tensor) -> Tensor:
    """Return the rows ``[*, length]`` of 0 and 1 that :func:`pack` packed, in the dtype of ``like``."""
    places = torch.arange(8, device=bits.device, dtype=torch.uint8)
    return ((bits.unsqueeze(-1) >> places) & 1).flatten(-2)[..., :length].to(like.dtype)


def lines(image: Tensor) -> Tensor:
    """Return ``[B, C, H, W]`` as ``[B, H, W * C]``."""
    return image.permute(0, 2, 3, 1).flatten(2)


def from_lines(rows: Tensor, size: Sequence[int]) -> Tensor:
    """Return ``[B, H, W * C]`` as ``size`` ``[B, C, H, W]``, channels last in memory."""
    return rows.unflatten(2, (size[3], size[1])).permute(0, 3, 1, 2)
