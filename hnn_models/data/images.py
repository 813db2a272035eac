"""Image sets in memory, and their split into training, validation and test images."""

import hashlib
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .augmentation import augment


class DataError(RuntimeError):
    """A data set that is missing or damaged. The message names the files."""


@dataclass(frozen=True, eq=False)
class ImageSet(Dataset):
    """Labelled images, in memory.

    An index is a batch of indices, int64 ``[B]``; it gives ``(images, labels)``, float32 ``[B, C, H, W]`` in [0, 1] and
    int64 ``[B]``. An index ``[B, 1 + n]`` has the changes of each image in its further columns, as
    :meth:`hnn_models.data.augmentation.Augmentation.draw` gives them.

    Attributes:
        images: uint8 ``[N, C, H, W]``, from 0 to ``scale``.
        labels: int64 ``[N]``.
        scale: the value of a white pixel.
        classes: number of classes.
        test_from: the index of the first of the set's own test images; None for a set without such a part.
    """

    images: Tensor
    labels: Tensor
    scale: int
    classes: int
    test_from: int | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor) -> tuple[Tensor, Tensor]:
        index = index.to(self.labels.device)
        if index.ndim == 1:
            pixels = self.images[index]
        else:
            index, drawn = index[:, 0], index[:, 1:]
            pixels = augment(self.images[index], drawn)
        return pixels.float() / self.scale, self.labels[index]

    def subset(self, index: Tensor) -> Self:
        """A copy of the images at ``index``, int64 ``[n]``."""
        return replace(self, images=self.images[index], labels=self.labels[index], test_from=None)

    def to(self, device: torch.device | str) -> Self:
        """This set on ``device``, so that no batch has to be copied there during training."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image, ``(C, H, W)``."""
        return tuple(self.images.shape[1:])

    def fingerprint(self) -> str:
        """A digest of images, labels and their order. Only equal sets are split alike."""
        digest = hashlib.blake2b(repr((self.shape, self.scale, self.classes, self.test_from)).encode(), digest_size=16)
        for part in (self.images, self.labels):
            digest.update(part.cpu().contiguous().numpy())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class FeatureSet(Dataset):
    """The features that fixed layers give for images: ``features`` ``[N, ...]`` and ``labels``, int64 ``[N]``."""

    features: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor) -> tuple[Tensor, Tensor]:
        index = index.to(self.labels.device)
        return self.features[index], self.labels[index]


def split(count: int, seed: int, test_from: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Split ``count`` images at random, 6:2:2. The split is the same on every machine.

    Args:
        count: number of images.
        seed: of the split.
        test_from: the index of the first test image, if the set has test images of its own. The others are then split
            6:2.

    Returns:
        Indices of the training, validation and test images, int64.
    """
    # RandomState, not Generator or torch: NumPy guarantees that its stream stays the same (NEP 19).
    random = np.random.RandomState(seed)
    if test_from is not None:
        order = torch.from_numpy(random.permutation(test_from))
        first = round(0.75 * test_from)
        return order[:first], order[first:], torch.arange(test_from, count)
    order = torch.from_numpy(random.permutation(count))
    first, second = round(0.6 * count), round(0.8 * count)
    return order[:first], order[first:second], order[second:]
