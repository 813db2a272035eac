"""Images in memory, the 6:2:2 split, and batches by index."""

import numpy as np
import pytest
import torch

from hnn_models import memory
from hnn_models.data import batches as loading
from hnn_models.data import images as data
from hnn_models.data.augmentation import Augmentation
from hnn_models.errors import TooLargeError


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


def test_a_part_for_validation_tells_sets_apart():
    assert small(test_from=15, val_from=10).fingerprint() != small(test_from=15).fingerprint()
    assert small(names=tuple("abcdefghij")).fingerprint() == small().fingerprint()


def test_a_sets_own_validation_images():
    training, validation, test = data.split(20, 3, 15, 9)
    assert torch.equal(training.sort().values, torch.arange(9))
    assert (validation.tolist(), test.tolist()) == (list(range(9, 15)), list(range(15, 20)))


def test_one_image():
    images = small()
    for index in (3, np.int64(3), torch.tensor(3), -17):
        pixels, label = images[index]
        assert (pixels.shape, pixels.dtype, label.shape, label.dtype) == (
            (3, 4, 5), torch.float32, (), torch.int64
        )  # fmt: skip
        assert torch.equal(pixels, images.images[3].float() / 255)
        assert label == 3
    with pytest.raises(IndexError):
        images[20]


@pytest.mark.parametrize(
    "index", [slice(2, 6), [2, 3, 4, 5], np.arange(2, 6), range(2, 6), torch.arange(2, 6), np.arange(20) // 2 % 5 == 1]
)
def test_some_images(index):
    pixels, labels = small()[index]
    if isinstance(index, np.ndarray) and index.dtype == bool:
        assert labels.tolist() == [2, 3, 2, 3]
    else:
        assert labels.tolist() == [2, 3, 4, 5]
    assert pixels.shape == (4, 3, 4, 5)
    assert torch.equal(small().subset(index).labels, labels)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_every_dtype_of_indices(dtype):
    for index in (torch.tensor([1, 3], dtype=dtype), torch.tensor([1, 3], dtype=dtype).numpy()):
        assert small()[index][1].tolist() == [1, 3]


def test_from_the_end_to_the_beginning():
    assert small()[::-6][1].tolist() == [9, 3, 7, 1]
    assert small()[-3:][1].tolist() == [7, 8, 9]


@pytest.mark.parametrize("index", [None, ..., "a", [0.5, 1.0], torch.tensor([0.5])])
def test_an_index_that_is_none(index):
    with pytest.raises(TypeError, match="an index of images must be "):
        small()[index]


def test_no_images():
    pixels, labels = small()[[]]
    assert (pixels.shape, labels.shape) == ((0, 3, 4, 5), (0,))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_plain_data_loader_takes_the_set(workers):
    images = small()
    loader = torch.utils.data.DataLoader(images, batch_size=8, num_workers=workers)
    pixels, labels = (torch.cat(part) for part in zip(*loader, strict=True))
    expected, expected_labels = images[:]
    assert torch.equal(pixels, expected)
    assert torch.equal(labels, expected_labels)


def test_random_split_and_iteration():
    first, second = torch.utils.data.random_split(small(), [0.75, 0.25])
    assert [len(first), len(second)] == [15, 5]
    pixels, labels = next(iter(torch.utils.data.DataLoader(second, batch_size=5)))
    assert (pixels.shape, labels.tolist()) == ((5, 3, 4, 5), [i % 10 for i in second.indices])
    assert [int(label) for _, label in small()] == [i % 10 for i in range(20)]


GOOD = {"images": torch.zeros(4, 1, 2, 2, dtype=torch.uint8), "labels": torch.arange(4), "scale": 255, "classes": 4}


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"images": torch.zeros(4, 1, 2, 2)}, TypeError, r"images must be uint8 \[N, C, H, W\], .*; got float32"),
        ({"images": np.zeros((4, 1, 2, 2), np.uint8)}, TypeError, "images must be uint8 .*; got ndarray"),
        ({"images": torch.zeros(4, 2, 2, dtype=torch.uint8)}, ValueError, r"images must .*; got shape \(4, 2, 2\)"),
        (
            {"images": torch.full((4, 1, 2, 2), 9, dtype=torch.uint8), "scale": 8},
            ValueError,
            "from 0 to scale, 8; got 9",
        ),
        ({"labels": torch.arange(4.0)}, TypeError, r"labels must be int64 \[N\], .*; got float32"),
        ({"labels": torch.arange(4).int()}, TypeError, "labels must be int64 .*; got int32"),
        ({"labels": torch.eye(4).long()}, ValueError, r"labels must be int64 .*; got shape \(4, 4\)"),
        ({"labels": torch.arange(3)}, ValueError, "images and labels must be equally many; got 4 and 3"),
        ({"labels": torch.arange(4) + 1}, ValueError, "labels must be from 0 to 3, for 4 classes; got 1 to 4"),
        ({"labels": torch.arange(4) - 1}, ValueError, "labels must be from 0 to 3, for 4 classes; got -1 to 2"),
        ({"scale": 0}, ValueError, "scale must be an int of at least 1 and below 256; got 0"),
        ({"scale": 1.5}, ValueError, "scale must be an int"),
        ({"classes": 0}, ValueError, "classes must be an int of at least 1"),
        ({"test_from": 4}, ValueError, "test_from must be an int of at least 1 and below 4; got 4"),
        ({"test_from": 2, "val_from": 2}, ValueError, "val_from must be below test_from, 2; got 2"),
        ({"names": ["a"]}, ValueError, "names must be those of 4 classes; got 1"),
    ],
)
def test_fields_that_are_not_allowed(fields, error, message):
    with pytest.raises(error, match=message):
        data.ImageSet(**{**GOOD, **fields})


def test_numbers_of_numpy_become_plain():
    images = data.ImageSet(**{**GOOD, "scale": np.uint8(255), "classes": np.int64(4), "test_from": np.int32(3)})
    assert [type(value) for value in (images.scale, images.classes, images.test_from)] == [int] * 3
    assert images.fingerprint() == data.ImageSet(**GOOD, test_from=3).fingerprint()


def test_a_copy_that_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: 100)
    with pytest.raises(TooLargeError, match=r"2 x \(3, 4, 5\) in uint8 are 120 bytes, and 100 bytes are available"):
        small().subset([0, 1])
    assert len(small().subset([0])) == 1


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


@pytest.mark.parametrize("augmentation", [Augmentation(), Augmentation(1, True), Augmentation(warp=0.5, erase=3)])
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
