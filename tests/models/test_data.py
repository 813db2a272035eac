"""Images in memory, the 6:2:2 split, and batches by index."""

import numpy as np
import pytest
import torch

from hnn_models.data import batches as loading
from hnn_models.data import images as data
from hnn_models.data.augmentation import Augmentation


def small(count=20, **options):
    images = torch.arange(count * 3 * 4 * 5).remainder(256).to(torch.uint8).reshape(count, 3, 4, 5)
    return data.ImageSet(images, torch.arange(count) % 10, scale=255, classes=10, **options)


def test_digits_are_scikit_learns(digits):
    from sklearn.datasets import load_digits

    original = load_digits()
    assert digits.images.dtype == torch.uint8
    assert (digits.shape, digits.classes, len(digits)) == ((1, 8, 8), 10, 1797)
    images, labels = digits[torch.arange(1797)]
    assert images.dtype == torch.float32
    np.testing.assert_array_equal(images[:, 0].numpy(), (original.images / 16).astype(np.float32))
    np.testing.assert_array_equal(labels.numpy(), original.target)
    assert images.max() == 1


@pytest.mark.parametrize("count", [1797, 70000, 7])
def test_split_is_disjoint_complete_and_6_2_2(count):
    parts = data.split(count, seed=3)
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(count))
    for part, share in zip(parts, (0.6, 0.2, 0.2), strict=True):
        assert abs(len(part) - share * count) <= 1


def test_split_depends_on_the_seed_alone():
    first, again, other = (torch.cat(data.split(1000, seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    # Pinned: the same images on every machine and with every version of NumPy.
    assert torch.cat(data.split(10, 0)).tolist() == [2, 8, 4, 9, 1, 6, 7, 3, 0, 5]


@pytest.mark.parametrize(("count", "test_from"), [(70000, 60000), (20, 15)])
def test_given_split_keeps_the_sets_own_test_images(count, test_from):
    training, validation, test = data.split(count, 3, test_from)
    assert test.tolist() == list(range(test_from, count))
    assert torch.equal(torch.cat([training, validation]).sort().values, torch.arange(test_from))
    assert abs(len(training) - 3 * len(validation)) <= 3
    assert not torch.equal(training, data.split(count, 4, test_from)[0])


def test_fingerprint_tells_sets_apart():
    one = small()
    assert one.fingerprint() == small().fingerprint()
    changed = small()
    changed.images[7, 0, 0, 0] += 1
    relabelled = small()
    relabelled.labels[3] = 9
    others = [changed, relabelled, small(test_from=15), one.subset(torch.arange(20).flip(0))]
    assert one.fingerprint() not in [other.fingerprint() for other in others]


def test_batches_hold_every_image_once_in_a_new_order_each_epoch(digits):
    loader = loading.loader(digits, 500, seed=1)
    epochs = []
    for epoch in (0, 1, 0):
        loader.sampler.set_epoch(epoch)
        epochs.append(torch.cat(list(loader.sampler)))
        assert torch.equal(epochs[-1].sort().values, torch.arange(1797))
    assert torch.equal(epochs[0], epochs[2])
    assert not torch.equal(epochs[0], epochs[1])
    batches = list(loader)
    assert [len(labels) for _, labels in batches] == [500, 500, 500, 297]
    assert len(loader) == 4
    assert torch.equal(torch.cat([labels for _, labels in batches]), digits.labels[epochs[0]])


def test_batches_without_seed_are_in_order(digits):
    assert torch.equal(torch.cat([labels for _, labels in loading.loader(digits, 1000)]), digits.labels)


@pytest.mark.parametrize("augmentation", [Augmentation(), Augmentation(shift=1, flip=True), Augmentation(warp=0.5)])
def test_shares_of_all_processes_are_the_batches_of_one(augmentation):
    images = small(22)
    whole = loading.loader(images, 6, 1, augmentation)
    shares = [loading.loader(images, 6, 1, augmentation, loading.Share(rank, 3)) for rank in range(3)]
    for loader in (whole, *shares):
        loader.sampler.set_epoch(4)
    for number, ((pixels, labels), *parts) in enumerate(zip(whole, *shares, strict=True)):
        assert whole.sampler.size(number) == len(labels) == sum(len(part) for _, part in parts)
        assert torch.equal(torch.cat([part_pixels for part_pixels, _ in parts]), pixels)
        assert torch.equal(torch.cat([part_labels for _, part_labels in parts]), labels)


def test_a_batch_too_small_for_the_processes():
    with pytest.raises(ValueError, match=r"each of 4 processes .*: with batch_size 6 the last of 20 images are 2"):
        loading.loader(small(), 6, share=loading.Share(0, 4))
    with pytest.raises(ValueError, match="each of 8 processes"):
        loading.loader(small(), 6, share=loading.Share(0, 8))


def test_features_are_batched_like_images():
    features = data.FeatureSet(torch.rand(20, 7, dtype=torch.bfloat16), torch.arange(20))
    loader = loading.loader(features, 8, seed=2)
    order = torch.cat(list(loader.sampler))
    batches = list(loader)
    assert torch.equal(torch.cat([values for values, _ in batches]), features.features[order])
    assert torch.equal(torch.cat([labels for _, labels in batches]), order)
