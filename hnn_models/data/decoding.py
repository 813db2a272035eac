"""One image file as pixels of 8 bits, and the reasons for which a file is not taken."""

import re
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageFile

# Others are refused: some are not still images, some are scripts, and some hide how many bits they have.
FORMATS = ("BMP", "GIF", "JPEG", "MPO", "PNG", "PPM", "TIFF", "WEBP")
_CHANNELS = {"L": 1, "RGB": 3}
_CONVERTIBLE = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
_ORIENTATION = 0x0112  # the tag of EXIF
_TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class RefusedError(ValueError):
    """A file that is not taken.

    Attributes:
        kind: what it is not, for the head of a message.
        detail: what it is.
        convertible: a shape to convert to would help.
    """

    def __init__(self, kind: str, detail: str, convertible: bool = False) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.convertible = convertible


def read(path: Path, shape: tuple[int, int, int] | None) -> torch.Tensor:
    """The image at ``path``, turned as its EXIF data says, as uint8 ``[C, H, W]``.

    Args:
        path: the file.
        shape: convert and resize to ``(C, H, W)``: transparent parts are laid on white, colors become grey by their
            luminance (ITU-R 601-2), CMYK becomes RGB without its profile, and the image is scaled bilinearly to that
            size, whatever its own proportions. Without it, the image has to be grey or RGB, and opaque.

    Raises:
        RefusedError: a file that is no image of :data:`FORMATS`, damaged, of several frames, of more than 8 bits per
            channel, or not of an allowed mode.
    """
    try:
        return _pixels(path, shape)
    except RefusedError:
        raise
    except Exception as error:  # Pillow's readers raise almost anything for a damaged file
        raise RefusedError("damaged or not an image", _reason(path, error)) from error


def _pixels(path: Path, shape: tuple[int, int, int] | None) -> torch.Tensor:
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    # Not its path: what Pillow maps into memory, it cuts into wrong rows where a TIFF is turned by 90 degrees.
    with path.open("rb") as file, Image.open(file, formats=formats) as image:
        if image.format == "PNG":  # loading ends with the last pixel, and compares no checksum of the pixels
            _verify_png(file, formats)
        if _more_than_8_bits(image):
            raise RefusedError("not grey or RGB of 8 bits", f"mode {image.mode}, more than 8 bits")
        # A phone's JPEG (MPO) has previews or another view behind the picture.
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":
            raise RefusedError("not one still image", f"{frames} frames")
        image.load()
        transparent = image.has_transparency_data
        allowed = _CHANNELS if shape is None else _CONVERTIBLE
        if image.mode not in allowed or (transparent and shape is None):
            mode = image.mode + (" with a transparent color" if transparent and image.mode in _CHANNELS else "")
            raise RefusedError("not grey or RGB of 8 bits", f"mode {mode}", image.mode in _CONVERTIBLE)
        turn = _TURNED.get(image.getexif().get(_ORIENTATION, 0))  # Pillow has turned a TIFF, and taken the tag away
        whole = image if turn is None else image.transpose(turn)
        if shape is not None:
            whole = _converted(whole, shape, transparent)
        pixels = torch.from_numpy(np.array(whole))
    return pixels.permute(2, 0, 1) if pixels.ndim == 3 else pixels.unsqueeze(0)


def _verify_png(file: BinaryIO, formats: list[str]) -> None:
    """Raise an error if a part of a PNG file is missing, or has another checksum. The place in the file is kept."""
    place = file.tell()
    file.seek(0)
    with Image.open(file, formats=formats) as again:  # which cannot be loaded afterwards
        again.verify()
    file.seek(place)


def _converted(image: Image.Image, shape: tuple[int, int, int], transparent: bool) -> Image.Image:
    channels, height, width = shape
    if transparent:
        opaque = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque)
    image = image.convert({1: "L", 3: "RGB"}[channels])
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BILINEAR)


def _more_than_8_bits(image: ImageFile.ImageFile) -> bool:
    """True if the file has more than 8 bits per channel. Pillow reads some of them as 8 without a word."""
    if image.mode.startswith(("I", "F")):
        return True
    if image.format == "BMP":  # its 16 bits are those of a whole pixel
        return False
    # What Pillow's decoder is told: the layout in the file, such as "RGB;16B", or a PPM's whitest value.
    told = " ".join(str(tile[3]) for tile in image.tile)
    if image.format == "PPM":
        return any(int(number) > 255 for number in re.findall(r"[0-9]+", told))
    return re.search(r";(10|12|16|24|32|64)", told) is not None


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return error.strerror or type(error).__name__
    if path.stat().st_size == 0:
        return "an empty file"
    if isinstance(error, Image.UnidentifiedImageError):
        return f"none of {', '.join(FORMATS)}"
    return f"{error or type(error).__name__}"
