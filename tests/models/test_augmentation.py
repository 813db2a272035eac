"""Shifts and mirror images: against the plain way for one image, and drawn from the seed alone."""

import numpy as np
import pytest
import torch

from hnn_models.augmentation import Augmentation, augment


def plainly(image, down, right, mirrored):
    """Pad, mirror, cut out."""
    margin = 9
    padded = torch.nn.functional.pad(image, (margin,) * 4)
    _, height, width = image.shape
    moved = padded[:, margin - down : margin - down + height, margin - right : margin - right + width]
    return moved.flip(2) if mirrored else moved


def test_every_image_is_changed_on_its_own():
    images = torch.randint(0, 256, (40, 3, 7, 5), dtype=torch.uint8)
    drawn = Augmentation(shift=6, flip=True).draw(40, np.random.default_rng(0))
    changed = augment(images, drawn)
    assert changed.dtype == torch.uint8
    for image, row, result in zip(images, drawn.tolist(), changed, strict=True):
        assert torch.equal(result, plainly(image, *row))


@pytest.mark.parametrize("augmentation", [Augmentation(2, False), Augmentation(0, True), Augmentation(3, True)])
def test_what_is_drawn(augmentation):
    drawn = augmentation.draw(3000, np.random.default_rng(1))
    assert drawn[:, :2].unique().tolist() == list(range(-augmentation.shift, augmentation.shift + 1))
    assert drawn[:, 2].unique().tolist() == ([0, 1] if augmentation.flip else [0])
    # Uniform: the mean of 3000 has a deviation of sqrt(s (s + 1) / 3 / 3000) < 0.04, that of the flips of 0.01.
    assert drawn[:, :2].float().mean(0).abs().max() < 0.2
    if augmentation.flip:
        assert abs(drawn[:, 2].float().mean() - 0.5) < 0.05
    assert torch.equal(drawn, augmentation.draw(3000, np.random.default_rng(1)))
    assert not torch.equal(drawn, augmentation.draw(3000, np.random.default_rng(2)))


def test_nothing_to_do_changes_nothing():
    images = torch.randint(0, 256, (4, 1, 7, 5), dtype=torch.uint8)
    assert torch.equal(augment(images, torch.zeros(4, 3, dtype=torch.int64)), images)
