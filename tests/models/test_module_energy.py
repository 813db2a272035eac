"""The energy of any module with our layers, and models of energy: operations counted by hand."""

import json

import pytest
import torch
from torch import nn

import hnn_kernels
from hnn_kernels.nn import IIR, LIF, Neuron, Recurrent
from hnn_models import HybridNetwork, profile_module
from hnn_models.analysis import costs, energy
from hnn_models.analysis.costs import AUTHORS, INT8, break_even, quantised
from support.commands import hnn, refused


class Spiking(nn.Module):
    """Weights and neurons, all steps at once, from a train ``[T, B, 3]`` of spikes."""

    def __init__(self, **options):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.neurons = LIF(decay=0.5, reset="subtract", **options)
        self.second = nn.Linear(4, 2)
        with torch.no_grad():
            self.first.weight.fill_(1.0)
            self.first.bias.zero_()

    def forward(self, train):
        return self.second(self.neurons(self.first(train)))


def test_spikes_are_added_and_values_multiplied():
    """2 images of 5 steps; one has a spike in each step, so all 4 neurons of it fire in each."""
    train = torch.zeros(5, 2, 3)
    train[:, 0, 1] = 1
    first, neurons, second = profile_module(Spiking(), [train], batch_axis=1)
    assert [cost.name for cost in (first, neurons, second)] == ["first", "neurons", "second"]
    assert (first.accumulates, first.macs, first.shape) == (5 * 4 / 2, 0, (4,))
    assert (neurons.spikes, neurons.updates, neurons.rate) == (5 * 4 / 2, 5 * 4, 0.5)
    assert (neurons.inner_macs, neurons.inner_accumulates) == (2 * 20, 2 * 20)  # leak and reset; current, comparison
    assert (second.accumulates, second.macs) == (5 * 4 * 2 / 2, 0)
    analogue = profile_module(Spiking(), [0.25 * train], batch_axis=1)[0]
    assert (analogue.macs, analogue.nonzero, analogue.accumulates) == (5 * 3 * 4, 5 * 4 / 2, 0)


def test_an_axon_makes_values_of_spikes():
    train = torch.ones(5, 2, 3)
    _, neurons, second = profile_module(Spiking(axon=hnn_kernels.IIR.exponential(4)), [train], batch_axis=1)
    assert neurons.spikes == 5 * 4
    assert neurons.inner_macs == (2 + 2) * 20  # two coefficients
    assert (second.macs, second.nonzero, second.accumulates) == (5 * 4 * 2, 5 * 4 * 2, 0)


@pytest.mark.parametrize("options", [{"stride": 2, "padding": 1}, {"dilation": 2}, {"groups": 2, "padding": (0, 2)}])
def test_convolutions_as_counted_one_by_one(options):
    """The weights that a value meets are those through which it has a gradient."""
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, 3, bias=False, **options)
    spikes = (torch.rand(2, 4, 7, 6) < 0.3).float()
    (cost,) = profile_module(layer, [spikes])
    ones = nn.Conv2d(4, 6, 3, bias=False, **options)
    nn.init.ones_(ones.weight)
    assert cost.accumulates == ones(spikes).sum().item() / 2
    (dense,) = profile_module(layer, [spikes / 2])
    assert (dense.macs, dense.nonzero) == (layer(spikes).numel() * layer.weight[0].numel() / 2, cost.accumulates)


def test_recurrent_and_defined_neurons_and_filters():
    torch.manual_seed(0)
    neurons = Recurrent(LIF(decay=1.0, reset="subtract"), nn.Linear(3, 3, bias=False))
    nn.init.zeros_(neurons.weight.weight)
    train = torch.full((4, 2, 3), 0.5)  # they fire at steps 2 and 4
    found = {cost.name: cost for cost in profile_module(neurons, [train], batch_axis=1)}
    assert found["neurons"].spikes == 2 * 3
    assert found["weight"].accumulates >= 3 * 3  # those of step 2 come back, in step 3
    (defined,) = profile_module(Neuron(hnn_kernels.neurons.plif, w=0.0), [10 * train], batch_axis=1)
    assert (defined.spikes, defined.rate, defined.inner_macs) == (12, 1.0, 0)
    (axon,) = profile_module(IIR([0.5], [1.0]), [train], batch_axis=1)
    assert (axon.inner_macs, axon.states) == (2 * 12, 2 * 12)
    with pytest.raises(ValueError, match="recurrent neurons with an axon"):
        profile_module(Recurrent(LIF(axon=hnn_kernels.IIR.exponential(4)), 0.5), [train], batch_axis=1)


def test_a_hybrid_network_is_counted_by_its_architecture():
    network = HybridNetwork("A4C3-P2-S5-S2", (1, 6, 6), steps=3)
    images = torch.rand(4, 1, 6, 6)
    assert profile_module(network, [images]) == energy.profile(network, [images])


