"""The data sets by name. A data set is an entry of :data:`DATASETS`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import paths
from ..errors import DataError, MissingFilesError
from ..plain import one_of
from . import files
from .images import ImageSet

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Dataset:
    """The description of a data set.

    Attributes:
        read: reads the images, training images before test images. It takes the folder if ``holds`` names one, and for
            a set without a ``shape`` also the shape to convert the images to, or None.
        recipes: by recipe, the values of :class:`hnn_models.Protocol` that are the set's own.
        shape: of one image, ``(C, H, W)``; None if the folder decides.
        count: the number of all images; None if the folder decides.
        holds: the files that the data folder holds, for messages; None for a set that needs no folder.
        torchvision: the class of ``torchvision.datasets`` that downloads the set; None for a set that cannot be
            downloaded.
        comes_with: the package that a set without a folder comes with.
    """

    read: Callable[..., ImageSet]
    recipes: Mapping[str, Mapping[str, Any]]
    shape: Shape | None = None
    count: int | None = None
    holds: str | None = None
    torchvision: str | None = None
    comes_with: str | None = None


# Section 4 of the paper has MNIST and CIFAR-10. Every other set follows the one that it is more like.
_LIKE_MNIST = {"epochs": 100, "batch_size": 64, "milestones": (0.5,)}
_LIKE_CIFAR10 = {"epochs": 150, "batch_size": 32, "milestones": (0.5, 0.75)}

DATASETS: Mapping[str, Dataset] = {
    "digits": Dataset(
        files.digits,
        # There are few images, and they are too small to be shifted by a pixel.
        {"paper": _LIKE_MNIST, "modern": {"batch_size": 64, "lr": 2e-3}},
        shape=(1, 8, 8),
        count=1797,
        comes_with="scikit-learn",
    ),
    "mnist": Dataset(
        files.mnist,
        {"paper": _LIKE_MNIST, "modern": {"shift": 2, "warp": 0.7}},
        shape=(1, 28, 28),
        count=70_000,
        holds="MNIST/raw",
        torchvision="MNIST",
    ),
    "fashion-mnist": Dataset(
        files.fashion_mnist,
        {"paper": _LIKE_MNIST, "modern": {"shift": 2, "flip": True}},
        shape=(1, 28, 28),
        count=70_000,
        holds="FashionMNIST/raw",
        torchvision="FashionMNIST",
    ),
    "cifar10": Dataset(
        files.cifar10,
        {"paper": _LIKE_CIFAR10, "modern": {"epochs": 30, "batch_size": 64, "shift": 4, "flip": True}},
        shape=(3, 32, 32),
        count=60_000,
        holds="cifar-10-batches-py or cifar-10-python.tar.gz",
        torchvision="CIFAR10",
    ),
    "folder": Dataset(
        files.folder,
        {"paper": _LIKE_CIFAR10, "modern": {"epochs": 30, "batch_size": 64, "shift": 4, "flip": True}},
        holds="train/<class>/... and test/<class>/..., or <class>/...",
    ),
}

# The shape of one image, for the sets that have one.
SHAPES: Mapping[str, Shape] = {name: one.shape for name, one in DATASETS.items() if one.shape is not None}


def find(name: str) -> Dataset:
    """The data set called ``name``.

    Raises:
        ValueError: there is none.
    """
    return DATASETS[one_of("dataset", name, DATASETS)]


def load_images(
    name: str,
    data_dir: Path | str | None = None,
    *,
    download: bool = False,
    shape: Sequence[int] | None = None,
) -> ImageSet:
    """Read all images of a data set, training images before test images.

    Args:
        name: ``"digits"``, which ships with scikit-learn; ``"mnist"``, ``"fashion-mnist"`` or ``"cifar10"``, the files
            that torchvision downloads, packed or not; or ``"folder"``, see :func:`hnn_models.data.folder.load_folder`.
        data_dir: the folder that holds ``MNIST/raw``, ``FashionMNIST/raw``, ``cifar-10-batches-py`` or
            ``cifar-10-python.tar.gz``; or the files of one of them; or the images. It is only read.
        download: fetch the files into ``data_dir`` if some are missing.
        shape: for a folder only: convert and resize every image to ``(C, H, W)``. C is 1 (grey) or 3 (RGB). Without
            it, all images must be alike.

    Raises:
        ValueError: a ``name`` that is not known, an argument that is missing, or one that the set does not take.
        DataError: files that are missing, damaged, not alike, or cannot be downloaded.
    """
    found = find(name)
    if shape is not None and found.shape is not None:
        raise ValueError(f"shape (--image-shape) is for a folder of images; dataset {name!r} has its own")
    if found.holds is None:
        if data_dir is not None or download:
            raise ValueError(
                f"dataset {name!r} comes with {found.comes_with}: it takes no data_dir (--data-dir) and no download"
            )
        return found.read()
    if data_dir is None:
        raise ValueError(f"dataset {name!r} needs data_dir (--data-dir), the folder that holds {found.holds}")
    data_dir = paths.folder(data_dir, "data_dir")
    if download and found.torchvision is None:
        raise ValueError(f"dataset {name!r} is read from data_dir (--data-dir): there is nothing to download")
    options = () if found.shape is not None else (shape,)
    try:
        return found.read(data_dir, *options)
    except MissingFilesError:
        if not download or found.torchvision is None:
            raise
    _download(found.torchvision, data_dir)
    return found.read(data_dir, *options)


def _download(torchvision: str, data_dir: Path) -> None:
    from torchvision import datasets

    try:
        getattr(datasets, torchvision)(str(data_dir), download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{torchvision} cannot be downloaded into {data_dir}: {error}") from error
