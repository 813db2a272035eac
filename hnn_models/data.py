"""Image sets in memory, the paper's 6:2:2 split, and batches by index."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

# The md5 of each file of MNIST as torchvision unpacks it.
MNIST_FILES = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


class DataError(RuntimeError):
    """A data set that is missing or damaged; the message names the files."""


@dataclass(frozen=True, eq=False)
class ImageSet(Dataset):
    """Labelled images. Indexing with a batch of indices gives ``(images, labels)``, pixels in [0, 1].

    Attributes:
        images: uint8 ``[N, C, H, W]``, from 0 to ``scale``.
        labels: int64 ``[N]``.
        scale: the value of a white pixel.
        classes: number of classes.
    """

    images: Tensor
    labels: Tensor
    scale: int
    classes: int

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor) -> tuple[Tensor, Tensor]:
        index = index.to(self.labels.device)
        return self.images[index].float() / self.scale, self.labels[index]

    def subset(self, index: Tensor) -> Self:
        """The images at ``index``, a copy."""
        return replace(self, images=self.images[index], labels=self.labels[index])

    def to(self, device: torch.device | str) -> Self:
        """This set on ``device``, so that no batch is copied there during training."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image, ``(C, H, W)``."""
        return tuple(self.images.shape[1:])


class Batches(Sampler[Tensor]):
    """Indices in batches; with a ``seed``, in a new order each epoch that depends on seed and epoch alone."""

    def __init__(self, count: int, batch_size: int, seed: int | None = None) -> None:
        self.count = count
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Tensor]:
        order = np.arange(self.count)
        if self.seed is not None:
            np.random.default_rng([self.seed, self.epoch]).shuffle(order)
        yield from torch.from_numpy(order).split(self.batch_size)

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)


def loader(images: ImageSet, batch_size: int, seed: int | None = None) -> DataLoader:
    """Batches ``([B, C, H, W], [B])`` of ``images``, in order or, with a ``seed``, shuffled anew each epoch."""
    # Its own generator: by default each pass draws a number from torch's, and a continued run makes fewer passes.
    own = torch.Generator()
    return DataLoader(images, batch_size=None, sampler=Batches(len(images), batch_size, seed), generator=own)


def split(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of the training, validation and test images: a random 6:2:2 split, the same on every machine."""
    # RandomState, not Generator or torch: NumPy guarantees its stream for good (NEP 19).
    order = torch.from_numpy(np.random.RandomState(seed).permutation(count))
    first, second = round(0.6 * count), round(0.8 * count)
    return order[:first], order[first:second], order[second:]


def load(name: str, data_dir: Path | None = None, *, download: bool = False) -> ImageSet:
    """All images of a data set, training and test set pooled.

    Args:
        name: ``"digits"`` (scikit-learn's, shipped with it) or ``"mnist"``.
        data_dir: for MNIST only, the folder that holds ``MNIST/raw``.
        download: for MNIST only, fetch what is missing into ``data_dir``.

    Raises:
        ValueError: a ``name`` that is not known, or a ``data_dir`` missing or given where there is no use for it.
        DataError: files that are missing, damaged, or cannot be downloaded.
    """
    if name not in DATASETS:
        raise ValueError(f"dataset must be one of {', '.join(map(repr, DATASETS))}; got {name!r}")
    return DATASETS[name](data_dir, download)


def _digits(data_dir: Path | None, download: bool) -> ImageSet:
    if data_dir is not None or download:
        raise ValueError("dataset 'digits' comes with scikit-learn: it takes no data_dir (--data-dir) and no download")
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(digits.images.astype(np.uint8)).unsqueeze(1)
    return ImageSet(images, torch.from_numpy(digits.target.astype(np.int64)), scale=16, classes=10)


def _mnist(data_dir: Path | None, download: bool) -> ImageSet:
    from torchvision.datasets import MNIST

    if data_dir is None:
        raise ValueError("dataset 'mnist' needs data_dir (--data-dir), the folder that holds MNIST/raw")
    if download:
        try:
            MNIST(str(data_dir), download=True)
        except (OSError, RuntimeError) as error:
            raise DataError(f"MNIST cannot be downloaded into {data_dir}: {error}") from error
    raw = Path(data_dir) / "MNIST" / "raw"
    missing = [name for name in MNIST_FILES if not (raw / name).is_file()]
    if missing:
        raise DataError(f"MNIST is not complete in {raw}: no {', no '.join(missing)} (--download fetches them)")
    damaged = [name for name, md5 in MNIST_FILES.items() if _md5(raw / name) != md5]
    if damaged:
        raise DataError(
            f"damaged files of MNIST in {raw}: {', '.join(damaged)}; they differ from the original data set "
            "(remove them, and --download fetches them again)"
        )
    parts = [MNIST(str(data_dir), train=train) for train in (True, False)]
    images = torch.cat([part.data for part in parts]).unsqueeze(1)
    return ImageSet(images, torch.cat([part.targets for part in parts]), scale=255, classes=10)


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


DATASETS = {"digits": _digits, "mnist": _mnist}
