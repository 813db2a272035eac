"""The listing of a folder of images: parts, classes, and what is left out, refused or named."""

import os
import warnings

import numpy as np
import pytest

pytest.importorskip("PIL", reason="images are read by Pillow, in the extra 'models'")

from PIL import Image

from hnn_models.data.folder import load_folder
from hnn_models.errors import DataError


def put(path, number=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    number = abs(hash(str(path))) if number is None else number
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (6, 5), dtype=np.uint8)).save(path)


def tree(root, *parts, classes=("cat", "dog")):
    for part in parts:
        for name in classes:
            for number in range(2):
                put(root / part / name / f"{number}.png")
    return root


@pytest.fixture
def root(tmp_path):
    return tree(tmp_path, "train", "test")


def refused(root, message):
    with pytest.raises(DataError, match=message):
        load_folder(root)


@pytest.mark.parametrize(
    "entry",
    [
        "train/cat/.ipynb_checkpoints/0-checkpoint.png",
        "train/.thumbs/0.png",
        ".git/0.png",
        "train/cat/@eaDir/0.png/SYNOPHOTO_THUMB.jpg",
        "test/__MACOSX/0.png",
        "train/cat/__MACOSX/0.png",
        "test/dog/._0.png",
        "test/dog/Thumbs.db",
        "train/desktop.ini",
        "test/dog/.DS_Store",
        "lost+found/0.png",
        "train/$RECYCLE.BIN/0.png",
        "System Volume Information/0.png",
    ],
)
def test_hidden_and_system_entries_are_left_out_and_named(root, entry):
    path = root / entry
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    with pytest.warns(UserWarning, match="left out of") as said:
        images = load_folder(root)
    (message,) = [str(warning.message) for warning in said]
    assert (len(images), images.classes) == (8, 2)
    (left_out,) = [part for part in path.relative_to(root).parts if f"'{part}'" in message]
    assert message == f"left out of {root}: '{left_out}'"


def test_one_warning_counts_what_is_left_out(root):
    for entry in ("train/cat/.DS_Store", "train/dog/.DS_Store", "test/.DS_Store", "train/cat/.ipynb_checkpoints"):
        (root / entry).write_bytes(b"x")
    with pytest.warns(UserWarning, match="left out of") as said:
        load_folder(root)
    assert [str(warning.message) for warning in said] == [
        f"left out of {root}: '.DS_Store' (3 times), '.ipynb_checkpoints'"
    ]


def test_nothing_is_said_where_nothing_is_left_out(root):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_folder(root).names == ("cat", "dog")


def test_other_files_beside_the_classes_are_left_out_unless_they_are_images(root):
    (root / "README.txt").write_text("about")
    (root / "annotations").mkdir()
    (root / "train" / "labels.csv").write_text("a,b")
    with pytest.warns(UserWarning, match=r"'README.txt', 'annotations', 'labels.csv'$"):
        assert len(load_folder(root)) == 8
    put(root / "train" / "loose.png")
    refused(root, r"images in no class folder: .*train/loose.png; expected train/<class>/")


def test_links(root):
    (root / "train" / "cat" / "9.png").symlink_to("nowhere.png")
    refused(root, r"neither files nor folders: .*9.png \(a link to nothing\)")
    (root / "train" / "cat" / "9.png").unlink()
    (root / "train" / "cat" / "9.png").symlink_to("9.png")
    refused(root, r"9.png \(a link to nothing\)")
    (root / "train" / "cat" / "9.png").unlink()
    (root / "train" / "cat" / "more").symlink_to(root / "train" / "cat")
    refused(root, "more is a link to a folder that holds it")
    (root / "train" / "cat" / "more").unlink()
    put(root.parent / f"{root.name}-elsewhere" / "3.png")
    (root / "train" / "cat" / "more").symlink_to(root.parent / f"{root.name}-elsewhere")
    assert len(load_folder(root)) == 9


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_not_waited_for(root):
    os.mkfifo(root / "train" / "cat" / "9.png")
    refused(root, r"9.png \(no regular file\)")


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val", "validation_set"])
@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("Training", "Testing"), ("train_set", "TEST")])
def test_spellings_of_the_parts(tmp_path, train, test, val):
    images = load_folder(tree(tmp_path, train, val, test))
    assert (len(images), images.val_from, images.test_from) == (12, 4, 8)
    expected = [load_folder(tmp_path / part) for part in (train, val, test)]
    assert [image.tolist() for image, _ in images] == [image.tolist() for part in expected for image, _ in part]


def test_training_and_validation_images_without_test_images(tmp_path):
    images = load_folder(tree(tmp_path, "train", "val"))
    assert (len(images), images.val_from, images.test_from) == (8, 4, None)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["test"], "has test but not train; expected train/<class>/"),
        (["val"], "has val but not train"),
        (["val", "test"], "has val and test but not train"),
        (["train"], "has train but not test"),
        (["train", "Train", "test"], "has Train and train: only one of them can be the part 'train'"),
        (["train", "val", "validation", "test"], "has val and validation: only one"),
    ],
)
def test_parts_that_are_missing_or_there_twice(tmp_path, parts, message):
    refused(tree(tmp_path, *parts), message)


