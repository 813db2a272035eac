"""The architecture notation: what it accepts, and where a refusal puts its carets."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from hnn_models import HybridNetwork, NotationError, parse
from hnn_models.analysis import energy
from hnn_models.network import notation, table
from hnn_models.network.modifiers import MODIFIERS
from hnn_models.network.notation import shapes
from hnn_models.network.tokens import TOKENS, Convolution
from support.paths import ROOT


def test_layers_in_order():
    found = [
        (layer.text, layer.kind, layer.spiking, layer.size, layer.kernel) for layer in parse("A8C5-P2-S4C3-P3-S10")
    ]
    assert found == [
        ("A8C5", "convolution", False, 8, 5),
        ("P2", "pool", False, 0, 2),
        ("S4C3", "convolution", True, 4, 3),
        ("P3", "pool", True, 0, 3),
        ("S10", "dense", True, 10, 0),
    ]


def test_shapes_drop_what_is_left_over_at_the_edge():
    layers = parse("A32C3-S32C3-S64C3-P2-S64C3-P2-S512-S10")
    sides = [(32, 30), (32, 28), (64, 26), (64, 13), (64, 11), (64, 5)]
    assert shapes(layers, (3, 32, 32)) == [*((c, side, side) for c, side in sides), (512,), (10,)]
    assert shapes(layers[:2], (3, 9, 8)) == [(32, 7, 6), (32, 5, 4)]


def test_the_page_has_every_modifier():
    page = (ROOT / "docs" / "training.md").read_text()
    for letter, modifier in MODIFIERS.items():
        assert f"| `{modifier.example}` |" in page
        assert modifier.example.startswith(letter)
        assert any(letter in kind.modifiers for kind in TOKENS)


def test_modifiers_in_any_order():
    first, pool, second, whole, last = parse("A8C3s2np1-P3as2p1-S6C3d20-Pa-S10n")
    assert (first.padding, first.stride, first.norm, first.dropout) == (1, 2, True, 0)
    assert (pool.kernel, pool.stride, pool.padding, pool.average, pool.spiking) == (3, 2, 1, True, False)
    assert (second.norm, second.dropout, whole.kernel, whole.average, last.norm) == (False, 20, 0, True, True)
    sides = [(8, 8, 8), (8, 4, 4), (6, 2, 2), (6, 1, 1), (10,)]
    assert shapes((first, pool, second, whole, last), (1, 16, 16)) == sides


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
        ("A784-S1234567890", "nine digits at most", "     ^^^^^^^^^^^"),
        ("A784-S500-A10", "an artificial layer cannot follow a spiking one", "          ^^^"),
        ("S4C3-P2-A4C3-S10", "an artificial layer cannot follow a spiking one", "        ^^^^"),
        ("A784-P2-S10", "a pool cannot follow a dense layer", "     ^^"),
        ("A784-S8C3-S10", "a convolution cannot follow a dense layer", "     ^^^^"),
        ("A8C0-S10", "a kernel of at least 1", "^^^^"),
        ("A8C3-P1-S10", "a window of at least 2", "     ^^"),
        ("A8C3-AP2-S10", "'AP2' is not a layer", "     ^^^"),
        ("A8C-S10", "'A8C' is not a layer", "^^^"),
        ("A8C3q1-S10", "'q1' is no modifier of a convolution token, which takes p1 (padding), s2", "^^^^^^"),
        ("A8C3-P2n-S10", "'n' is no modifier of a pool token", "     ^^^"),
        ("A8C3n2-S10", "'n2' (batch norm) takes no number", "^^^^^^"),
        ("A8C3p-S10", "'p' (padding) takes a number, such as p1", "^^^^^"),
        ("A8C3p1np2-S10", "'p' comes twice", "^^^^^^^^^"),
        ("A8d0-S10", "'d0' (dropout of 20 %) must have a number from 1 to 99", "^^^^"),
        ("A8C3s1234567890-S10", "must have a number from 1 to 999999999", "^^^^^^^^^^^^^^^"),
        ("A8-S10d20", "the last layer gives the logits, so it takes no dropout", "   ^^^^^^"),
        ("A8C3-Pp1-S10", "a pool over the whole image takes neither stride nor padding", "     ^^^"),
        ("A8C3-P3p2-S10", "the padding must be at most half the window", "     ^^^^"),
        ("A8C3-S4C3", "the last layer must be dense", "     ^^^^"),
        ("S4C3-P2", "the last layer must be dense", "     ^^"),
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


@pytest.mark.parametrize(
    ("text", "problem", "marked"),
    [
        (
            "A8C7-P2-S4C2-S10",
            "'S4C2' does not fit: its kernel is 2 x 2, the image before it only 1 x 1",
            "        ^^^^",
        ),
        ("A8C9-S10", "'A8C9' does not fit: its kernel is 9 x 9, the image before it only 8 x 8", "^^^^"),
        ("A8C8-P2-S10", "'P2' does not fit: its window is 2 x 2, the image before it only 1 x 1", "     ^^"),
    ],
)
def test_what_does_not_fit_the_image_is_marked(text, problem, marked):
    with pytest.raises(NotationError) as caught:
        parse(text, input_shape=(1, 8, 8))
    assert str(caught.value) == f"{problem}\n  {text}\n  {marked}"


def test_a_convolution_needs_an_image():
    with pytest.raises(NotationError, match=r"'A8C3' needs an image of shape \(C, H, W\) before it; there is \(64,\)"):
        parse("A8C3-S10", input_shape=(64,))


def test_not_a_string():
    with pytest.raises(TypeError, match="architecture must be a string"):
        parse(784)


def test_the_network_refuses_what_the_notation_refuses():
    with pytest.raises(NotationError, match="cannot follow a spiking one"):
        HybridNetwork("S10-A10", input_shape=(1, 8, 8))


@dataclass(frozen=True)
class Dilated(Convolution):
    """A token that the package does not have: ``A8C3D2``, a convolution with a dilation of 2."""

    dilation: int = 1
    pattern = r"(?P<part>[AS])(?P<size>[0-9]+)C(?P<kernel>[0-9]+)D(?P<dilation>[0-9]+)"
    examples = "A8C3D2 (dilated convolution)"

    def shape(self, before):
        return (self.size, *(side - self.dilation * (self.kernel - 1) for side in before[1:]))

    def module(self, before, outputs=1):
        return nn.Conv2d(before[0], outputs * self.size, self.kernel, dilation=self.dilation)


@pytest.mark.parametrize("architecture", ["A8C3D2-S4C3D2-S5", "A8C3-S4C3D2-P2-S5"])
@pytest.mark.parametrize("input_", ["direct", "axon"])
def test_a_token_is_one_class(monkeypatch, architecture, input_):
    """It is parsed, built, run, counted, shown, and has an artificial twin, whose dilation is no layer."""
    with pytest.raises(NotationError, match="is not a layer"):
        parse(architecture)
    monkeypatch.setattr(notation, "TOKENS", (*notation.TOKENS, Dilated))
    network = HybridNetwork(architecture, (2, 15, 15), steps=3, input=input_, gain=6.0)
    twin = HybridNetwork(**network.pretraining_config)
    assert twin.architecture == architecture.replace("-S", "-A")
    assert twin.shapes == network.shapes
    assert not twin.spiking
    images = torch.rand(2, 2, 15, 15)
    assert network(images).shape == twin(images).shape == (2, 5)
    costs = energy.profile(network, [images])
    dilated = next(cost for cost in costs if cost.name == "S4C3D2")
    assert dilated.macs == 8 * 9 * math.prod(dilated.shape)
    assert [line.name for line in table.rows(network) if line.part != "coding"] == ["input", *architecture.split("-")]
