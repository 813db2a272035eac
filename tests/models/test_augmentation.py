"""Shifts, mirror images, distortions, squares: against the plain way for one image, drawn from the seed alone."""

import numpy as np
import pytest
import torch

from hnn_models.data.augmentation import Augmentation, augment


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


def warps(count, seed=0, warp=1.5):
    return Augmentation(warp=warp).draw(count, np.random.default_rng(seed))


def test_displacements_are_normal_numbers_of_the_given_deviation():
    drawn = warps(2000)
    assert drawn.shape == (2000, 35)
    assert drawn.dtype == torch.int64
    assert (drawn[:, :3] == 0).all()
    points = drawn[:, 3:].double() / 2**16
    # Of 64,000 numbers the mean has a deviation of 0.006, the deviation one of 0.004.
    assert abs(points.mean()) < 0.04
    assert abs(points.std() - 1.5) < 0.03
    assert torch.corrcoef(points.T).fill_diagonal_(0).abs().max() < 0.12  # a deviation of 0.022
    assert torch.equal(drawn, warps(2000))


def test_a_warp_that_is_the_same_everywhere_moves_the_image():
    images = torch.randint(0, 256, (2, 3, 9, 7), dtype=torch.uint8)
    drawn = torch.zeros(2, 35, dtype=torch.int64)
    drawn[0, 3:19] = 2 * 2**16  # read from two pixels further right
    drawn[1, 19:] = -1 * 2**16  # and from one further up
    changed = augment(images, drawn)
    assert changed.dtype == torch.float32
    expected = torch.stack([plainly(images[0], 0, -2, False), plainly(images[1], 1, 0, False)])
    torch.testing.assert_close(changed, expected.float(), atol=2e-3, rtol=0)  # of 255: places are rounded to float32


def test_a_warp_is_smooth_and_each_images_own():
    # An image that holds its own x coordinates shows the displacement along x.
    images = torch.arange(28).repeat(28, 1).expand(5, 1, 28, 28).to(torch.uint8)
    drawn = warps(5, seed=3)
    changed = augment(images, drawn)[..., 6:-6, 6:-6]
    moved = changed - images[..., 6:-6, 6:-6].float()
    assert moved.std() > 0.5
    # Neighbours differ little: three deviations of 1.5 sqrt(2) over 9 pixels, half as much again for the cubic. Noise
    # without smoothness would reach 6.
    assert moved.diff(dim=2).abs().max() < 1.1
    for number in range(5):
        torch.testing.assert_close(changed[number], augment(images, drawn[[number] * 5])[0, :, 6:-6, 6:-6])
        assert not torch.allclose(changed[number], changed[number - 1])


def test_warping_comes_after_moving():
    images = torch.randint(0, 256, (6, 1, 12, 12), dtype=torch.uint8)
    both = Augmentation(2, True, 1.0).draw(6, np.random.default_rng(4))
    moved = augment(images, both[:, :3])
    only = both.clone()
    only[:, :3] = 0
    assert torch.equal(augment(images, both), augment(moved, only))


def test_a_square_is_blackened_where_it_was_drawn():
    """With a centre that is drawn uniformly, a part of the square can lie outside."""
    images = torch.randint(1, 256, (300, 2, 9, 6), dtype=torch.uint8)
    drawn = Augmentation(erase=4).draw(300, np.random.default_rng(7))
    assert drawn.shape == (300, 6)
    changed = augment(images, drawn)
    assert changed.dtype == torch.uint8
    centres = set()
    for image, (down, right, side), result in zip(images, drawn[:, 3:].tolist(), changed, strict=True):
        row, column = down * 9 // 2**16, right * 6 // 2**16
        expected = image.clone()
        expected[:, max(row - 2, 0) : row + 2, max(column - 2, 0) : column + 2] = 0
        assert side == 4
        assert torch.equal(result, expected)
        centres.add((row, column))
    assert len(centres) > 50  # of 54 places; on average 0.2 are missing
    assert torch.equal(drawn, Augmentation(erase=4).draw(300, np.random.default_rng(7)))


def test_the_square_comes_last_and_changes_nothing_else():
    images = torch.randint(1, 256, (6, 1, 12, 12), dtype=torch.uint8)
    every = Augmentation(2, True, 1.0, 5).draw(6, np.random.default_rng(4))
    without = Augmentation(2, True, 1.0).draw(6, np.random.default_rng(4))
    assert torch.equal(every[:, :35], without)
    square = torch.cat([torch.zeros(6, 3, dtype=torch.int64), every[:, 35:]], dim=1)
    assert torch.equal(augment(images, every), augment(augment(images, without), square))
