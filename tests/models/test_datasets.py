"""Named data sets: read as they are, and what is missing or damaged is named."""

import gzip
import hashlib
import pickle
import shutil
import tarfile

import numpy as np
import pytest
import torch

pytest.importorskip("torchvision", reason="the data sets come through torchvision, in the extra 'models'")

from hnn_models.data import datasets, files
from hnn_models.data.images import ImageSet
from hnn_models.errors import DataError
from hnn_models.training.protocol import Protocol


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
        monkeypatch.setitem(files.MNIST_FILES, name, hashlib.md5(idx(array)).hexdigest())
    return tmp_path, arrays


def test_mnist_pools_training_and_test_images(mnist):
    folder, arrays = mnist
    images = datasets.load_images("mnist", folder)
    assert (images.shape, images.classes, len(images), images.scale, images.test_from) == ((1, 28, 28), 10, 25, 255, 20)
    pooled = np.concatenate([arrays["train-images-idx3-ubyte"], arrays["t10k-images-idx3-ubyte"]])
    np.testing.assert_array_equal(images.images[:, 0].numpy(), pooled)
    assert images.labels[20:].tolist() == arrays["t10k-labels-idx1-ubyte"].tolist()
    assert images.labels.dtype == torch.int64


def test_missing_files_are_named(mnist):
    folder, _ = mnist
    (folder / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"no t10k-labels-idx1-ubyte \(put them there, or --download") as caught:
        datasets.load_images("mnist", folder)
    assert "train" not in str(caught.value)


def test_damaged_files_are_named(mnist):
    folder, _ = mnist
    path = folder / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"damaged .*: train-images-idx3-ubyte;"):
        datasets.load_images("mnist", folder)


def test_failed_download_is_reported(tmp_path, monkeypatch):
    from torchvision.datasets import MNIST

    def refuse(self):
        raise RuntimeError("no network")

    monkeypatch.setattr(MNIST, "download", refuse)
    with pytest.raises(DataError, match=r"cannot be downloaded into .*: no network"):
        datasets.load_images("mnist", tmp_path, download=True)


def test_what_is_missing_is_downloaded(mnist, monkeypatch):
    from torchvision.datasets import MNIST

    folder, _ = mnist
    raw = (folder / "MNIST").rename(folder / "mirror") / "raw"
    monkeypatch.setattr(MNIST, "download", lambda self: shutil.copytree(raw, self.raw_folder))
    assert len(datasets.load_images("mnist", folder, download=True)) == 25


def test_fashion_mnist_is_read_from_the_packed_files(tmp_path, monkeypatch):
    random = np.random.default_rng(1)
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    arrays = []
    for part, count in (("train", 8), ("t10k", 4)):
        for kind, shape in (("images-idx3", (count, 28, 28)), ("labels-idx1", (count,))):
            arrays.append(random.integers(0, 10, shape, dtype=np.uint8))
            name, content = f"{part}-{kind}-ubyte", idx(arrays[-1])
            monkeypatch.setitem(files.FASHION_MNIST_FILES, name, hashlib.md5(content).hexdigest())
            (raw / f"{name}.gz").write_bytes(gzip.compress(content))
    images = datasets.load_images("fashion-mnist", tmp_path)
    np.testing.assert_array_equal(images.images[:, 0].numpy(), np.concatenate(arrays[0::2]))
    np.testing.assert_array_equal(images.labels.numpy(), np.concatenate(arrays[1::2]))
    assert images.test_from == 8
    (raw / "t10k-images-idx3-ubyte.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"damaged .*: t10k-images-idx3-ubyte.gz;"):
        datasets.load_images("fashion-mnist", tmp_path)


@pytest.fixture
def raw(mnist):
    folder, _ = mnist
    return folder / "MNIST" / "raw"


def pack(path):
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=1))
    path.unlink()


