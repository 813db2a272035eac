"""Separate learning, the network's side: a fixed part that is loaded, computed once, and left alone."""

import pytest
import torch
from torch import nn

from hnn_models import HybridNetwork
from support.looped_network import make


def pair(architecture, shape=(2, 9, 8), **options):
    """A network with a fixed part, and the artificial one that it is to come from."""
    network, images = make(architecture, shape, fixed_artificial=True, steps=4, **options)
    torch.manual_seed(1)
    return network, HybridNetwork(**network.pretraining_config).double(), images


@pytest.mark.parametrize("architecture", ["A7-S6-S5", "A4C3-P2-S6C2-S5", "A4C3-A3C2-P2-S5", "P2-A4-S5"])
@pytest.mark.parametrize("coding", ["duplicate", "poisson"])
def test_features_are_those_of_the_source(architecture, coding):
    network, source, images = pair(architecture, coding=coding)
    assert not source.spiking
    before = network.encode_features(images)
    network.load_artificial(source)
    features = network.encode_features(images)
    assert not torch.equal(features, before)
    with torch.no_grad():
        expected = source.artificial[: len(network.artificial)](images)
    assert torch.equal(features, expected)
    if coding == "poisson":
        assert 0 < features.min() < features.max() < 1


def test_fixed_part_takes_no_gradient_and_is_not_moved():
    network, source, images = pair("A7-S6-S5")
    network.load_artificial(source)
    assert network.has_fixed_part
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1, weight_decay=0.1)
    nn.functional.cross_entropy(network(images), torch.arange(3)).backward()
    optimizer.step()
    for own, other in zip(network.artificial.parameters(), source.artificial.parameters(), strict=False):
        assert own.grad is None
        assert torch.equal(own, other)
        assert own.data_ptr() != other.data_ptr()
    assert not network.encode_features(images).requires_grad
    assert all(p.grad is not None for p in network.spiking.parameters())


@pytest.mark.parametrize("options", [{}, {"fixed_artificial": True}, {"coding": "gaussian"}])
def test_forward_is_both_halves(options):
    network, images = make("A4C3-P2-S6C2-S5", (2, 9, 8), steps=4, **options)
    torch.manual_seed(3)
    whole = network(images)
    torch.manual_seed(3)
    features = network.encode_features(images)
    assert features.shape == (3, *network.features_shape)
    assert torch.equal(network.forward_features(features), whole)
    assert network.has_fixed_part == ("fixed_artificial" in options)


def test_halves_of_pure_networks():
    network, images = make("S6-S5")
    assert torch.equal(network.encode_features(images), images.flatten(1))
    network, images = make("A6-A5")
    assert torch.equal(network.encode_features(images), network(images))


def test_a_paper_network_takes_a_sigmoid_network_whole():
    """The ancestor's pretrained network for Poisson coding has sigmoids throughout."""
    network, _, _ = pair("A7-A6-S5", coding="poisson", activation="sigmoid")
    assert network.activations == ("sigmoid", "sigmoid")
    network.load_artificial(HybridNetwork("A7-A6-A5", (2, 9, 8), activation="sigmoid").double())


@pytest.mark.parametrize(
    ("architecture", "options", "message"),
    [
        ("A8-A6-A5", {}, r"source must have the layers up to the border A7 of A7-S6-S5; A8-A6-A5 has A8"),
        ("S7-S5", {}, "source must be purely artificial; got S7-S5"),
        ("A7-S6-S5", {"coding": "gaussian"}, "source must be purely artificial; got A7-S6-S5"),
        ("A7", {}, r"source must have the activation \('relu',\) of A7-S6-S5; A7 has \(\)"),
        ("A7-A6-A5", {"activation": "sigmoid"}, r"has \('sigmoid',\)"),
        ("A7-A6-A5", {"input_shape": (1, 12, 12)}, r"source must have the input_shape \(2, 9, 8\)"),
    ],
)
def test_another_source_is_refused(architecture, options, message):
    network, _, images = pair("A7-S6-S5")
    before = network(images)
    with pytest.raises(ValueError, match=message):
        network.load_artificial(HybridNetwork(architecture, **{"input_shape": (2, 9, 8), **options}))
    assert torch.equal(network(images), before)


def test_where_there_is_nothing_to_load():
    source = HybridNetwork("A7-A5", (2, 9, 8))
    for architecture in ("S7-S5", "A7-A5", "P2-S5"):
        with pytest.raises(ValueError, match="no border"):
            HybridNetwork(architecture, (2, 9, 8)).load_artificial(source)
    with pytest.raises(ValueError, match="twice the neurons"):
        HybridNetwork("A7-S5", (2, 9, 8), "gaussian").load_artificial(source)
    with pytest.raises(TypeError, match="source must be a HybridNetwork"):
        HybridNetwork("A7-S5", (2, 9, 8)).load_artificial(source.state_dict())
