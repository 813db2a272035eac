"""Random shifts, mirror images and elastic distortions, of a whole batch at once and each image on its own.

(The transforms of torchvision draw once for a batch.)
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_POINTS = 4  # along each axis: where a displacement is drawn
_PER_PIXEL = 2**16  # what is drawn for a batch is whole numbers; displacements are in these parts of a pixel


class Augmentation(NamedTuple):
    """How training images are changed.

    Attributes:
        shift: the most pixels by which an image is moved along each axis, black moving in: a random crop of the image
            with a border of that width.
        flip: mirror every other image, left to right.
        warp: displace the pixels smoothly (elastic distortion, after Simard et al. 2003): at 4 x 4 points by normal
            numbers with this standard deviation, in pixels, in between by cubic interpolation. Slight rotations,
            shears and changes of size are among the results.
    """

    shift: int = 0
    flip: bool = False
    warp: float = 0.0

    def draw(self, count: int, random: np.random.Generator) -> Tensor:
        """What is to happen to each of ``count`` images.

        Returns:
            int64 ``[count, 3]``: down, right, mirrored; with ``warp`` ``[count, 35]``, the displacements behind.
        """
        columns = [
            random.integers(-self.shift, self.shift, (count, 2), endpoint=True),
            random.integers(0, 1 + self.flip, (count, 1)),
        ]
        if self.warp:
            displacements = random.normal(0, self.warp * _PER_PIXEL, (count, 2 * _POINTS**2))
            columns.append(np.rint(displacements).astype(np.int64))
        return torch.from_numpy(np.concatenate(columns, axis=1))


def augment(images: Tensor, drawn: Tensor) -> Tensor:
    """``images`` ``[B, C, H, W]``, each changed as its row of ``drawn`` says (see :meth:`Augmentation.draw`).

    Returns:
        The images' dtype, but float32 where they are warped.
    """
    count, channels, height, width = images.shape
    rows, row_inside = _source(height, drawn[:, 0])
    columns, column_inside = _source(width, drawn[:, 1])
    mirrored = drawn[:, 2:3].bool()
    columns = torch.where(mirrored, columns.flip(1), columns)
    column_inside = torch.where(mirrored, column_inside.flip(1), column_inside)
    image = torch.arange(count, device=images.device).view(-1, 1, 1, 1)
    channel = torch.arange(channels, device=images.device).view(1, -1, 1, 1)
    moved = images[image, channel, rows[:, None, :, None], columns[:, None, None, :]]
    moved = moved * (row_inside[:, None, :, None] & column_inside[:, None, None, :])
    return moved if drawn.shape[1] == 3 else _warped(moved, drawn[:, 3:])


def _source(size: int, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Where along an axis each pixel of the result comes from, and whether that is inside: both ``[B, size]``."""
    place = torch.arange(size, device=shift.device) - shift[:, None]
    return place.clamp(0, size - 1), (place >= 0) & (place < size)


def _warped(images: Tensor, displacements: Tensor) -> Tensor:
    """``images``, black around them, read at displaced places: ``displacements`` ``[B, 32]``, those along x first."""
    count, _, height, width = images.shape
    points = displacements.float().view(count, 2, _POINTS, _POINTS) / _PER_PIXEL
    field = functional.interpolate(points, size=(height, width), mode="bicubic", align_corners=True)
    # grid_sample has places from -1 to 1, an image's width apart.
    places = (field * field.new_tensor([2 / width, 2 / height]).view(2, 1, 1)).permute(0, 2, 3, 1)
    upright = torch.eye(2, 3, device=images.device).expand(count, 2, 3)
    places = places + functional.affine_grid(upright, list(images.shape), align_corners=False)
    return functional.grid_sample(images.float(), places, align_corners=False)
