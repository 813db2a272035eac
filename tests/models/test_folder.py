"""A folder of images: decoded as it is, converted only when asked, every odd file named."""

import numpy as np
import pytest
import torch

pytest.importorskip("torchvision", reason="folders are listed by torchvision, in the extra 'models'")

from PIL import Image

from hnn_models import memory
from hnn_models.data import datasets
from hnn_models.data.folder import load_folder
from hnn_models.errors import DataError


def pixels(number, shape=(6, 5, 3)):
    return np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)


def put(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def folder(tmp_path):
    """Three training images and two test images of two classes, RGB of 6 x 5."""
    for number, name in enumerate(
        ["train/cat/1.png", "train/cat/2.png", "train/dog/1.png", "test/cat/1.png", "test/dog/1.png"]
    ):
        put(tmp_path / name, pixels(number))
    return tmp_path


def load(folder, shape=None):
    return datasets.load_images("folder", folder, shape=shape)


def refused(folder, message, shape=None):
    with pytest.raises(DataError, match=message):
        load(folder, shape)


def test_training_images_before_test_images(folder):
    images = load(folder)
    assert (images.shape, images.classes, len(images), images.scale, images.test_from) == ((3, 6, 5), 2, 5, 255, 3)
    expected = np.stack([pixels(number) for number in range(5)]).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(images.images.numpy(), expected)
    assert images.images.dtype == torch.uint8
    assert images.labels.tolist() == [0, 0, 1, 0, 1]


def test_classes_alone(folder):
    with pytest.warns(UserWarning, match="with one image, .*: 'dog'$"):
        images = load(folder / "train")
    assert (images.labels.tolist(), images.test_from) == ([0, 0, 1], None)


def test_grey_images_have_one_channel(tmp_path):
    put(tmp_path / "a" / "1.png", pixels(1, (6, 5)))
    put(tmp_path / "b" / "1.jpg", pixels(2, (6, 5)))
    with pytest.warns(UserWarning, match="with one image, .*: 'a', 'b'$"):
        images = load(tmp_path)
    assert images.shape == (1, 6, 5)
    np.testing.assert_array_equal(images.images[0, 0].numpy(), pixels(1, (6, 5)))


def test_hidden_files_are_left_out(folder):
    (folder / "train" / "cat" / ".DS_Store").write_bytes(b"x")
    with pytest.warns(UserWarning, match="left out of .*'.DS_Store'$"):
        assert len(load(folder)) == 5


def test_the_most_common_size_is_that_of_the_others(folder):
    put(folder / "train" / "cat" / "0.png", pixels(1, (7, 5, 3)))
    refused(folder, r"^not like the others, \(3, 6, 5\): \S*cat/0.png \(\(3, 7, 5\)\); --image-shape")


def test_each_kind_of_refused_file_is_named(folder):
    put(folder / "train" / "cat" / "3.png", np.full((6, 5), 1000, np.uint16))
    put(folder / "train" / "dog" / "2.png", pixels(1, (7, 5, 3)))
    (folder / "test" / "dog" / "2.png").write_bytes(b"")
    refused(
        folder,
        r"not grey or RGB of 8 bits: \S*cat/3.png \(mode I;16, more than 8 bits\); "
        r"damaged or not an image: \S*test/dog/2.png \(an empty file\); not like the others, .*train/dog/2.png",
    )


def test_more_images_than_memory_are_refused(folder, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: 449)
    refused(folder, r"do not fit into memory: 5 x \(3, 6, 5\) in uint8 are 450 bytes, and 449 bytes are available")
    monkeypatch.setattr(memory, "available", lambda device: 450)
    assert len(load(folder)) == 5


def test_a_shape_that_does_not_fit_is_refused_before_an_image_is_resized(folder):
    with pytest.raises(DataError, match=r"do not fit into memory: 5 x \(3, 10000000, 10000000\) in uint8 are"):
        load_folder(str(folder), (3, 10**7, 10**7))


def test_images_that_differ_are_named(folder):
    put(folder / "train" / "dog" / "2.png", pixels(1, (7, 5, 3)))
    refused(folder, r"not like the others, \(3, 6, 5\): .*dog/2.png \(\(3, 7, 5\)\); --image-shape")
    put(folder / "train" / "dog" / "2.png", pixels(1, (6, 5)))
    refused(folder, r"dog/2.png \(\(1, 6, 5\)\)")
    put(folder / "train" / "dog" / "2.png", pixels(1, (6, 5, 4)))
    refused(folder, r"dog/2.png \(mode RGBA\)")


def test_every_image_of_an_odd_mode(tmp_path):
    put(tmp_path / "a" / "1.png", pixels(1, (6, 5, 4)))
    put(tmp_path / "b" / "1.png", pixels(2, (6, 5, 4)))
    refused(tmp_path, r"not grey or RGB of 8 bits: .*1.png \(mode RGBA\); --image-shape")


def test_shape_converts_and_resizes(folder):
    put(folder / "train" / "dog" / "2.png", pixels(1, (12, 10)))
    images = load(folder, (3, 6, 5))
    np.testing.assert_array_equal(images.images[0].numpy(), pixels(0).transpose(2, 0, 1))  # as it was
    assert torch.equal(images.images[3, 0], images.images[3, 2])  # grey
    put(folder / "train" / "dog" / "2.png", np.full((12, 10), 77, np.uint8))
    grey = load(folder, (1, 3, 4))
    assert grey.shape == (1, 3, 4)
    assert (grey.images[3] == 77).all()


def test_sixteen_bits_would_be_clipped(tmp_path):
    for number, name in enumerate(("a", "b")):
        put(tmp_path / name / "1.png", np.full((6, 5), 1000 + number, np.uint16))
    refused(tmp_path, r"mode I;16, more than 8 bits\)$", (1, 6, 5))


@pytest.mark.parametrize("name", ["1.png", "1.jpg", "notes.txt"])
def test_damaged_files_are_named(folder, name):
    path = folder / "test" / "dog" / name
    if name == "1.jpg":
        put(path, pixels(1, (60, 50, 3)))
    whole = path.read_bytes() if path.exists() else b"some text"
    path.write_bytes(whole[: len(whole) // 2])
    refused(folder, f"damaged or not an image: .*dog/{name} ")


def test_many_damaged_files_are_counted(folder):
    for number in range(7):
        (folder / "train" / "cat" / f"{number}.png").write_bytes(b"")
    refused(folder, r"0.png .*4.png .* and 2 more$")


def test_missing_parts(folder, tmp_path):
    (folder / "train" / "eel").mkdir()
    refused(folder, "eel")
    (folder / "train" / "eel").rmdir()
    put(folder / "test" / "eel" / "1.png", pixels(0))
    refused(folder, "train and test of .* must have the same classes; only one of them has eel")
    (folder / "test").rename(folder / "elsewhere")
    refused(folder, "has train but not test")
    refused(folder / "train" / "cat", "not a folder of images in folders named for their classes")
    refused(folder / "nowhere", "nowhere is not a folder of images")


@pytest.mark.parametrize("shape", [(2, 6, 5), (3, 0, 5), (3, 6)])
def test_wrong_shape(folder, shape):
    with pytest.raises(ValueError, match=r"shape must be \(1, H, W\), grey, or \(3, H, W\), RGB; got"):
        load(folder, shape)
