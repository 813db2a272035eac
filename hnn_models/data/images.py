"""Image sets in memory, and their split into training, validation and test images."""

import hashlib
from dataclasses import dataclass, replace
from operator import index as as_index
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..memory import require
from ..plain import whole
from .augmentation import augment


@dataclass(frozen=True, eq=False)
class ImageSet(Dataset):
    """Labelled images, in memory. :class:`torch.utils.data.DataLoader` and ``random_split`` take them as they are.

    ``images[3]`` is one image and its label: float32 ``[C, H, W]`` in [0, 1], and an int64 tensor without axes. A
    slice, a list or tensor of indices, or a mask gives a batch, ``[B, C, H, W]`` and ``[B]``. An index ``[B, 1 + n]``
    has the changes of each image in its further columns: see :meth:`hnn_models.data.augmentation.Augmentation.draw`.

    Attributes:
        images: uint8 ``[N, C, H, W]``, from 0 to ``scale``.
        labels: int64 ``[N]``, from 0 to ``classes - 1``.
        scale: the value of a white pixel, from 1 to 255.
        classes: number of classes.
        test_from: the index of the first of the set's own test images; None for a set without such a part.
        val_from: the index of the first of its own validation images, which end at ``test_from``; None if it has none.
        names: the names of the classes; empty if they have none.

    Raises:
        TypeError: ``images`` or ``labels`` is not a tensor of that dtype.
        ValueError: a field that is not allowed; pixels or labels out of range.
    """

    images: Tensor
    labels: Tensor
    scale: int
    classes: int
    test_from: int | None = None
    val_from: int | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Raise the errors of this class where a field is not allowed, or no longer is."""
        _check_tensor("images", self.images, torch.uint8, "[N, C, H, W], from 0 to scale", 4)
        _check_tensor("labels", self.labels, torch.int64, "[N], the numbers of the classes", 1)
        count = len(self.images)
        if len(self.labels) != count:
            raise ValueError(f"images and labels must be equally many; got {count} and {len(self.labels)}")
        if self.images.device != self.labels.device:
            raise ValueError(f"images and labels must be on one device; got {self.images.device}, {self.labels.device}")
        plain: dict[str, Any] = {
            "scale": whole("scale", self.scale, 1, 256),
            "classes": whole("classes", self.classes, 1),
            "names": tuple(self.names),
        }
        for name in ("test_from", "val_from"):
            if getattr(self, name) is not None:
                plain[name] = whole(name, getattr(self, name), 1, max(count, 2))
        for name, value in plain.items():
            object.__setattr__(self, name, value)
        if self.val_from is not None and self.test_from is not None and self.val_from >= self.test_from:
            raise ValueError(f"val_from must be below test_from, {self.test_from}; got {self.val_from}")
        if self.names and len(self.names) != self.classes:
            raise ValueError(f"names must be those of {self.classes} classes; got {len(self.names)}")
        if not count:
            return
        if self.scale < 255 and (most := int(self.images.max())) > self.scale:
            raise ValueError(f"images must be from 0 to scale, {self.scale}; got {most}")
        low, high = (int(value) for value in self.labels.aminmax())
        if low < 0 or high >= self.classes:
            raise ValueError(
                f"labels must be from 0 to {self.classes - 1}, for {self.classes} classes; got {low} to {high}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Any) -> tuple[Tensor, Tensor]:
        index = _index(index, len(self), self.labels.device)
        if isinstance(index, int | slice) or index.ndim <= 1:
            pixels = self.images[index]
        else:
            index, drawn = index[:, 0], index[:, 1:]
            pixels = augment(self.images[index], drawn)
        return pixels.float() / self.scale, self.labels[index]

    def subset(self, index: Any) -> Self:
        """The images at ``index``, a copy that has no parts.

        Raises:
            TooLargeError: it does not fit into memory.
        """
        index = _index(index, len(self), self.labels.device)
        labels = self.labels[index]
        require("these images", labels.numel(), self.shape, torch.uint8, self.images.device)
        return replace(self, images=self.images[index], labels=labels, test_from=None, val_from=None)

    def to(self, device: torch.device | str) -> Self:
        """This set on ``device``, so that no batch is copied there during training.

        Raises:
            TooLargeError: it does not fit into memory.
        """
        if torch.device(device).type != self.images.device.type:
            require("the images", len(self), self.shape, torch.uint8, device)
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image, ``(C, H, W)``."""
        return tuple(self.images.shape[1:])

    def fingerprint(self) -> str:
        """A digest of images, labels and their order: a split is the same one only of the same set."""
        fields = [self.shape, self.scale, self.classes, self.test_from]
        if self.val_from is not None:  # without, the digest is that of sets that know of no such part
            fields.append(self.val_from)
        digest = hashlib.blake2b(repr(tuple(fields)).encode(), digest_size=16)
        for part in (self.images, self.labels):
            digest.update(part.cpu().contiguous().numpy().data)
        return digest.hexdigest()