@pytest.mark.parametrize(
    ("model", "batches", "error", "message"),
    [
        (
            nn.ReLU(),
            [torch.ones(2, 3)],
            ValueError,
            "must have an nn.Linear, an nn.Conv2d or a layer of hnn_kernels.nn",
        ),
        (nn.Linear(3, 2), [], ValueError, "at least one image"),
        (nn.Linear(3, 2), [[1.0]], TypeError, "must hold tensors; got list"),
        ("network", [], TypeError, "must be a torch.nn.Module; got str"),
    ],
)
def test_wrong_arguments(model, batches, error, message):
    with pytest.raises(error, match=message):
        profile_module(model, batches)


def test_zeros_behind_a_relu_cost_a_quantised_rival_nothing():
    network = HybridNetwork("A3-A2", (2,))
    with torch.no_grad():
        network.artificial[0].weight.copy_(torch.tensor([[1.0, 1.0], [1.0, 0.0], [-1.0, -1.0]]))
        network.artificial[0].bias.zero_()
    first, last = energy.profile(network, [torch.tensor([[1.0, 0.0], [1.0, 1.0]])])
    assert (first.macs, first.nonzero) == (6, 1.5 * 3)
    assert (last.macs, last.nonzero) == (6, 2 * 2)  # two of three hidden values are not zero
    assert last.energy(quantised(8)) == pytest.approx(4 * 0.3)
    assert last.energy(quantised(4)) == pytest.approx(4 * 0.2)
    assert last.bytes(quantised(4)) == 4 * 1.5 + 2 * 0.5
    assert last.energy(INT8) == pytest.approx(6 * 0.3)


def test_models_of_energy():
    """The authors' price is that of each operation and each update; the others count what is inside an update."""
    network = HybridNetwork("A4-S3-S2", (2,), steps=4, decay=1.0, reset="subtract", axon=None)
    layers = energy.profile(network, [torch.rand(5, 2)])
    first, _, last = layers
    assert first.energy(AUTHORS) == pytest.approx(27.11 * 8 + 81 * 4)
    assert last.energy(AUTHORS) == pytest.approx(27.11 * last.accumulates + 81 * 2 * 4)
    assert last.memory_energy(AUTHORS) == 0
    assert last.bytes(INT8) == last.accumulates * 9 + last.states * 4
    for model in costs.MODELS.values():
        assert costs.total(layers).energy(model) == pytest.approx(sum(layer.energy(model) for layer in layers))
        assert costs.total(layers).bytes(model) == pytest.approx(sum(layer.bytes(model) for layer in layers))


def test_break_even_rates():
    """At break-even a layer costs the same both ways."""
    even = break_even()
    assert even.arithmetic == pytest.approx(4.6 / 0.9)
    assert even.traffic == pytest.approx(2 / 3)
    rival = quantised(3)
    even = break_even(INT8, rival, nonzero=0.5)
    artificial = costs.LayerCost("A", (1,), None, 0, 0, 100, 0, 0, 0, 0, 0, 50)
    spiking = costs.LayerCost("S", (1,), 0, 0, 0, 0, 100 * even.arithmetic, 0, 0, 0, 0, 0)
    assert artificial.energy(rival) == pytest.approx(spiking.energy(INT8))
    spiking = spiking._replace(accumulates=100 * even.traffic)
    assert artificial.bytes(rival) == pytest.approx(spiking.bytes(INT8))
    assert [costs.bits_of(steps) for steps in (1, 3, 4, 7, 8, 25)] == [1, 2, 3, 3, 4, 5]


def test_command_for_any_module(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom hnn_kernels.nn import LIF\n"
        "def network():\n    return torch.nn.Sequential(torch.nn.Linear(3, 4), LIF(), torch.nn.Linear(4, 2))\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    words = "profile", "mine:network", "--input-shape", "5,2,3", "--batch-axis", 1, "--device", "cpu"
    shown = json.loads(hnn(*words, "--json").stdout)
    assert [row["layer"] for row in shown["rows"]] == ["0", "1", "2", "total"]
    assert shown["rows"][0]["MACs"] == 5 * 3 * 4
    assert shown["title"] == "mine:network, per image, of 2 at random, model horowitz"
    assert "mine:number must be a torch.nn.Module" in refused("profile", "mine:number", "--input-shape", "5,2,3")
    assert "mine:none cannot be imported as MODULE:NAME: AttributeError" in refused("profile", "mine:none")
    assert "--input-shape must be numbers" in refused("profile", "mine:network")
    assert "--batch-axis must be below 3" in refused("profile", *words[1:4], "--batch-axis", 3)
    assert "--model must be one of 'horowitz', 'int8', 'authors'" in refused("profile", "mine:network", "--model", "x")
    assert "are for a checkpoint; got mine:network" in refused("profile", "mine:network", "--images", 3)
