"""Image sets in memory, the 6:2:2 split, and batches by index."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from .augmentation import Augmentation, augment


@dataclass(frozen=True, eq=False)
class ImageSet(Dataset):
    """Labelled images. Indexing with a batch of indices gives ``(images, labels)``, pixels in [0, 1].

    An index of ``[B, 1 + ...]`` has in its other columns how each image is changed: what
    :meth:`hnn_models.data.augmentation.Augmentation.draw` gives.

    Attributes:
        images: uint8 ``[N, C, H, W]``, from 0 to ``scale``.
        labels: int64 ``[N]``.
        scale: the value of a white pixel.
        classes: number of classes.
        test_from: where the set's own test images begin; None where it has no such part.
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
        """The images at ``index``, a copy."""
        return replace(self, images=self.images[index], labels=self.labels[index], test_from=None)

    def to(self, device: torch.device | str) -> Self:
        """This set on ``device``, so that no batch is copied there during training."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image, ``(C, H, W)``."""
        return tuple(self.images.shape[1:])

    def fingerprint(self) -> str:
        """A digest of images, labels and their order: a split is the same one only of the same set."""
        digest = hashlib.blake2b(repr((self.shape, self.scale, self.classes, self.test_from)).encode(), digest_size=16)
        for part in (self.images, self.labels):
            digest.update(part.cpu().contiguous().numpy())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class FeatureSet(Dataset):
    """What fixed layers make of images, kept: ``features`` ``[N, ...]`` and ``labels`` int64 ``[N]``."""

    features: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor) -> tuple[Tensor, Tensor]:
        index = index.to(self.labels.device)
        return self.features[index], self.labels[index]


class Share(NamedTuple):
    """The part of every batch that one of several processes takes: neighbouring rows, the first process's first."""

    rank: int = 0
    world: int = 1

    def rows(self, count: int) -> range:
        """Which rows of a batch of ``count``; two processes have equally many, or one of them one more."""
        return range(self.rank * count // self.world, (self.rank + 1) * count // self.world)


_ALONE = Share()
_UNCHANGED = Augmentation()


class Batches(Sampler[Tensor]):
    """Indices in batches, on ``device``; with a ``seed``, in a new order each epoch that depends on both alone.

    So does what ``augmentation`` does to each image, whichever process takes it.

    Raises:
        ValueError: a batch has fewer images than there are processes.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int | None = None,
        augmentation: Augmentation = _UNCHANGED,
        share: Share = _ALONE,
        device: torch.device | str = "cpu",
    ) -> None:
        smallest = count % batch_size or batch_size
        if smallest < share.world:
            raise ValueError(
                f"each of {share.world} processes needs an image of every batch: with batch_size {batch_size} the last "
                f"of {count} images are {smallest}"
            )
        self.count = count
        self.batch_size = batch_size
        self.seed = seed
        self.augmentation = augmentation
        self.share = share
        self.device = device
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Tensor]:
        order = np.arange(self.count)
        random = None
        if self.seed is not None:
            random = np.random.default_rng([self.seed, self.epoch])
            random.shuffle(order)
        index = torch.from_numpy(order)
        if random is not None and any(self.augmentation):
            index = torch.cat([index[:, None], self.augmentation.draw(self.count, random)], dim=1)
        for batch in index.to(self.device).split(self.batch_size):
            rows = self.share.rows(len(batch))
            yield batch[rows.start : rows.stop]

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def size(self, batch: int) -> int:
        """How many images all processes together take of this batch."""
        return min(self.batch_size, self.count - batch * self.batch_size)


def loader(
    images: ImageSet | FeatureSet,
    batch_size: int,
    seed: int | None = None,
    augmentation: Augmentation = _UNCHANGED,
    share: Share = _ALONE,
) -> DataLoader:
    """Batches ``([B, ...], [B])`` of ``images``, in order; with a ``seed`` shuffled and augmented anew each epoch."""
    # Its own generator: by default each pass draws a number from torch's, and a continued run makes fewer passes.
    own = torch.Generator()
    sampler = Batches(len(images), batch_size, seed, augmentation, share, images.labels.device)
    return DataLoader(images, batch_size=None, sampler=sampler, generator=own)


def split(count: int, seed: int, test_from: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of the training, validation and test images: a random 6:2:2 split, the same on every machine.

    With ``test_from``, the images from there on are the test images, and the split of the others is 6:2.
    """
    # RandomState, not Generator or torch: NumPy guarantees its stream for good (NEP 19).
    random = np.random.RandomState(seed)
    if test_from is not None:
        order = torch.from_numpy(random.permutation(test_from))
        first = round(0.75 * test_from)
        return order[:first], order[first:], torch.arange(test_from, count)
    order = torch.from_numpy(random.permutation(count))
    first, second = round(0.6 * count), round(0.8 * count)
    return order[:first], order[first:second], order[second:]