def _check_tensor(name: str, value: object, dtype: torch.dtype, axes: str, ndim: int) -> None:
    wanted = f"{name} must be {str(dtype).removeprefix('torch.')} {axes}"
    if not isinstance(value, Tensor):
        raise TypeError(f"{wanted}; got {type(value).__name__}")
    if value.dtype != dtype:
        raise TypeError(f"{wanted}; got {str(value.dtype).removeprefix('torch.')}")
    if value.ndim != ndim:
        raise ValueError(f"{wanted}; got shape {tuple(value.shape)}")


def _index(index: Any, count: int, device: torch.device) -> int | slice | Tensor:
    """``index`` of ``count`` images as tensors take it: an int, a slice, or int64 or bool on ``device``."""
    if isinstance(index, slice):
        if index.step is None or as_index(index.step) > 0:
            return index
        index = range(*index.indices(count))  # torch has no slices from the end to the beginning
    if not isinstance(index, Tensor):
        try:
            return as_index(index)
        except TypeError:
            array = np.asarray(index)
        if array.dtype.kind not in "iub" and array.size:
            raise TypeError(f"an index of images must be an int, a slice, or a batch of ints or bools; got {index!r}")
        index = torch.from_numpy(array if array.dtype == bool else array.astype(np.int64))
    if index.is_floating_point() or index.is_complex():
        raise TypeError(f"an index of images must be of ints or bools; got {index.dtype}")
    return index.to(device, torch.bool if index.dtype == torch.bool else torch.int64)


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


def split(
    count: int, seed: int, test_from: int | None = None, val_from: int | None = None, held_out: float = 0.25
) -> tuple[Tensor, Tensor, Tensor]:
    """Split ``count`` images at random, 6:2:2. The split is the same on every machine.

    Args:
        count: number of images.
        seed: of the split.
        test_from: the index of the first test image, if the set has test images of its own. The others are then split
            6:2, or as ``held_out`` says.
        val_from: with ``test_from``, the index of the first validation image, if the set has these of its own too. The
            images before it are the training images.
        held_out: with ``test_from`` alone, the fraction of the other images that are validation images.

    Returns:
        Indices of the training, validation and test images, int64.
    """
    # RandomState, not Generator or torch: NumPy guarantees that its stream stays the same (NEP 19).
    random = np.random.RandomState(seed)
    if test_from is not None:
        if val_from is not None:
            training = torch.from_numpy(random.permutation(val_from))
            return training, torch.arange(val_from, test_from), torch.arange(test_from, count)
        order = torch.from_numpy(random.permutation(test_from))
        first = round((1 - held_out) * test_from)
        return order[:first], order[first:], torch.arange(test_from, count)
    order = torch.from_numpy(random.permutation(count))
    first, second = round(0.6 * count), round(0.8 * count)
    return order[:first], order[first:second], order[second:]