@pytest.mark.parametrize("place", ["MNIST/raw", "MNIST", "raw", "."])
@pytest.mark.parametrize("packed", ["none", "some", "all"])
@pytest.mark.parametrize("dotted", [False, True])
def test_packed_and_unpacked_files_in_every_place(mnist, tmp_path_factory, place, packed, dotted):
    source, _ = mnist
    expected = datasets.load_images("mnist", source).fingerprint()
    folder = tmp_path_factory.mktemp("data")
    (folder / place).mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(sorted((source / "MNIST" / "raw").iterdir())):
        name = path.name.replace("-idx", ".idx") if dotted else path.name
        copy = shutil.copy(path, folder / place / name)
        if packed == "all" or (packed == "some" and number % 2):
            pack(copy)
    before = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    assert datasets.load_images("mnist", folder).fingerprint() == expected
    assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == before  # only read


def test_one_whole_copy_of_a_file_will_do(mnist, raw):
    folder, _ = mnist
    name = "train-labels-idx1-ubyte"
    (raw / f"{name}.gz").write_bytes(b"damaged")
    assert len(datasets.load_images("mnist", folder)) == 25
    whole = (raw / name).read_bytes()
    (raw / name).write_bytes(b"damaged")
    with pytest.raises(DataError, match=f"damaged files in .*: {name};"):
        datasets.load_images("mnist", folder)
    (raw / f"{name}.gz").write_bytes(gzip.compress(whole))
    assert len(datasets.load_images("mnist", folder)) == 25


def test_a_truncated_packed_file_is_damaged(mnist, raw):
    folder, _ = mnist
    pack(raw / "train-images-idx3-ubyte")
    path = raw / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"damaged .*: train-images-idx3-ubyte.gz;"):
        datasets.load_images("mnist", folder)


def test_files_of_the_other_set(mnist, raw, monkeypatch):
    from torchvision.datasets import FashionMNIST

    with pytest.raises(DataError, match=r"holds train-images-idx3-ubyte of MNIST, not of FashionMNIST \(put those of"):
        datasets.load_images("fashion-mnist", raw)
    called = []
    monkeypatch.setattr(FashionMNIST, "download", lambda self: called.append(self.raw_folder))
    with pytest.raises(DataError, match="FashionMNIST cannot be downloaded into"):
        datasets.load_images("fashion-mnist", raw, download=True)
    assert called == [str(raw / "FashionMNIST" / "raw")]


def test_nothing_is_downloaded_where_nothing_is_missing(mnist, raw, monkeypatch):
    from torchvision.datasets import MNIST

    monkeypatch.setattr(MNIST, "download", lambda self: pytest.fail("downloaded"))
    for path in list(raw.iterdir()):
        pack(path)
    assert len(datasets.load_images("mnist", raw, download=True)) == 25