@pytest.mark.parametrize("parts", [("train_images", "test_images"), ("train2017", "val2017"), ("tr", "te")])
def test_parts_in_an_unknown_spelling_are_not_classes(tmp_path, parts):
    refused(tree(tmp_path, *parts), "hold the same folders like parts .*expected train/<class>/")


def test_classes_that_begin_like_parts(tmp_path):
    for name in ("truck", "television", "trainer", "valve"):
        tree(tmp_path / name, "front", name)
    assert load_folder(tmp_path).names == ("television", "trainer", "truck", "valve")
    tree(tmp_path, "truck", "television", classes=("2019", "2020"))
    assert len(load_folder(tmp_path).names) == 4


def test_one_level_too_deep(tmp_path):
    tree(tmp_path / "data", "train", "test")
    refused(tmp_path, r"data holds test and train, one level deeper than expected; name .*/data if it is the data set")
    tree(tmp_path / "more", "train", "test")
    refused(tmp_path, "data holds test and train, one level deeper")


def test_classes_one_level_too_deep(tmp_path):
    tree(tmp_path, "images")
    refused(
        tmp_path, r"at least two class folders; the only one is .*images; name it instead if cat, dog are the classes"
    )


def test_parts_inside_of_classes(tmp_path):
    tree(tmp_path, "cat", "dog", classes=("train", "test"))
    refused(tmp_path, "cat holds test and train")


def test_parts_without_classes(tmp_path):
    for part in ("train", "test"):
        put(tmp_path / part / "0.png")
    refused(tmp_path, r"images in no class folder: .*train/0.png")


def test_classes_named_like_parts(tmp_path):
    tree(tmp_path, ".", classes=("car", "train", "valid"))
    assert load_folder(tmp_path).names == ("car", "train", "valid")


def test_classes_without_images_and_with_one(root):
    (root / "train" / "eel").mkdir()
    (root / "test" / "eel").mkdir()
    refused(root, "no images in the class folders .*train/eel$")
    put(root / "train" / "eel" / "0.png")
    refused(root, "no images in the class folders .*test/eel$")
    (root / "test" / "eel").rmdir()
    refused(root, r"train and test of .* must have the same classes; only one of them has eel \(train\)$")
    alone = tree(root / "train", ".")
    with pytest.warns(UserWarning, match="with one image, which cannot be both learnt and tested: 'eel'$"):
        assert load_folder(alone).classes == 3


def test_a_class_that_one_of_three_parts_lacks(tmp_path):
    tree(tmp_path, "train", "val", "test")
    tree(tmp_path, "train", "test", classes=["eel"])
    refused(tmp_path, r"train, val and test of .*; not every one of them has eel \(train and test\)$")


def test_classes_that_differ_in_writing(root):
    tree(root, "train", classes=["Cat"])
    refused(root, r"the class folders 'Cat' and 'cat' of .*train differ only in writing")
    for file in (root / "train" / "Cat").iterdir():
        file.unlink()
    (root / "train" / "Cat").rmdir()
    tree(root, "train", classes=["caf\u00e9"])
    tree(root, "test", classes=["cafe\u0301"])
    refused(root, "some differ only in writing")


def test_nothing_to_list(tmp_path):
    refused(tmp_path, "it holds nothing; expected train/<class>/")
    put(tmp_path / "0.png")
    refused(tmp_path, "it holds files and no folder; expected train/<class>/")


def test_the_order_is_that_of_code_points(tmp_path):
    names = ["10.png", "9.png", "B.png", "a.png", "b/1.png", "b c/1.png", "\u00e9.png"]
    for number, name in enumerate(names):
        put(tmp_path / "x" / name, number)
    tree(tmp_path, ".", classes=["y"])
    order = [0, 1, 2, 3, 6, 4, 5]  # a folder's own images come before those of the folders in it
    single = [load_folder(tmp_path).images[place] for place in range(7)]
    for image, number in zip(single, order, strict=True):
        put(tmp_path / "expected.png", number)
        with Image.open(tmp_path / "expected.png") as expected:
            np.testing.assert_array_equal(image[0].numpy(), np.array(expected))
        (tmp_path / "expected.png").unlink()


def test_images_that_are_there_twice_are_named(root):
    put(root / "train" / "cat" / "a.png", 1)
    put(root / "test" / "cat" / "a.png", 1)
    put(root / "test" / "dog" / "b.png", 1)
    with pytest.warns(UserWarning, match="more than once, perhaps for training and for test: ") as said:
        load_folder(root)
    message = str(said[0].message)
    assert f"{root}/test/cat/a.png ({root}/train/cat/a.png), " in message
    assert f"{root}/test/dog/b.png ({root}/train/cat/a.png, of another class)" in message
