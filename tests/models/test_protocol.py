"""Recipes: the paper's values, what changes them, and what is refused."""

import json
import math

import numpy as np
import pytest

from hnn_models.training.protocol import PRECISIONS, RECIPES, Protocol


def test_the_papers_values():
    mnist = Protocol.of("mnist")
    assert (mnist.epochs, mnist.batch_size, mnist.lr, mnist.milestones) == (100, 64, 1e-4, (0.5,))
    cifar10 = Protocol.of("cifar10")
    assert (cifar10.epochs, cifar10.batch_size, cifar10.lr, cifar10.milestones) == (150, 32, 1e-4, (0.5, 0.75))
    for protocol in (mnist, cifar10):
        assert (protocol.schedule, protocol.weight_decay, protocol.label_smoothing) == ("steps", 0, 0)
        assert (protocol.shift, protocol.flip, protocol.split, protocol.patience) == (0, False, "pooled", None)


def test_a_seed_is_that_of_the_split_too():
    assert Protocol.of("digits", seed=7).split_seed == 7
    assert Protocol.of("digits", seed=7, split_seed=None).split_seed == 7
    assert Protocol.of("digits", seed=7, split_seed=0).split_seed == 0


def test_drops_and_the_end_of_a_flat_run():
    cifar10 = Protocol.of("cifar10", patience=20)
    assert cifar10.drops() == (75, 113)
    assert cifar10.drops(40) == (20, 30)
    assert Protocol.of("mnist", "modern").drops() == ()
    assert not cifar10.ends_flat(132, 50)
    assert not cifar10.ends_flat(133, 19)
    assert cifar10.ends_flat(133, 20)
    assert cifar10.ends_flat(50, 20, planned=40)
    assert not cifar10.ends_flat(49, 20, planned=40)
    assert not cifar10._replace(patience=None).ends_flat(150, 150)
    assert not cifar10._replace(min_epochs=140).ends_flat(139, 20)
    assert cifar10._replace(milestones=()).ends_flat(21, 20)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("dataset", ["digits", "mnist", "fashion-mnist", "cifar10", "folder"])
def test_every_recipe_has_values_for_every_data_set(dataset, recipe):
    protocol = Protocol.of(dataset, recipe, seed=3, epochs=7)
    assert (protocol.dataset, protocol.recipe, protocol.seed, protocol.epochs) == (dataset, recipe, 3, 7)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "recipe",
            "best",
            "recipe must be one of 'paper', 'modern', 'authors'",
        ),
        ("schedule", "cosine", "schedule must be one of 'steps', 'one-cycle'"),
        ("split", "5:5", "split must be one of 'pooled', 'given'"),
        ("precision", "8", f"precision must be one of '{PRECISIONS[0]}'"),
        ("epochs", 0, "epochs must be an int of at least 1; got 0"),
        ("batch_size", True, "batch_size must be an int of at least 1"),
        ("shift", -1, "shift must be an int of at least 0"),
        ("erase", -1, "erase must be an int of at least 0"),
        ("erase", 2.5, "erase must be an int of at least 0"),
        ("warp", -0.5, r"warp must be a float in \[0, 1000\), in pixels; got -0.5"),
        ("warp", 1000, "warp must be a float"),
        ("warp", math.nan, "warp must be a float"),
        ("patience", 0, "patience must be an int of at least 1"),
        ("min_epochs", 0, "min_epochs must be an int of at least 1"),
        ("lr", 0.0, "lr must be a finite float above 0"),
        ("lr", math.nan, "lr must be a finite float above 0"),
        ("lr", math.inf, "lr must be a finite float above 0"),
        ("lr", "fast", "lr must be a finite float above 0"),
        ("logit_scale", 0, "logit_scale must be a finite float above 0; got 0"),
        ("leaked_split", 1, "leaked_split must be True or False; got 1"),
        ("weight_decay", -0.1, "weight_decay must be a finite float of at least 0"),
        ("label_smoothing", 1.0, r"label_smoothing must be a float in \[0, 1\)"),
        ("milestones", (0.5, 1.0), r"milestones must be a tuple of fractions in \(0, 1\)"),
        ("milestones", (0.0,), "milestones must be"),
        ("milestones", [0.5, "1"], "milestones must be"),
        ("milestones", [0.5, "half"], "milestones must be"),
        ("milestones", 0.5, "milestones must be"),
        ("milestones", "0.5", "milestones must be"),
        ("lr", True, "lr must be a finite float above 0; got True"),
        ("lr", "nan", "lr must be a finite float above 0; got 'nan'"),
        ("lr", "1e999", "lr must be a finite float above 0; got '1e999'"),
        ("lr", "-1e-3", "lr must be a finite float above 0; got '-1e-3'"),
        ("lr", "1e-3 ", "lr must be a finite float above 0; got '1e-3 '"),
        ("lr", "1_0", "lr must be a finite float above 0; got '1_0'"),
        ("epochs", 2.5, "epochs must be an int of at least 1; got 2.5"),
        ("epochs", "2.5", "epochs must be an int of at least 1; got '2.5'"),
        ("epochs", "ten", "epochs must be an int of at least 1; got 'ten'"),
        ("epochs", 1e16, r"epochs must be an int of at least 1; got 1e\+16"),  # floats do not hold its neighbours
        ("epochs", math.nan, "epochs must be an int of at least 1; got nan"),
        ("epochs", math.inf, "epochs must be an int of at least 1; got inf"),
        ("epochs", np.True_, "epochs must be an int of at least 1; got"),
        ("epochs", None, "epochs must be an int of at least 1; got None"),
        ("recipe", ["paper"], "recipe must be one of"),
        ("flip", None, "flip must be True or False"),
        ("seed", 1.5, "seed must be an int of at least 0 and below 4294967296; got 1.5"),
        ("seed", True, "seed must be an int of at least 0"),
        ("flip", 1, "flip must be True or False; got 1"),
        ("flip", "false", "flip must be True or False; got 'false'"),
        ("seed", -1, "seed must be an int of at least 0"),
        ("split_seed", 2**32, "split_seed must be an int of at least 0 and below 4294967296; got 4294967296"),
    ],
)
def test_wrong_value(name, value, message):
    with pytest.raises(ValueError, match=message):
        Protocol("digits")._replace(**{name: value}).checked()
    if name != "recipe":
        with pytest.raises(ValueError, match=message):
            Protocol.of("digits", **{name: value})


