"""Which image files are taken, and what becomes of their pixels."""

import struct

import numpy as np
import pytest
import torch

pytest.importorskip("PIL", reason="images are read by Pillow, in the extra 'models'")

from PIL import Image

from hnn_models.data.decoding import RefusedError, read


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def saved(path, image, **options):
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(path, **options)
    return path


def refused(path, message, shape=None):
    for each in (None, (3, 6, 5)) if shape is None else (shape,):
        with pytest.raises(RefusedError, match=message) as caught:
            read(path, each)
    return caught.value


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp", "ppm"])
def test_lossless_formats(tmp_path, suffix):
    array = pixels(6, 5, 3)
    options = {"lossless": True} if suffix == "webp" else {}
    path = saved(tmp_path / f"a.{suffix}", array, **options)
    np.testing.assert_array_equal(read(path, None).numpy(), array.transpose(2, 0, 1))


TURNS = {  # what undoes each orientation of EXIF
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).T,
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_images_are_turned_as_exif_says(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(pixels(6, 5))
    options = {"lossless": True} if suffix == "webp" else {}
    if suffix == "webp":
        image = image.convert("RGB")
    path = saved(tmp_path / f"a.{suffix}", image, exif=exif, **options)
    turned = TURNS[orientation](pixels(6, 5))
    np.testing.assert_array_equal(read(path, None)[0].numpy(), turned)
    np.testing.assert_array_equal(read(path, (1, *turned.shape))[0].numpy(), turned)


def test_a_jpeg_is_turned_too(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read(saved(tmp_path / "a.jpg", pixels(6, 5, 3), exif=exif), None).shape == (3, 5, 6)


def half_transparent():
    array = pixels(6, 5, 4)
    array[..., 3] = 255
    array[:3, :, 3] = 0
    return array


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparent_parts_are_laid_on_white(tmp_path, mode):
    image = Image.fromarray(half_transparent())
    image = image.convert(mode) if mode != "PA" else image.convert("RGB").convert("P")
    if mode == "PA":
        image = Image.merge("RGBA", [*image.convert("RGB").split(), Image.fromarray(half_transparent()[..., 3])])
        image = image.quantize(200, method=Image.Quantize.FASTOCTREE)  # a palette with an alpha
    path = saved(tmp_path / "a.png", image)
    opaque = np.array(image.convert("RGB"))[3:]
    result = read(path, (3, 6, 5)).numpy()
    assert (result[:, :3] == 255).all()
    np.testing.assert_array_equal(result[:, 3:], opaque.transpose(2, 0, 1))
    with pytest.raises(RefusedError, match=r"mode (RGBA|LA|P)$") as caught:
        read(path, None)
    assert caught.value.convertible


@pytest.mark.parametrize("array", [pixels(6, 5), pixels(6, 5, 3)])
def test_a_transparent_color(tmp_path, array):
    array[0, 0] = 7
    color = 7 if array.ndim == 2 else (7, 7, 7)
    path = saved(tmp_path / "a.png", array, transparency=color)
    mode = "L" if array.ndim == 2 else "RGB"
    with pytest.raises(RefusedError, match=f"mode {mode} with a transparent color"):
        read(path, None)
    result = read(path, (3, 6, 5)).numpy()
    assert (result[:, 0, 0] == 255).all()
    np.testing.assert_array_equal(result[:, 1:], np.broadcast_to(array[1:].T, (3, 5, 5)).swapaxes(1, 2)
                                  if array.ndim == 2 else array[1:].transpose(2, 0, 1))  # fmt: skip


def test_modes_that_are_converted(tmp_path):
    color = pixels(6, 5, 3)
    for mode in ("1", "P", "CMYK"):
        image = Image.fromarray(color).convert(mode)
        path = saved(tmp_path / "a.tif", image)
        np.testing.assert_array_equal(read(path, (3, 6, 5)).numpy(), np.array(image.convert("RGB")).transpose(2, 0, 1))
        with pytest.raises(RefusedError, match=f"mode {mode}$") as caught:
            read(path, None)
        assert (caught.value.kind, caught.value.convertible) == ("not grey or RGB of 8 bits", True)
    black_and_white = saved(tmp_path / "a.png", Image.fromarray(color).convert("1"))
    assert set(read(black_and_white, (1, 6, 5)).unique().tolist()) == {0, 255}


def png(*, bits, color_type, width=5, height=6):
    """A PNG of random values with ``bits`` per channel, written by hand: Pillow writes no 16 bits of color."""
    import zlib

    channels = {0: 1, 2: 3, 4: 2, 6: 4}[color_type]
    rows = pixels(height, width * channels * bits // 8)
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    out = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    for name, content in ((b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b"")):
        out += struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return out


@pytest.mark.parametrize("color_type", [0, 2, 4, 6])
def test_png_of_sixteen_bits_is_refused(tmp_path, color_type):
    (tmp_path / "a.png").write_bytes(png(bits=16, color_type=color_type))
    refused(tmp_path / "a.png", "more than 8 bits")
    (tmp_path / "a.png").write_bytes(png(bits=8, color_type=color_type))
    assert read(tmp_path / "a.png", (3, 6, 5)).shape == (3, 6, 5)


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint16])
def test_tiff_of_more_bits_is_refused(tmp_path, dtype):
    assert not refused(saved(tmp_path / "a.tif", np.ones((6, 5), dtype)), "more than 8 bits").convertible


def test_portable_map_of_more_bits_is_refused(tmp_path):
    for magic, channels in ((b"P6", 3), (b"P5", 1)):
        head = magic + b"\n5 6\n1023\n"
        (tmp_path / "a.ppm").write_bytes(head + np.ones((6, 5, channels), ">u2").tobytes())
        refused(tmp_path / "a.ppm", "more than 8 bits")


@pytest.mark.parametrize("suffix", ["gif", "png", "tif", "webp"])
def test_several_frames_are_refused(tmp_path, suffix):
    frames = [Image.fromarray(pixels(6, 5, 3, seed=seed)) for seed in range(3)]
    path = saved(tmp_path / f"a.{suffix}", frames[0], save_all=True, append_images=frames[1:])
    assert refused(path, "3 frames").kind == "not one still image"
    assert read(saved(path, frames[0]), (3, 6, 5)).shape == (3, 6, 5)


def test_a_phones_picture_is_taken_without_its_previews(tmp_path):
    frames = [Image.fromarray(pixels(16, 16, 3, seed=seed)) for seed in range(2)]
    path = saved(tmp_path / "a.jpg", frames[0], format="MPO", save_all=True, append_images=frames[1:])
    alone = saved(tmp_path / "b.jpg", frames[0], format="JPEG")
    assert torch.equal(read(path, None), read(alone, None))


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tif", "webp"])
@pytest.mark.parametrize("kept", [0, 0.1, 0.6])
def test_truncated_files_are_refused(tmp_path, suffix, kept):
    path = saved(tmp_path / f"a.{suffix}", pixels(60, 50, 3))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    error = refused(path, "an empty file" if kept == 0 else ".+")
    assert error.kind == "damaged or not an image"


@pytest.mark.parametrize("shape", [(60, 50, 3), (60, 50)])
def test_a_damaged_png_whose_pixels_can_be_decoded_is_refused(tmp_path, shape):
    path = saved(tmp_path / "a.png", pixels(*shape), compress_level=0)
    whole = path.read_bytes()
    place = len(whole) // 2
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    assert refused(path, "bad header checksum|broken PNG").kind == "damaged or not an image"
    for missing in (12, 16):  # the end, and the checksum of the pixels
        path.write_bytes(whole[:-missing])
        assert refused(path, ".+").kind == "damaged or not an image"
    path.write_bytes(whole)
    read(path, None)


@pytest.mark.parametrize(
    "content",
    [
        b"version https://git-lfs.github.com/spec/v1\n",
        b"<html>404</html>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    ],
)
def test_other_content_is_refused(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    refused(tmp_path / "a.png", "none of BMP, GIF, JPEG, ")


def test_decompression_bombs_are_refused(tmp_path, monkeypatch):
    import warnings

    path = saved(tmp_path / "a.png", pixels(6, 5))
    for limit in (20, 10):  # Pillow warns above its limit, and refuses above its double
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            refused(path, r"Image size \(30 pixels\) exceeds limit")
