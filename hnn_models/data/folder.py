"""Read a folder of images into memory."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .images import DataError, ImageSet

_CHANNELS = {"L": 1, "RGB": 3}
_CONVERTIBLE = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # of 8 bits; others would be clipped
_NAMED = 5  # the most files that a message names


def load_folder(root: Path, shape: tuple[int, int, int] | None = None) -> ImageSet:
    """Read the images of ``root``: ``train/<class>/...`` and ``test/<class>/...``, or ``<class>/...`` alone.

    Classes and files are in the order of their names. Hidden files are left out. Every other file has to be an image.

    Args:
        root: the folder.
        shape: convert and resize every image to ``(C, H, W)``, where C is 1 (grey) or 3 (RGB). Without it, all images
            must be grey or all RGB, and of one size.

    Raises:
        ValueError: ``shape`` is not such a shape.
        DataError: there are no such folders, a class without images, classes that differ between ``train`` and
            ``test``, or files that are not images, damaged, or not like the others.
    """
    if shape is not None and not (
        len(shape) == 3 and shape[0] in (1, 3) and all(type(n) is int and n > 0 for n in shape)
    ):
        raise ValueError(f"shape must be (1, H, W), grey, or (3, H, W), RGB; got {shape!r}")
    parts = [part for part in (root / "train", root / "test") if part.is_dir()]
    if len(parts) == 1:
        raise DataError(f"{root} has {parts[0].name} but not {'test' if parts[0].name == 'train' else 'train'}")
    listings = [_listing(part) for part in parts or [root]]
    classes = listings[0][0]
    for names, _ in listings:
        if names != classes:
            only = ", ".join(sorted(set(names) ^ set(classes)))
            raise DataError(f"train and test of {root} must have the same classes; only one of them has {only}")
    samples = [sample for _, part in listings for sample in part]
    images = _decode([Path(path) for path, _ in samples], shape)
    labels = torch.tensor([label for _, label in samples])
    test_from = len(listings[0][1]) if len(listings) == 2 else None
    return ImageSet(images, labels, scale=255, classes=len(classes), test_from=test_from)


def _listing(part: Path) -> tuple[list[str], list[tuple[str, int]]]:
    """The classes of ``part``, and its files with the number of their class."""
    from torchvision.datasets import ImageFolder

    try:
        found = ImageFolder(str(part), is_valid_file=lambda path: not Path(path).name.startswith("."))
    except OSError as error:
        raise DataError(f"{part} is not a folder of images in folders named for their classes: {error}") from error
    return found.classes, found.samples


def _decode(paths: list[Path], shape: tuple[int, int, int] | None) -> torch.Tensor:
    """The images at ``paths``, uint8 ``[N, C, H, W]``."""
    images = None
    damaged: list[str] = []
    unlike: list[str] = []
    for i, path in enumerate(paths):
        try:
            pixels, mode = _pixels(path, shape)
        # Pillow raises these for a file that is not an image, is cut off, or unpacks to an absurd size.
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            damaged.append(f"{path} ({error})")
            continue
        if pixels is None:
            unlike.append(f"{path} (mode {mode})")
            continue
        if images is None:
            images = torch.empty(len(paths), *pixels.shape, dtype=torch.uint8)
        if pixels.shape != images.shape[1:]:
            unlike.append(f"{path} ({tuple(pixels.shape)})")
            continue
        images[i] = pixels
    if damaged:
        raise DataError(f"{_some(damaged, 'damaged or not an image')}")
    if unlike:
        alike = f"like the others, {tuple(images.shape[1:])}" if images is not None else "grey or RGB of 8 bits"
        convert = "" if shape else "; --image-shape C,H,W converts and resizes all"
        raise DataError(f"{_some(unlike, f'not {alike}')}{convert}")
    return images


def _some(files: list[str], what: str) -> str:
    more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
    return f"{what}: {', '.join(files[:_NAMED])}{more}"


def _pixels(path: Path, shape: tuple[int, int, int] | None) -> tuple[torch.Tensor | None, str]:
    """The image at ``path`` as uint8 ``[C, H, W]``, or None if its mode is not allowed; and its mode."""
    with Image.open(path) as image:
        mode = image.mode
        if shape is None:
            if mode not in _CHANNELS:
                return None, mode
        else:
            if mode not in _CONVERTIBLE:
                return None, mode
            channels, height, width = shape
            image = image.convert({1: "L", 3: "RGB"}[channels])
            if image.size != (width, height):
                image = image.resize((width, height), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(image))
    return (pixels.permute(2, 0, 1) if pixels.ndim == 3 else pixels.unsqueeze(0)), mode
