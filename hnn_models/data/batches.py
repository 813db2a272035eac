"""Batches of images by index, shared between processes."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from .augmentation import Augmentation
from .images import FeatureSet, ImageSet


class Share(NamedTuple):
    """The part of every batch that one process takes: adjacent rows, those of the first process first.

    Attributes:
        rank: the number of the process, from 0.
        world: the number of processes.
    """

    rank: int = 0
    world: int = 1

    def rows(self, count: int) -> range:
        """The rows of this process in a batch of ``count``. The processes' numbers of rows differ by one at most."""
        return range(self.rank * count // self.world, (self.rank + 1) * count // self.world)


_ALONE = Share()
_UNCHANGED = Augmentation()


class Batches(Sampler[Tensor]):
    """Batches of indices.

    With a ``seed``, every epoch has a new order, which depends on the seed and the epoch alone. The same is true for
    the changes that ``augmentation`` draws for each image, so they do not depend on the number of processes.

    Args:
        count: number of images.
        batch_size: images per batch, over all processes; the last batch can be smaller.
        seed: of the order and the augmentation; None for the order of the set, unchanged.
        augmentation: the changes to draw.
        share: the part of every batch that this process takes.
        device: of the indices.

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
        """Set the number of the epoch, from 0. Lightning calls this before each epoch."""
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
        """The number of images in batch number ``batch``, over all processes."""
        return min(self.batch_size, self.count - batch * self.batch_size)


def loader(
    images: ImageSet | FeatureSet,
    batch_size: int,
    seed: int | None = None,
    augmentation: Augmentation = _UNCHANGED,
    share: Share = _ALONE,
) -> DataLoader:
    """Make a loader of batches ``([B, ...], [B])``; the arguments are those of :class:`Batches`."""
    # A generator of its own: by default each pass draws a number from torch's, and a continued run makes fewer passes.
    own = torch.Generator()
    sampler = Batches(len(images), batch_size, seed, augmentation, share, images.labels.device)
    return DataLoader(images, batch_size=None, sampler=sampler, generator=own)
