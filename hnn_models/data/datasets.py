"""Named data sets and folders of images, read into memory; missing and damaged files are named."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..training.checkpoint import Checkpoint
from .folder import DataError, load_folder
from .images import ImageSet

# The md5 of each file of MNIST as torchvision unpacks it. (torchvision knows those of the packed files.)
MNIST_FILES = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}

# What data_dir holds.
DATASETS = {
    "digits": "nothing: they come with scikit-learn",
    "mnist": "MNIST/raw",
    "fashion-mnist": "FashionMNIST/raw",
    "cifar10": "cifar-10-batches-py",
    "folder": "train/<class>/... and test/<class>/..., or <class>/...",
}

# The shape of their images; that of a folder is the folder's own.
SHAPES = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "fashion-mnist": (1, 28, 28), "cifar10": (3, 32, 32)}


def load(
    name: str,
    data_dir: Path | None = None,
    *,
    download: bool = False,
    shape: tuple[int, int, int] | None = None,
) -> ImageSet:
    """All images of a data set, training images before test images.

    Args:
        name: ``"digits"`` (scikit-learn's, shipped with it), ``"mnist"``, ``"fashion-mnist"``, ``"cifar10"`` (the files
            that torchvision downloads), or ``"folder"``: images as ``train/<class>/...`` and ``test/<class>/...``, or
            ``<class>/...``.
        data_dir: the folder that holds ``MNIST/raw``, ``FashionMNIST/raw``, ``cifar-10-batches-py`` or the images.
        download: fetch what is missing into ``data_dir``.
        shape: for a folder only, convert and resize every image to ``(C, H, W)``, C being 1 (grey) or 3 (RGB). Without
            it, all must be alike.

    Raises:
        ValueError: a ``name`` that is not known, or an argument missing or given where there is no use for it.
        DataError: files that are missing, damaged, not alike, or cannot be downloaded.
    """
    if name not in DATASETS:
        raise ValueError(f"dataset must be one of {', '.join(map(repr, DATASETS))}; got {name!r}")
    if shape is not None and name != "folder":
        raise ValueError(f"shape (--image-shape) is for a folder of images; dataset {name!r} has its own")
    if name == "digits":
        if data_dir is not None or download:
            raise ValueError(
                "dataset 'digits' comes with scikit-learn: it takes no data_dir (--data-dir) and no download"
            )
        return _digits()
    if data_dir is None:
        raise ValueError(f"dataset {name!r} needs data_dir (--data-dir), the folder that holds {DATASETS[name]}")
    data_dir = Path(data_dir)
    if name == "folder":
        if download:
            raise ValueError("dataset 'folder' is read from data_dir (--data-dir): there is nothing to download")
        return load_folder(data_dir, shape)

    from torchvision import datasets

    class_name, read = _TORCHVISION[name]
    source = getattr(datasets, class_name)
    if download:
        try:
            source(str(data_dir), download=True)
        except (OSError, RuntimeError) as error:
            raise DataError(f"{class_name} cannot be downloaded into {data_dir}: {error}") from error
    return read(data_dir, source)


def load_again(trained: Checkpoint, data_dir: Path | None = None) -> ImageSet:
    """The images that a network was trained on, in their order, so that their split is the same one.

    Args:
        trained: the checkpoint of the network.
        data_dir: as for :func:`load`. The images of a folder are converted as they were.

    Raises:
        ValueError: ``data_dir`` is missing or given where there is no use for it.
        DataError: files that are missing or damaged, or other images.
    """
    name = trained.protocol.dataset
    images = load(name, data_dir, shape=trained.network.input_shape if name == "folder" else None)
    if images.fingerprint() != trained.images:
        raise DataError(f"the network was trained on other images than those of {data_dir}: it may have seen some")
    return images


def _digits() -> ImageSet:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(digits.images.astype(np.uint8)).unsqueeze(1)
    return ImageSet(images, torch.from_numpy(digits.target.astype(np.int64)), scale=16, classes=10)


def _mnist(data_dir: Path, source: type) -> ImageSet:
    return _idx(_verified(data_dir / "MNIST" / "raw", MNIST_FILES))


def _fashion_mnist(data_dir: Path, source: type) -> ImageSet:
    # Read from the packed files, which torchvision keeps beside the unpacked: it knows the sums of those alone.
    return _idx(_verified(data_dir / "FashionMNIST" / "raw", dict(source.resources)))


def _cifar10(data_dir: Path, source: type) -> ImageSet:
    # These files are pickles: none is opened before its sum is known to be right.
    sums = dict([*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])])
    _verified(data_dir / source.base_folder, sums)
    parts = [source(str(data_dir), train=train) for train in (True, False)]
    images = torch.from_numpy(np.concatenate([part.data for part in parts])).permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor(parts[0].targets + parts[1].targets)
    return ImageSet(images, labels, scale=255, classes=10, test_from=len(parts[0].targets))


def _verified(folder: Path, sums: dict[str, str]) -> list[Path]:
    """The files of ``sums`` in ``folder``, once they are known to be the original ones."""
    files = [folder / name for name in sums]
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise DataError(f"{folder} is not complete: no {', no '.join(missing)} (put them there, or --download them)")
    damaged = [path.name for path, md5 in zip(files, sums.values(), strict=True) if _md5(path) != md5]
    if damaged:
        raise DataError(
            f"damaged files in {folder}: {', '.join(damaged)}; they differ from the original data set "
            "(remove them, and --download fetches them again)"
        )
    return files


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _idx(files: list[Path]) -> ImageSet:
    """The images of MNIST's four files: training images and labels, test images and labels."""
    arrays = [_read_idx(path) for path in files]
    images = torch.cat(arrays[0::2]).unsqueeze(1)
    labels = torch.cat(arrays[1::2]).long()
    return ImageSet(images, labels, scale=255, classes=10, test_from=len(arrays[1]))


def _read_idx(path: Path) -> Tensor:
    """A file in the IDX format: two zeros, the type (8: uint8), the number of axes, their sizes, the values."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    axes = content[3]
    sizes = np.frombuffer(content, ">i4", axes, offset=4)
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(sizes).copy())


_TORCHVISION = {
    "mnist": ("MNIST", _mnist),
    "fashion-mnist": ("FashionMNIST", _fashion_mnist),
    "cifar10": ("CIFAR10", _cifar10),
}
