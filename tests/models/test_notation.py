"""The architecture notation: what it accepts, and where a refusal puts its carets."""

import pytest

from hnn_models import HybridNetwork, NotationError, parse
from hnn_models.notation import Dense


def test_layers_in_order():
    assert parse("A784-A500-S10") == (Dense(False, 784), Dense(False, 500), Dense(True, 10))
    assert parse("S10") == (Dense(True, 10),)


@pytest.mark.parametrize(
    ("text", "problem", "marked"),
    [
        ("", "a layer is missing", "^"),
        ("A784--S10", "a layer is missing", "     ^"),
        ("A784-S10-", "a layer is missing", "         ^"),
        ("A784-X5-S10", "'X5' is not a layer", "     ^^"),
        ("a784-S10", "'a784' is not a layer", "^^^^"),
        ("A784 -S10", "'A784 ' is not a layer", "^^^^^"),
        ("A-S10", "'A' is not a layer", "^"),
        ("A-5", "'A' is not a layer", "^"),
        ("A784-S٣", "is not a layer", "     ^^"),
        ("A784-S0", "at least one neuron", "     ^^"),
        ("A784-S500-A10", "an artificial layer cannot follow a spiking one", "          ^^^"),
        ("A32C3-S10", "dense layers (A500, S500) are", "^^^^^"),
        ("A784-P2-S10", "dense layers (A500, S500) are", "     ^^"),
    ],
)
def test_refusal_marks_the_place(text, problem, marked):
    with pytest.raises(NotationError) as caught:
        parse(text)
    message, shown, carets = str(caught.value).split("\n")
    assert problem in message
    assert shown == f"  {text}"
    assert carets == f"  {marked}"


def test_last_layer_must_have_a_neuron_per_class():
    assert parse("A784-S10", classes=10) == parse("A784-S10")
    with pytest.raises(NotationError, match="one neuron per class, 10; got 100") as caught:
        parse("A784-S100", classes=10)
    assert str(caught.value).endswith("\n  A784-S100\n       ^^^^")


def test_not_a_string():
    with pytest.raises(TypeError, match="architecture must be a string"):
        parse(784)


def test_the_network_refuses_what_the_notation_refuses():
    with pytest.raises(NotationError, match="cannot follow a spiking one"):
        HybridNetwork("S10-A10", input_shape=(1, 8, 8))
