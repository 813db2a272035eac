"""Readers of the data sets' files. A file is checked against its checksum before it is used."""

import gzip
import hashlib
import pickle
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError, MissingFilesError
from .images import ImageSet

# The MD5 checksums of the unpacked files. torchvision has those of one edition of the packed files.
MNIST_FILES = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
FASHION_MNIST_FILES = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
_UNPACKING = (OSError, EOFError, zlib.error, tarfile.TarError)  # raised where a packed file is damaged


def digits() -> ImageSet:
    """The 8 x 8 digits that ship with scikit-learn."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = torch.from_numpy(found.images.astype(np.uint8)).unsqueeze(1)
    return ImageSet(images, torch.from_numpy(found.target.astype(np.int64)), scale=16, classes=10)


def mnist(data_dir: Path) -> ImageSet:
    """MNIST, from ``MNIST/raw`` in ``data_dir``, or from files in ``data_dir`` itself; each is packed (.gz) or not.

    Raises:
        MissingFilesError: a file is missing.
        DataError: a file is damaged.
    """
    return _four_files(data_dir, "MNIST", MNIST_FILES)


def fashion_mnist(data_dir: Path) -> ImageSet:
    """Fashion-MNIST, from ``FashionMNIST/raw`` or from the files, as :func:`mnist`."""
    return _four_files(data_dir, "FashionMNIST", FASHION_MNIST_FILES)


def cifar10(data_dir: Path) -> ImageSet:
    """CIFAR-10's Python version, from ``cifar-10-batches-py``, its files alone, or ``cifar-10-python.tar.gz``.

    Raises:
        MissingFilesError: a file is missing.
        DataError: a file is damaged.
    """
    from torchvision.datasets import CIFAR10

    batches = dict([*CIFAR10.train_list, *CIFAR10.test_list])
    sums = {**batches, CIFAR10.meta["filename"]: CIFAR10.meta["md5"]}
    folder, found = _place([data_dir / CIFAR10.base_folder, data_dir], {file: [file] for file in sums})
    archive = data_dir / CIFAR10.filename
    if len(found) < len(sums) and archive.is_file():
        folder, contents = archive, _members(archive, sums)
    else:
        contents = {file: paths[0].read_bytes() for file, paths in found.items()}
    _check_complete(folder, sums, contents)
    # The files are pickles, which can run code: none is opened before its checksum is known to be right.
    _check_undamaged(folder, [file for file, content in contents.items() if _md5(content) != sums[file]])
    parts = [pickle.loads(contents[file], encoding="latin1") for file in batches]
    images = torch.from_numpy(np.concatenate([part["data"] for part in parts])).view(-1, 3, 32, 32)
    labels = torch.tensor([label for part in parts for label in part["labels"]])
    training = sum(len(part["labels"]) for part in parts[: len(CIFAR10.train_list)])
    return ImageSet(images, labels, scale=255, classes=10, test_from=training)


def folder(data_dir: Path, shape: tuple[int, int, int] | None) -> ImageSet:
    """A folder of images; see :func:`hnn_models.data.folder.load_folder`."""
    from .folder import load_folder  # here, because it needs Pillow

    return load_folder(data_dir, shape)


def _four_files(data_dir: Path, name: str, sums: Mapping[str, str]) -> ImageSet:
    """A data set in MNIST's format: training images and labels, test images and labels.

    Args:
        data_dir: the folder that holds ``NAME/raw``, or the files.
        name: NAME.
        sums: the MD5 checksum of each unpacked file.
    """
    places = [data_dir / name / "raw", data_dir / name, data_dir / "raw", data_dir]
    folder, found = _place(places, {file: _spellings(file) for file in sums})
    _check_complete(folder, sums, found)
    contents: dict[str, bytes] = {}
    damaged = []
    for file, paths in found.items():
        # A file may be there both packed and unpacked. One that is whole will do.
        whole = {_md5(content): content for path in paths if (content := _unpacked(path)) is not None}
        if sums[file] in whole:
            contents[file] = whole[sums[file]]
            continue
        for other, known in (("MNIST", MNIST_FILES), ("FashionMNIST", FASHION_MNIST_FILES)):
            if known[file] in whole:
                raise MissingFilesError(
                    f"{folder} holds {paths[0].name} of {other}, not of {name} (put those of {name} into "
                    f"{places[0]}, or --download them)"
                )
        damaged.append(paths[0].name)
    _check_undamaged(folder, damaged)
    arrays = [_idx(contents[file]) for file in sums]
    labels = torch.cat(arrays[1::2]).long()
    return ImageSet(torch.cat(arrays[0::2]).unsqueeze(1), labels, scale=255, classes=10, test_from=len(arrays[1]))


def _spellings(file: str) -> list[str]:
    """The names under which mirrors have a file of MNIST, unpacked before packed."""
    dotted = file.replace("-idx", ".idx")
    return [file, dotted, f"{file}.gz", f"{dotted}.gz"]


def _place(places: list[Path], names: Mapping[str, list[str]]) -> tuple[Path, dict[str, list[Path]]]:
    """The first of ``places`` with all files, else with any, else the first; and the paths of each file there."""
    found = []
    for place in places:
        paths = {
            file: [place / name for name in spelled if (place / name).is_file()] for file, spelled in names.items()
        }
        found.append((place, {file: there for file, there in paths.items() if there}))
    return max(found, key=lambda each: (len(each[1]) == len(names), bool(each[1])))


def _check_complete(folder: Path, sums: Iterable[str], found: Iterable[str]) -> None:
    missing = [file for file in sums if file not in found]
    if missing:
        raise MissingFilesError(
            f"{folder} is not complete: no {', no '.join(missing)} (put them there, or --download them)"
        )


def _check_undamaged(folder: Path, damaged: list[str]) -> None:
    if damaged:
        raise DataError(
            f"damaged files in {folder}: {', '.join(damaged)}; they differ from the original data set "
            "(remove them, and --download fetches them again)"
        )


def _unpacked(path: Path) -> bytes | None:
    """The content of ``path``; None where a packed one is damaged."""
    content = path.read_bytes()
    if path.suffix != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except _UNPACKING:
        return None


def _members(archive: Path, names: Iterable[str]) -> dict[str, bytes]:
    """The files of ``names`` in ``archive``, in whichever of its folders."""
    contents = {}
    try:
        with tarfile.open(archive) as packed:
            for member in packed:
                name = Path(member.name).name
                file = packed.extractfile(member) if member.isfile() and name in names else None
                if file is not None:
                    contents[name] = file.read()
    except _UNPACKING as error:
        raise DataError(f"damaged file {archive}: {error} (remove it, and --download fetches it again)") from error
    return contents


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _idx(content: bytes) -> Tensor:
    """A file in the IDX format: two zeros, the type (8: uint8), the number of axes, their sizes, the values."""
    axes = content[3]
    sizes = np.frombuffer(content, ">i4", axes, offset=4)
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(sizes).copy())