@pytest.fixture
def cifar10(tmp_path, monkeypatch):
    """A small data set in CIFAR-10's layout, its sums in place of the real ones."""
    from torchvision.datasets import CIFAR10

    random = np.random.default_rng(2)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    pixels, labels = [], []

    def put(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return hashlib.md5(pickle.dumps(content)).hexdigest()

    lists = {"train_list": [], "test_list": []}
    for list_name, name in (
        ("train_list", "data_batch_1"),
        ("train_list", "data_batch_2"),
        ("test_list", "test_batch"),
    ):
        pixels.append(random.integers(0, 256, (3, 3072), dtype=np.uint8))
        labels += (batch_labels := random.integers(0, 10, 3).tolist())
        lists[list_name].append([name, put(name, {"data": pixels[-1], "labels": batch_labels})])
    meta = {**CIFAR10.meta, "md5": put("batches.meta", {"label_names": list("abcdefghij")})}
    for name, value in {**lists, "meta": meta}.items():
        monkeypatch.setattr(CIFAR10, name, value)
    return tmp_path, np.concatenate(pixels).reshape(-1, 3, 32, 32), labels


def test_cifar10_pools_training_and_test_images(cifar10):
    folder, pixels, labels = cifar10
    images = datasets.load_images("cifar10", folder)
    assert (images.shape, images.classes, len(images), images.scale, images.test_from) == ((3, 32, 32), 10, 9, 255, 6)
    np.testing.assert_array_equal(images.images.numpy(), pixels)
    assert images.labels.tolist() == labels


def test_cifar10_from_its_archive_or_its_files(cifar10, tmp_path_factory):
    folder, *_ = cifar10
    expected = datasets.load_images("cifar10", folder).fingerprint()
    assert datasets.load_images("cifar10", folder / "cifar-10-batches-py").fingerprint() == expected
    packed = tmp_path_factory.mktemp("packed")
    with tarfile.open(packed / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(folder / "cifar-10-batches-py", "cifar-10-batches-py")
    assert datasets.load_images("cifar10", packed).fingerprint() == expected
    assert [path.name for path in packed.iterdir()] == ["cifar-10-python.tar.gz"]
    shutil.copytree(folder / "cifar-10-batches-py", packed / "cifar-10-batches-py")
    (packed / "cifar-10-batches-py" / "data_batch_1").unlink()
    assert datasets.load_images("cifar10", packed).fingerprint() == expected
    whole = (packed / "cifar-10-python.tar.gz").read_bytes()
    (packed / "cifar-10-python.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"damaged file .*cifar-10-python.tar.gz: "):
        datasets.load_images("cifar10", packed)


def test_an_archive_of_other_batches_is_not_unpickled(cifar10, tmp_path):
    folder, *_ = cifar10
    (folder / "cifar-10-batches-py" / "data_batch_2").write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(folder / "cifar-10-batches-py", "cifar-10-batches-py")
    shutil.rmtree(folder / "cifar-10-batches-py")
    with pytest.raises(DataError, match=r"damaged files in .*tar.gz: data_batch_2;"):
        datasets.load_images("cifar10", folder)
    assert not (tmp_path / "ran").exists()


def test_damaged_cifar10_is_not_unpickled(cifar10, tmp_path):
    folder, *_ = cifar10
    (folder / "cifar-10-batches-py" / "data_batch_2").write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    with pytest.raises(DataError, match=r"damaged .*: data_batch_2;"):
        datasets.load_images("cifar10", folder)
    assert not (tmp_path / "ran").exists()
    (folder / "cifar-10-batches-py" / "batches.meta").unlink()
    with pytest.raises(DataError, match="no batches"):
        datasets.load_images("cifar10", folder)


class Payload:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (["svhn"], {}, "dataset must be one of 'digits', 'mnist', 'fashion-mnist', 'cifar10', 'folder'; got 'svhn'"),
        (["mnist"], {}, "'mnist' needs data_dir .* that holds MNIST/raw"),
        (["folder"], {}, "'folder' needs data_dir .* that holds train/<class>/"),
        (["digits", "."], {}, "takes no data_dir"),
        (["digits"], {"download": True}, "takes no data_dir"),
        (["folder", "."], {"download": True}, "nothing to download"),
        (["mnist", "."], {"shape": (1, 28, 28)}, "shape .* is for a folder"),
    ],
)
def test_wrong_argument(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        datasets.load_images(*arguments, **options)


def test_a_data_set_is_one_entry(tmp_path, monkeypatch):
    """It is read, has a protocol of every recipe, and is refused what it has no use for."""

    def read(data_dir):
        return ImageSet(torch.zeros(5, 1, 2, 2, dtype=torch.uint8), torch.zeros(5, dtype=torch.int64), 255, 10)

    entry = datasets.Dataset(read, {"paper": {"epochs": 7}, "modern": {"shift": 1}}, shape=(1, 2, 2), holds="toy.bin")
    with pytest.raises(ValueError, match="dataset must be one of"):
        datasets.load_images("toy", tmp_path)
    monkeypatch.setitem(datasets.DATASETS, "toy", entry)
    assert datasets.load_images("toy", tmp_path).shape == (1, 2, 2)
    assert Protocol.of("toy") == Protocol("toy", epochs=7)
    modern = Protocol.of("toy", "modern")
    assert (modern.epochs, modern.shift, modern.schedule) == (100, 1, "one-cycle")
    for options, message in (
        ({}, "needs data_dir .* that holds toy.bin"),
        ({"data_dir": tmp_path, "download": True}, "nothing to download"),
        ({"data_dir": tmp_path, "shape": (1, 2, 2)}, "shape .* is for a folder"),
    ):
        with pytest.raises(ValueError, match=message):
            datasets.load_images("toy", **options)
