"""A constant value behind an axon: the neurons filter it themselves, and the function is that of the whole train."""

import pytest
import torch
from torch import nn

import hnn_kernels
from hnn_kernels.nn import IIR, LIF
from hnn_models import HybridNetwork, SpikingLayer
from hnn_models.network.layers import gain

NETWORKS = {
    "dense": ("S9-S7-S5", {}),
    "artificial": ("A12-S9-S5", {}),
    # Behind the first layer stands a pool, so that its own axon is in the same kernel.
    "maps": ("S6C3-P2-S5C2-S5", {}),
    "an average before": ("A4C3-P2a-S5C2-S5", {}),
    "exponential": ("S9-S7-S5", {"axon": "exponential"}),
    "one layer": ("S5", {}),
    "membrane": ("S9-S5", {"readout": "membrane"}),
    "other options": ("S9-S5", {"decay": 0.8, "reset": "subtract", "reset_grad": "detach"}),
    "changes sign": ("S9-S5", {"axon": hnn_kernels.IIR((0.5, -0.3), (1.0,))}),
}
# Filters that have no rest, inputs of earlier steps or learnt coefficients, and layers with more than their weights.
OTHERS = {
    "a delayed input": ("S9-S5", {"axon": "normalized"}),
    "learnt": ("S9-S5", {"learn": ("axon",), "per": "layer"}),
    "never at rest": ("S9-S5", {"axon": hnn_kernels.IIR((1.0,), (1.0,))}),
    "batch norm": ("S9n-S5", {}),
    "a synapse": ("S9-S5", {"synapse": "exponential"}),
    "direct": ("S9-S5", {"input": "direct"}),
    "gaussian": ("A9-S9-S5", {"coding": "gaussian"}),
}


def build(architecture, options):
    torch.manual_seed(7)
    return HybridNetwork(architecture, (2, 6, 6), steps=9, gain=8, **{"input": "axon", **options}).double()


def results(network, **options):
    """Logits and gradients, each by name."""
    torch.manual_seed(3)
    images = torch.rand(4, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    found = network(images, **options)
    logits = torch.cat([part.flatten() for part in found]) if isinstance(found, tuple) else found
    of = {"images": images, **dict(network.named_parameters())}
    gradients = torch.autograd.grad(logits.sin().sum(), list(of.values()), allow_unused=True)
    return {"logits": logits, **dict(zip(of, gradients, strict=True))}


@pytest.fixture
def filtered(monkeypatch):
    """The currents that the neurons filtered."""
    found = []
    original = SpikingLayer._constant_before_filter

    def watched(self, *arguments):
        current, state = original(self, *arguments)
        found.append(tuple(current.shape))
        return current, state

    monkeypatch.setattr(SpikingLayer, "_constant_before_filter", watched)
    return found


def same_as_the_whole_train(monkeypatch, network, **options):
    """Check ``network`` against itself with the train of currents that its neurons would otherwise filter."""
    got = results(network, **options)
    with monkeypatch.context() as patch:
        patch.setattr(SpikingLayer, "filters_constant", lambda *_: False)
        expected = results(network, **options)
    assert expected["logits"].any()
    for key, value in expected.items():
        if value is None:
            assert got[key] is None
        else:
            torch.testing.assert_close(got[key], value, rtol=1e-10, atol=1e-10 * value.abs().max().item(), msg=key)


@pytest.mark.parametrize("rates", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_function_is_that_of_the_whole_train(monkeypatch, filtered, name, rates):
    network = build(*NETWORKS[name])
    same_as_the_whole_train(monkeypatch, network, rates=rates)
    assert len(filtered) == 1
    assert filtered[0][0] == 4, "[B, *out]: there is no train"


@pytest.mark.parametrize("name", ["dense", "maps"])
def test_without_a_bias(monkeypatch, filtered, name):
    network = build(*NETWORKS[name])
    network.spiking[0].weights.bias = None
    same_as_the_whole_train(monkeypatch, network)
    assert len(filtered) == 1


@pytest.mark.parametrize("name", OTHERS)
def test_other_filters_and_layers_take_the_train(filtered, name):
    assert results(build(*OTHERS[name]))["logits"].any()
    assert not filtered


class Doubled(LIF):
    """Neurons that double their current."""

    def forward(self, current, **options):
        return super().forward(2 * current, **options)


CHANGES = {
    "a hook before the neurons": lambda n: n.spiking[0].neurons.register_forward_pre_hook(lambda _, x: (0.5 * x[0],)),
    "a hook behind the weights": lambda n: n.spiking[0].weights.register_forward_hook(lambda _, x, out: out.square()),
    "a hook behind the filter": lambda n: n.code.axon.register_forward_hook(lambda _, x, out: out.square()),
    "another module": lambda n: setattr(n.spiking[0], "weights", nn.Sequential(n.spiking[0].weights, nn.Tanh())),
    "other neurons": lambda n: setattr(n.spiking[0], "neurons", Doubled(axon=n.spiking[0].neurons.axon)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changes_keep_their_effect(filtered, change):
    network = build(*NETWORKS["dense"])
    plain = results(network)
    assert filtered
    filtered.clear()
    change(network)
    assert not torch.equal(results(network)["logits"], plain["logits"])
    assert not filtered


@pytest.mark.parametrize(("bf16", "tolerance"), [(False, 2e-6), (True, 2**-7)])
def test_in_float32_and_autocast_the_potentials_differ_by_rounding(monkeypatch, filtered, bf16, tolerance):
    """Those of a layer that does not fire, so that no spike can flip. bfloat16 rounds by 2^-9 at most."""
    network = build("S5", {"readout": "membrane"}).float()
    features = network.encode_features(torch.rand(16, 2, 6, 6))
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16), torch.no_grad():
        got = network.forward_features(features, per_step=True)
        with monkeypatch.context() as patch:
            patch.setattr(SpikingLayer, "filters_constant", lambda *_: False)
            expected = network.forward_features(features, per_step=True)
    assert len(filtered) == 1
    torch.testing.assert_close(got, expected, rtol=0, atol=tolerance * expected.abs().max().item())


@pytest.mark.parametrize(
    ("axon", "expected"),
    [
        (hnn_kernels.IIR((0.5,), (2.0,)), 4.0),
        (hnn_kernels.IIR((0.5, 0.25), (-1.0,)), -4.0),
        (hnn_kernels.IIR((1.0,), (1.0,)), None),
        (hnn_kernels.IIR((0.9999,), (1.0,)), None),
        (hnn_kernels.IIR((0.5,), (0.0,)), None),
        (hnn_kernels.IIR((0.5,), (1.0, 1.0)), None),
        (hnn_kernels.IIR(torch.tensor([0.5]), (1.0,)), None),
    ],
)
def test_the_output_at_rest(axon, expected):
    assert gain(IIR(*axon)) == expected
    if expected is not None:
        ones = torch.ones(200, 1, 1, dtype=torch.float64)
        assert IIR(*axon)(ones)[-1].item() == pytest.approx(expected)
