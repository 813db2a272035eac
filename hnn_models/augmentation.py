"""Random shifts and mirror images, of a whole batch at once and each image on its own.

(The transforms of torchvision draw once for a batch.)
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Augmentation(NamedTuple):
    """How training images are changed.

    Attributes:
        shift: the most pixels by which an image is moved along each axis, black moving in: a random crop of the image
            with a border of that width.
        flip: mirror every other image, left to right.
    """

    shift: int = 0
    flip: bool = False

    def draw(self, count: int, random: np.random.Generator) -> Tensor:
        """What is to happen to each of ``count`` images: int64 ``[count, 3]``, down, right, mirrored."""
        shifts = random.integers(-self.shift, self.shift, (count, 2), endpoint=True)
        flips = random.integers(0, 1 + self.flip, (count, 1))
        return torch.from_numpy(np.concatenate([shifts, flips], axis=1))


def augment(images: Tensor, drawn: Tensor) -> Tensor:
    """``images`` ``[B, C, H, W]``, each moved and mirrored as ``drawn`` ``[B, 3]`` says (see :class:`Augmentation`)."""
    count, channels, height, width = images.shape
    rows, row_inside = _source(height, drawn[:, 0])
    columns, column_inside = _source(width, drawn[:, 1])
    mirrored = drawn[:, 2:].bool()
    columns = torch.where(mirrored, columns.flip(1), columns)
    column_inside = torch.where(mirrored, column_inside.flip(1), column_inside)
    image = torch.arange(count, device=images.device).view(-1, 1, 1, 1)
    channel = torch.arange(channels, device=images.device).view(1, -1, 1, 1)
    moved = images[image, channel, rows[:, None, :, None], columns[:, None, None, :]]
    return moved * (row_inside[:, None, :, None] & column_inside[:, None, None, :])


def _source(size: int, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Where along an axis each pixel of the result comes from, and whether that is inside: both ``[B, size]``."""
    place = torch.arange(size, device=shift.device) - shift[:, None]
    return place.clamp(0, size - 1), (place >= 0) & (place < size)
