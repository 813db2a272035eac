"""Read a folder of images into memory."""

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..errors import DataError
from ..memory import require
from ..plain import whole
from .decoding import RefusedError, read
from .images import ImageSet
from .listing import some, survey

__all__ = ["DataError", "load_folder"]


def load_folder(root: Path | str, shape: tuple[int, int, int] | None = None) -> ImageSet:
    """Read the images of ``root``: ``train/<class>/...`` and ``test/<class>/...``, or ``<class>/...`` alone.

    A part ``val/<class>/...`` can stand beside them. Classes and files are in the order of their names, and a class has
    all images below its folder. Hidden and system entries are left out, and a warning names them; so are other files
    beside the class folders, unless they are images. Every other file has to be an image. A warning names the classes
    with one image, and another one the images that are there twice.

    Args:
        root: the folder.
        shape: convert and resize every image to ``(C, H, W)``, C being 1 (grey) or 3 (RGB); see
            :func:`hnn_models.data.decoding.read`. Without it, all must be grey or all RGB, and of one size.

    Raises:
        ValueError: ``shape`` is not such a shape.
        DataError: the folder is not laid out so (:func:`hnn_models.data.listing.survey`), or has files that are not
            images, damaged, of several frames, of more than 8 bits, or not like the others.
        TooLargeError: the images need more memory than there is.
    """
    shape = _checked(shape)
    listing = survey(Path(root))
    labels = torch.tensor([label for _, label in listing.files])
    images = _decode([path for path, _ in listing.files], labels, shape)
    training, val = (listing.parts.get(part, 0) for part in ("train", "val"))
    return ImageSet(
        images,
        labels,
        scale=255,
        classes=len(listing.classes),
        test_from=training + val if "test" in listing.parts else None,
        val_from=training if "val" in listing.parts else None,
        names=listing.classes,
    )


def _checked(shape: Any) -> tuple[int, int, int] | None:
    if shape is None:
        return None
    try:
        channels, height, width = (whole("shape", size, 1) for size in shape)
        if channels in (1, 3):
            return channels, height, width
    except (TypeError, ValueError):
        pass
    raise ValueError(f"shape must be (1, H, W), grey, or (3, H, W), RGB; got {shape!r}")


def _decode(paths: list[Path], labels: torch.Tensor, shape: tuple[int, int, int] | None) -> torch.Tensor:
    """The images at ``paths``, uint8 ``[N, C, H, W]``."""
    images = None
    refused: dict[str, list[str]] = {}
    convertible = False
    sizes: dict[Path, tuple[int, ...]] = {}
    seen: dict[bytes, int] = {}
    repeated: list[str] = []
    if shape is not None:
        _fits(paths, shape)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for i, path in enumerate(paths):
            try:
                pixels = read(path, shape)
            except RefusedError as error:
                refused.setdefault(error.kind, []).append(f"{path} ({error.detail})")
                convertible |= error.convertible
                continue
            sizes[path] = tuple(pixels.shape)
            if images is None:
                _fits(paths, pixels.shape)
                images = torch.empty(len(paths), *pixels.shape, dtype=torch.uint8)
            if pixels.shape != images.shape[1:]:
                continue
            images[i] = pixels
            digest = hashlib.blake2b(images[i].numpy().data, digest_size=16).digest()
            first = seen.setdefault(digest, i)
            if first != i:
                apart = ", of another class" if labels[first] != labels[i] else ""
                repeated.append(f"{path} ({paths[first]}{apart})")
    common = Counter(sizes.values()).most_common(1)
    odd = [f"{path} ({size})" for path, size in sizes.items() if size != common[0][0]]
    if odd:
        refused[f"not like the others, {common[0][0]}"] = odd
        convertible = True
    if refused:
        convert = "; --image-shape C,H,W converts and resizes all" if convertible and shape is None else ""
        raise DataError("; ".join(f"{kind}: {some(files)}" for kind, files in refused.items()) + convert)
    if repeated:
        warnings.warn(
            f"images that are there more than once, perhaps for training and for test: {some(repeated)}", stacklevel=5
        )
    assert images is not None  # a listing has images
    return images


def _fits(paths: list[Path], shape: Sequence[int]) -> None:
    require(f"the images of {os.path.commonpath(paths)}", len(paths), shape, torch.uint8)
