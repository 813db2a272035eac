"""Products with spikes in a network: used where the train is binary, and the same function as without them."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import hnn_kernels
from hnn_kernels.nn import LIF
from hnn_models import HybridNetwork, SpikingLayer
from hnn_models.network import layers, weights

pytestmark = pytest.mark.skipif(
    hnn_kernels.explain("cpu").chosen != "cpu", reason="the kernels of the CPU are not there"
)

NETWORKS = {
    "dense": ("S40-S36-S10", {}),
    "maps": ("S16C3-S17C3-P2-S18C2-S36-S5", {}),
    "artificial": ("A30-S40-S36", {"input": "axon"}),
    "gaussian": ("A6C3-S16C3-S40-S5", {"coding": "gaussian"}),
    "poisson": ("S40-S36-S10", {"coding": "poisson"}),
    "exponential": ("S40-S36-S10", {"axon": "exponential"}),
    "normalized": ("S40-S36-S10", {"axon": "normalized"}),
    "no axon": ("S16C3-S17C3-P2-S40-S5", {"axon": None, "coding": "poisson"}),
    "synapse": ("S40-S36-S10", {"synapse": "exponential"}),
    "learnt": ("S40-S36-S10", {"learn": ("axon",)}),
    "other options": (
        "S40-S36-S10",
        {"decay": 0.8, "reset": "subtract", "surrogate": "arctan", "reset_grad": "detach"},
    ),
}


def build(name="dense", **options):
    architecture, own = NETWORKS[name]
    torch.manual_seed(7)
    return HybridNetwork(architecture, (2, 8, 8), steps=12, gain=12, **own, **options).double()


@pytest.fixture
def used(monkeypatch):
    """The shapes of the weights of every product with spikes."""
    found = []

    def watched(product):
        def call(x, weight, *rest, **options):
            found.append(tuple(weight.shape))
            return product(x, weight, *rest, **options)

        return call

    for name in ("spike_linear", "spike_conv2d"):
        monkeypatch.setattr(hnn_kernels, name, watched(getattr(hnn_kernels, name)))
    return found


def results(network):
    """Logits and gradients, each by name."""
    torch.manual_seed(3)
    images = torch.rand(5, 2, 8, 8, dtype=torch.float64)
    if network.coding != "poisson":
        images.requires_grad_()
    logits = network(images)
    of = {"images": images, **dict(network.named_parameters())}
    of = {name: tensor for name, tensor in of.items() if tensor.requires_grad}
    return {"logits": logits, **dict(zip(of, torch.autograd.grad(logits.sin().sum(), list(of.values())), strict=True))}


def without_spike_products(monkeypatch, network):
    with monkeypatch.context() as patch:
        for module in (layers, weights):
            patch.setattr(module, "spike_product", lambda *_, **__: False)
        return results(network)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_function_is_that_of_the_network_without_them(monkeypatch, used, name):
    network = build(name)
    got = results(network)
    assert bool(used) == (name not in ("normalized", "synapse", "learnt") or name == "no axon"), used
    count = len(used)
    expected = without_spike_products(monkeypatch, network)
    assert len(used) == count, "the network without them has them"
    assert expected["logits"].any()
    for key, value in expected.items():
        torch.testing.assert_close(got[key], value, rtol=1e-10, atol=1e-10 * value.abs().max().item(), msg=key)


def test_where_they_stand(used):
    results(build("maps"))
    assert used == [(17, 16, 3, 3), (36, 18)]  # a pool and an axon do not change places, and 5 outputs are few
    used.clear()
    results(build("no axon"))
    assert used == [(17, 16, 3, 3), (40, 68)]  # two channels of an image are few


class Doubled(LIF):
    """Neurons whose output is no spike train."""

    def forward(self, current, **options):
        return 2 * super().forward(current, **options)


CHANGES = {
    "a hook before the weights": lambda n: n.spiking[1].weights.register_forward_pre_hook(lambda _, x: (0.5 * x[0],)),
    "a hook behind the weights": lambda n: n.spiking[1].weights.register_forward_hook(lambda _, x, out: 0.5 * out),
    "a hook behind the neurons": lambda n: n.spiking[0].neurons.register_forward_hook(lambda _, x, out: 0.5 * out),
    "a hook behind the layer": lambda n: n.spiking[0].register_forward_hook(lambda _, x, out: 0.5 * out),
    "a hook before the neurons": lambda n: n.spiking[0].neurons.register_forward_pre_hook(lambda _, x: (0.5 * x[0],)),
    "pruned weights": lambda n: prune.random_unstructured(n.spiking[1].weights, "weight", 0.5),
    "another module": lambda n: setattr(n.spiking[1], "weights", nn.Sequential(n.spiking[1].weights, nn.Dropout(0.0))),
    "a module in front": lambda n: n.spiking[1].before.append(nn.Hardtanh(0.1, 0.7)),
    "other neurons": lambda n: setattr(n.spiking[0], "neurons", Doubled()),
}


@pytest.mark.parametrize("axon", ["dual_exponential", None])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changes_keep_their_effect(monkeypatch, used, change, axon):
    network = HybridNetwork("S40-S36", (2, 8, 8), steps=6, gain=4, axon=axon).double()
    results(network)
    assert used == [(36, 40)]
    used.clear()
    change(network)
    got = results(network)
    assert not used
    expected = without_spike_products(monkeypatch, network)
    for key, value in expected.items():
        torch.testing.assert_close(got[key], value, rtol=1e-10, atol=1e-10, msg=key)


def test_the_input_is_kept_as_bits():
    network = HybridNetwork("S64-S48-S36", (1, 8, 8), steps=5)
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = (tensor.dtype, storage.nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(torch.rand(3, 1, 8, 8))
    bits = sum(nbytes for dtype, nbytes in kept.values() if dtype == torch.uint8)
    assert bits == 5 * 3 * (64 + 48) / 8


def test_names_and_first_weights_are_those_of_torchs_modules():
    torch.manual_seed(7)
    network = HybridNetwork("S20-S10", (1, 4, 4))
    torch.manual_seed(7)
    first, second = nn.Linear(16, 20), nn.Linear(20, 10)
    state = network.state_dict()
    assert list(state) == [f"spiking.{i}.weights.{name}" for i in (0, 1) for name in ("weight", "bias")]
    assert torch.equal(state["spiking.0.weights.weight"], first.weight)
    assert torch.equal(state["spiking.1.weights.bias"], second.bias)
    assert all(type(layer) is SpikingLayer and type(layer.weights) is nn.Linear for layer in network.spiking)


def test_compiled():
    torch.compiler.reset()
    network = build("maps")
    expected = results(network)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    torch.manual_seed(3)
    images = torch.rand(5, 2, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(compiled(images), expected["logits"])
    torch.compiler.reset()