def test_wrong_names():
    with pytest.raises(ValueError, match="dataset must be one of 'digits'"):
        Protocol.of("svhn")
    with pytest.raises(ValueError, match="recipe must be one of"):
        Protocol.of("mnist", "best")
    with pytest.raises(ValueError, match="dataset must be a name"):
        Protocol(3).checked()
    with pytest.raises(TypeError, match="momentum"):
        Protocol.of("mnist", momentum=0.9)


@pytest.mark.parametrize(
    ("changes", "plain"),
    [
        ({"lr": 1, "weight_decay": 0, "label_smoothing": 0, "warp": 1}, (1.0, 0.0, 0.0, 1.0)),
        ({"lr": np.float64(1e-3), "warp": np.float32(0.5), "weight_decay": np.int64(2)}, (1e-3, 2.0, 0.0, 0.5)),
    ],
)
def test_every_kind_of_real_number_becomes_a_float(changes, plain):
    protocol = Protocol.of("digits", **changes)
    values = (protocol.lr, protocol.weight_decay, protocol.label_smoothing, protocol.warp)
    assert values == plain
    assert {type(value) for value in values} == {float}


def test_yaml_makes_a_text_of_a_float_without_a_point():
    protocol = Protocol.of(
        "digits", lr="1e-3", weight_decay="1E-4", label_smoothing=".1", warp="+2.", milestones=["5e-1"]
    )
    assert protocol == Protocol.of(
        "digits", lr=1e-3, weight_decay=1e-4, label_smoothing=0.1, warp=2.0, milestones=[0.5]
    )
    assert type(protocol.lr) is float


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.int32, float, str, "{}e0".format, np.float32, np.array])
def test_every_kind_of_integer_becomes_an_int(kind):
    names = ("epochs", "batch_size", "shift", "patience", "min_epochs", "seed", "split_seed")
    protocol = Protocol.of("digits", **dict.fromkeys(names, kind(3)))
    assert protocol == Protocol.of("digits", **dict.fromkeys(names, 3))
    assert {type(getattr(protocol, name)) for name in names} == {int}


@pytest.mark.parametrize("given", [[0.5, 0.75], (0.5, 0.75), np.array([0.5, 0.75])])
def test_every_kind_of_sequence_becomes_a_tuple(given):
    protocol = Protocol.of("digits", milestones=given, flip=np.True_)
    assert protocol.milestones == (0.5, 0.75)
    assert type(protocol.milestones[0]) is float
    assert protocol.flip is True


@pytest.mark.parametrize("protocol", [Protocol.of("cifar10", "modern"), Protocol.of("mnist", patience=3, lr=0.01)])
def test_json_and_back(protocol):
    assert Protocol.of(**json.loads(json.dumps(protocol._asdict()))) == protocol
