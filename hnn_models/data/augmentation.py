"""Random shifts, mirror images, distortions and erased squares of a whole batch at once, drawn anew for each image.

The transforms of torchvision draw once for a batch.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_POINTS = 4  # displacements are drawn at so many points along each axis
_PER_PIXEL = 2**16  # displacements are drawn as whole numbers, in these parts of a pixel
_PER_IMAGE = 2**16  # places of squares are drawn as whole numbers, in these parts of the image's height or width
# The columns of what is drawn: shift and mirror image, always; displacements; a square.
_MOVED, _WARPED, _ERASED = 3, 2 * _POINTS**2, 3


class Augmentation(NamedTuple):
    """The random changes of training images.

    Attributes:
        shift: the most pixels by which an image is moved along each axis. Black moves in, so this is a random crop of
            the image with a border of that width.
        flip: mirror an image left to right with probability 1/2.
        warp: displace the pixels smoothly (elastic distortion, Simard et al. 2003). The displacements at 4 x 4 points
            are normal numbers with this standard deviation, in pixels; between the points they are interpolated with
            cubic polynomials. Slight rotations, shears and changes of size are among the results.
        erase: blacken a square of so many pixels a side, last of all (cutout, DeVries & Taylor 2017). Its centre is
            drawn uniformly, so a part of it can lie outside the image.
    """

    shift: int = 0
    flip: bool = False
    warp: float = 0.0
    erase: int = 0

    def draw(self, count: int, random: np.random.Generator) -> Tensor:
        """Draw the changes of ``count`` images.

        Returns:
            int64 ``[count, 3]``: pixels down, pixels right, 1 for mirrored. ``warp`` adds 32 columns, displacements,
            and ``erase`` 3: the square's centre down and right, in parts of the image, and its side.
        """
        columns = [
            random.integers(-self.shift, self.shift, (count, 2), endpoint=True),
            random.integers(0, 1 + self.flip, (count, 1)),
        ]
        if self.warp:
            displacements = random.normal(0, self.warp * _PER_PIXEL, (count, _WARPED))
            columns.append(np.rint(displacements).astype(np.int64))
        if self.erase:
            columns += [random.integers(0, _PER_IMAGE, (count, 2)), np.full((count, 1), self.erase)]
        return torch.from_numpy(np.concatenate(columns, axis=1))


def augment(images: Tensor, drawn: Tensor) -> Tensor:
    """Change ``images`` ``[B, C, H, W]``, each by its row of ``drawn`` (see :meth:`Augmentation.draw`).

    Returns:
        ``[B, C, H, W]`` in the images' dtype; in float32 if they are warped.
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
    further = drawn.shape[1] - _MOVED
    if further >= _WARPED:
        moved = _warped(moved, drawn[:, _MOVED : _MOVED + _WARPED])
    return _erased(moved, drawn[:, -_ERASED:]) if further % _WARPED else moved


def _source(size: int, shift: Tensor) -> tuple[Tensor, Tensor]:
    """The place along an axis that each pixel comes from, and True if it is inside the image: both ``[B, size]``."""
    place = torch.arange(size, device=shift.device) - shift[:, None]
    return place.clamp(0, size - 1), (place >= 0) & (place < size)


def _warped(images: Tensor, displacements: Tensor) -> Tensor:
    """Read ``images``, with black around them, at displaced places; ``displacements`` ``[B, 32]`` has x first."""
    count, _, height, width = images.shape
    points = displacements.float().view(count, 2, _POINTS, _POINTS) / _PER_PIXEL
    field = functional.interpolate(points, size=(height, width), mode="bicubic", align_corners=True)
    # In grid_sample the edges of an image are at -1 and 1, so a pixel is 2 / width or 2 / height.
    places = (field * field.new_tensor([2 / width, 2 / height]).view(2, 1, 1)).permute(0, 2, 3, 1)
    upright = torch.eye(2, 3, device=images.device).expand(count, 2, 3)
    places = places + functional.affine_grid(upright, list(images.shape), align_corners=False)
    return functional.grid_sample(images.float(), places, align_corners=False)


def _erased(images: Tensor, squares: Tensor) -> Tensor:
    """Blacken a square of each of ``images``; a row of ``squares`` has its centre down and right, and its side."""
    centre_down, centre_right, side = squares.T[..., None]
    rows, columns = (
        _beside(size, centre, side) for size, centre in zip(images.shape[2:], (centre_down, centre_right), strict=True)
    )
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)


def _beside(size: int, centre: Tensor, side: Tensor) -> Tensor:
    """True for the places along an axis that are in the square: ``[B, size]``."""
    first = centre * size // _PER_IMAGE - side // 2
    place = torch.arange(size, device=centre.device)
    return (place >= first) & (place < first + side)
