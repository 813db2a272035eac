"""Data sets, the 6:2:2 split, and batches by index."""

import hashlib

import numpy as np
import pytest
import torch

from hnn_models import data


def test_digits_are_scikit_learns(digits):
    from sklearn.datasets import load_digits

    original = load_digits()
    assert digits.images.dtype == torch.uint8
    assert (digits.shape, digits.classes, len(digits)) == ((1, 8, 8), 10, 1797)
    images, labels = digits[torch.arange(1797)]
    assert images.dtype == torch.float32
    np.testing.assert_array_equal(images[:, 0].numpy(), (original.images / 16).astype(np.float32))
    np.testing.assert_array_equal(labels.numpy(), original.target)
    assert images.max() == 1


@pytest.mark.parametrize("count", [1797, 70000, 7])
def test_split_is_disjoint_complete_and_6_2_2(count):
    parts = data.split(count, seed=3)
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(count))
    for part, share in zip(parts, (0.6, 0.2, 0.2), strict=True):
        assert abs(len(part) - share * count) <= 1


def test_split_depends_on_the_seed_alone():
    first, again, other = (torch.cat(data.split(1000, seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    # Pinned: the same images on every machine and with every version of NumPy.
    assert torch.cat(data.split(10, 0)).tolist() == [2, 8, 4, 9, 1, 6, 7, 3, 0, 5]


def test_batches_hold_every_image_once_in_a_new_order_each_epoch(digits):
    loader = data.loader(digits, 500, seed=1)
    epochs = []
    for epoch in (0, 1, 0):
        loader.sampler.set_epoch(epoch)
        epochs.append(torch.cat(list(loader.sampler)))
        assert torch.equal(epochs[-1].sort().values, torch.arange(1797))
    assert torch.equal(epochs[0], epochs[2])
    assert not torch.equal(epochs[0], epochs[1])
    batches = list(loader)
    assert [len(labels) for _, labels in batches] == [500, 500, 500, 297]
    assert len(loader) == 4
    assert torch.equal(torch.cat([labels for _, labels in batches]), digits.labels[epochs[0]])


def test_batches_without_seed_are_in_order(digits):
    assert torch.equal(torch.cat([labels for _, labels in data.loader(digits, 1000)]), digits.labels)


def idx(array):
    """``array`` of uint8 in the IDX format of MNIST."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.tobytes()


@pytest.fixture
def mnist(tmp_path, monkeypatch):
    """A small data set in MNIST's layout, its sums in place of the real ones."""
    random = np.random.default_rng(0)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    arrays = {}
    for part, count in (("train", 20), ("t10k", 5)):
        arrays[f"{part}-images-idx3-ubyte"] = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{part}-labels-idx1-ubyte"] = random.integers(0, 10, count, dtype=np.uint8)
    for name, array in arrays.items():
        (raw / name).write_bytes(idx(array))
        monkeypatch.setitem(data.MNIST_FILES, name, hashlib.md5(idx(array)).hexdigest())
    return tmp_path, arrays


def test_mnist_pools_training_and_test_images(mnist):
    folder, arrays = mnist
    images = data.load("mnist", folder)
    assert (images.shape, images.classes, len(images), images.scale) == ((1, 28, 28), 10, 25, 255)
    pooled = np.concatenate([arrays["train-images-idx3-ubyte"], arrays["t10k-images-idx3-ubyte"]])
    np.testing.assert_array_equal(images.images[:, 0].numpy(), pooled)
    assert images.labels[20:].tolist() == arrays["t10k-labels-idx1-ubyte"].tolist()
    assert images.labels.dtype == torch.int64


def test_missing_files_are_named(mnist):
    folder, _ = mnist
    (folder / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(data.DataError, match=r"no t10k-labels-idx1-ubyte \(--download") as caught:
        data.load("mnist", folder)
    assert "train" not in str(caught.value)


def test_damaged_files_are_named(mnist):
    folder, _ = mnist
    path = folder / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(data.DataError, match=r"damaged .*: train-images-idx3-ubyte;"):
        data.load("mnist", folder)


def test_failed_download_is_reported(tmp_path, monkeypatch):
    from torchvision.datasets import MNIST

    def refuse(self):
        raise RuntimeError("no network")

    monkeypatch.setattr(MNIST, "download", refuse)
    with pytest.raises(data.DataError, match=r"cannot be downloaded into .*: no network"):
        data.load("mnist", tmp_path, download=True)


def test_wrong_names_and_folders(tmp_path):
    with pytest.raises(ValueError, match="dataset must be one of 'digits', 'mnist'; got 'svhn'"):
        data.load("svhn")
    with pytest.raises(ValueError, match="needs data_dir"):
        data.load("mnist")
    with pytest.raises(ValueError, match="takes no data_dir"):
        data.load("digits", tmp_path)
