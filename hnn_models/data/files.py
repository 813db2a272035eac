"""Readers of the data sets' files. A file is checked against its checksum before it is opened."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .images import DataError, ImageSet

# The MD5 checksum of each file of MNIST as torchvision unpacks it. torchvision has those of the packed files alone.
MNIST_FILES = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def digits() -> ImageSet:
    """The 8 x 8 digits that ship with scikit-learn."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = torch.from_numpy(found.images.astype(np.uint8)).unsqueeze(1)
    return ImageSet(images, torch.from_numpy(found.target.astype(np.int64)), scale=16, classes=10)


def mnist(data_dir: Path) -> ImageSet:
    """MNIST, from the unpacked files."""
    return _idx(_verified(data_dir / "MNIST" / "raw", MNIST_FILES))


def fashion_mnist(data_dir: Path) -> ImageSet:
    """Fashion-MNIST, from the packed files that torchvision keeps beside the unpacked ones."""
    from torchvision.datasets import FashionMNIST

    # The packed files, because torchvision has the checksums of these alone.
    return _idx(_verified(data_dir / "FashionMNIST" / "raw", dict(FashionMNIST.resources)))


def cifar10(data_dir: Path) -> ImageSet:
    """CIFAR-10, from the Python version's files."""
    from torchvision.datasets import CIFAR10

    # The files are pickles, which can run code: none is opened before its checksum is known to be right.
    sums = dict([*CIFAR10.train_list, *CIFAR10.test_list, (CIFAR10.meta["filename"], CIFAR10.meta["md5"])])
    _verified(data_dir / CIFAR10.base_folder, sums)
    parts = [CIFAR10(str(data_dir), train=train) for train in (True, False)]
    images = torch.from_numpy(np.concatenate([part.data for part in parts])).permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor(parts[0].targets + parts[1].targets)
    return ImageSet(images, labels, scale=255, classes=10, test_from=len(parts[0].targets))


def folder(data_dir: Path, shape: tuple[int, int, int] | None) -> ImageSet:
    """A folder of images; see :func:`hnn_models.data.folder.load_folder`."""
    from .folder import load_folder  # here, because it needs Pillow

    return load_folder(data_dir, shape)


def _verified(place: Path, sums: dict[str, str]) -> list[Path]:
    """The files of ``sums`` in the folder ``place``, once they are known to be the original ones."""
    paths = [place / name for name in sums]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise DataError(f"{place} is not complete: no {', no '.join(missing)} (put them there, or --download them)")
    damaged = [path.name for path, md5 in zip(paths, sums.values(), strict=True) if _md5(path) != md5]
    if damaged:
        raise DataError(
            f"damaged files in {place}: {', '.join(damaged)}; they differ from the original data set "
            "(remove them, and --download fetches them again)"
        )
    return paths


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _idx(paths: list[Path]) -> ImageSet:
    """The images of four files in MNIST's format: training images and labels, test images and labels."""
    arrays = [_read_idx(path) for path in paths]
    images = torch.cat(arrays[0::2]).unsqueeze(1)
    labels = torch.cat(arrays[1::2]).long()
    return ImageSet(images, labels, scale=255, classes=10, test_from=len(arrays[1]))


def _read_idx(path: Path) -> Tensor:
    """A file in the IDX format: two zeros, the type (8 is uint8), the number of axes, their sizes, the values."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    axes = content[3]
    sizes = np.frombuffer(content, ">i4", axes, offset=4)
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(sizes).copy())
