"""Convolutional networks: padding, stride, pools, batch norm through time, dropout, membrane read-out."""

import math

import pytest
import torch
from torch import nn

from hnn_models import HybridNetwork, Protocol, load
from hnn_models.analysis import energy
from hnn_models.analysis.costs import total
from hnn_models.data.images import split
from hnn_models.network.activity import activity
from hnn_models.network.layers import SameDropout
from hnn_models.network.table import kept_for_backward
from hnn_models.training import learning

CNN = "A6C3p1n-P2-A8C3p1s2nd20-S8C3p1nd30-P2a-S6C3p1n-Pa-S5"
SHAPE = (2, 16, 16)
NORMS = nn.BatchNorm1d | nn.BatchNorm2d
PLAIN = {"axon": None, "decay": 0.5, "reset": "zero", "readout": "membrane"}


def trained(architecture=CNN, **options):
    """A network whose norms have seen some batches, in evaluation."""
    torch.manual_seed(3)
    network = HybridNetwork(
        architecture, SHAPE, steps=4, gain=40.0, **options
    )  # of the last layer, the others have norms
    for module in network.modules():
        if isinstance(module, NORMS):
            module.momentum = 0.9
    for _ in range(3):
        network(torch.rand(6, *SHAPE))
    return network.eval()


@pytest.mark.parametrize(
    "options", [PLAIN, {}, {"input": "axon", "learn": ("axon",)}, {"coding": "gaussian"}, {"threshold": 0.7}]
)
def test_folded_batch_norm_leaves_the_logits(options):
    network = trained(**options)
    folded = network.folded()
    assert folded.architecture == "A6C3p1-P2-A8C3p1s2d20-S8C3p1d30-P2a-S6C3p1-Pa-S5"
    assert not any(isinstance(module, NORMS) for module in folded.modules())
    images = torch.rand(7, *SHAPE)
    logits = []
    for one in (network, folded):
        torch.manual_seed(5)  # of the coding's noise
        logits.append(one(images))
    assert logits[0].std() > 0
    torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-4)
    costs = [energy.profile(one, [images]) for one in (network, folded)]
    if options.get("coding") != "gaussian":
        assert [cost[1:] for cost in costs[0]] == [cost[1:] for cost in costs[1]]


@pytest.mark.parametrize("options", [{"coding": "gaussian"}, {"input": "axon"}, {}])
def test_batch_norm_has_the_statistics_of_all_steps(options):
    """Means over images, places and time; a value that is constant in time has the same ones."""
    torch.manual_seed(0)
    network = HybridNetwork("A4C3-S3C3n-S5", SHAPE, steps=4, **options)
    seen = []
    norm = network.spiking[0].norm
    norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(torch.rand(6, *SHAPE))
    (current,) = seen
    assert len(current) == (6 if not options else 24)
    torch.testing.assert_close(norm.running_mean, 0.1 * current.mean((0, 2, 3)))
    assert network.spiking[0].weights.bias is None


def test_batch_norm_begins_at_the_threshold():
    network = HybridNetwork("A4n-S6n-S5n", SHAPE, threshold=0.7)
    assert torch.equal(network.spiking[0].norm.weight, torch.full((6,), 0.7))
    assert torch.equal(network.artificial[2].weight, torch.ones(4))


def test_dropout_has_one_mask_over_time():
    layer = SameDropout(0.25)
    out = layer(torch.ones(5, 2, 400))
    assert torch.equal(out, out[:1].expand_as(out))
    assert out.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert 0.15 < (out == 0).float().mean() < 0.35
    assert layer.eval()(out) is out


@pytest.mark.parametrize("axon", [None, "exponential"])
def test_dropout_and_spikes(axon):
    """Products with spikes meet values that dropout has made larger: training takes torch's product there."""
    torch.manual_seed(1)
    network = HybridNetwork("S128d50-S128-S5", SHAPE, steps=4, axon=axon, gain=4.0)
    images = torch.rand(3, *SHAPE)
    assert not network.spiking[0].sends_spikes(network.spiking[0].neurons.axon)
    network(images).sum().backward()
    assert network.spiking[1].weights.weight.grad.any()
    assert torch.equal(network.eval()(images), network(images))


def test_membrane_readout_is_the_mean_potential():
    network = trained("A4C3-S6C3n-S5", **PLAIN)
    images = torch.rand(3, *SHAPE)
    steps = network(images, per_step=True)
    assert steps.shape == (4, 3, 5)
    *_, last = activity(network, images)
    potential, expected = torch.zeros(3, 5), []
    for current in last.current:
        potential = 0.5 * potential + current
        expected.append(potential)
    torch.testing.assert_close(steps, torch.stack(expected))
    torch.testing.assert_close(network(images), steps.mean(0))
    assert not last.spikes.any()
    with pytest.raises(ValueError, match="per_step needs readout='membrane'; got readout='count'"):
        HybridNetwork("A4-S5", SHAPE)(images, per_step=True)
    assert HybridNetwork("A4-A5", SHAPE)(images, per_step=True).shape == (1, 3, 5)


@pytest.mark.parametrize("axon", [None, "dual_exponential"])
def test_rates_are_those_of_the_spikes_and_have_gradients(axon):
    network = trained("A6C3-S6C3n-P2-S6C3n-S7-S5", axon=axon)
    images = torch.rand(3, *SHAPE)
    logits, rates = network(images, rates=True)
    measured = [work.spikes.mean() for work in activity(network, images)][:-1]
    torch.testing.assert_close(rates, torch.stack(measured))
    torch.testing.assert_close(logits, network(images))
    rates[1].backward()
    assert network.spiking[0].weights.weight.grad.any()
    assert not network.spiking[2].weights.weight.grad.any()


def test_operations_by_hand():
    """Spikes in a corner and inside, before a padded convolution with a stride, and before averages."""
    network = HybridNetwork("S1C1-S3C3p1s2-S2", (1, 4, 4), steps=2, axon=None, reset="none", decay=0.0)
    with torch.no_grad():
        network.spiking[0].weights.weight.fill_(2.0)
        network.spiking[0].weights.bias.zero_()
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, 0, 0] = image[0, 0, 1, 1] = 1  # in 1 and in 4 windows, which begin at -1 and 1
    first, second, _ = energy.profile(network, [image])
    assert (first.spikes, second.accumulates) == (4, 2 * 3 * (1 + 4))
    assert second.shape == (3, 2, 2)
    pooled = HybridNetwork("S1C1-P2a-S3C2-S2", (1, 4, 4), steps=2, axon=None, reset="none", decay=0.0)
    pooled.load_state_dict({**pooled.state_dict(), **network.spiking[0].state_dict(prefix="spiking.0.")})
    _, second, _ = energy.profile(pooled, [image])
    assert (second.macs, second.accumulates) == (0, 4 * 3)  # 2 spikes at each of 2 steps, 3 channels
    whole = HybridNetwork("S1C1-Pa-S3", (1, 4, 4), steps=2, axon=None, reset="none", decay=0.0)
    whole.load_state_dict({**whole.state_dict(), **network.spiking[0].state_dict(prefix="spiking.0.")})
    assert energy.profile(whole, [image])[1].accumulates == pytest.approx(4 * 3)


def test_a_last_layer_that_is_read_does_not_fire():
    network = trained("A4C3-S6C3n-S5", **PLAIN)
    costs = energy.profile(network.train(), [torch.rand(3, *SHAPE)])
    assert network.training
    assert (costs[-1].spikes, costs[-1].rate) == (None, None)
    assert total(costs).rate == costs[-2].rate


def test_description_counts_norms_and_leaves_their_statistics():
    network = HybridNetwork(CNN, SHAPE, steps=4)
    before = {name: value.clone() for name, value in network.named_buffers()}
    assert sum(kept_for_backward(network)) > 0
    assert all(torch.equal(value, before[name]) for name, value in network.named_buffers())
    with torch.device("meta"):
        assert kept_for_backward(HybridNetwork(CNN, SHAPE, steps=4)) == kept_for_backward(network)
    counted = sum(p.numel() for p in network.parameters())
    assert f"{counted:,}" in str(network).splitlines()[-1]


def test_names_of_networks_without_modifiers_are_those_of_old_files():
    names = HybridNetwork("A4C3-P2-S6C3-S5", SHAPE).state_dict().keys()
    assert list(names) == [
        "artificial.0.weight", "artificial.0.bias",
        "spiking.0.weights.weight", "spiking.0.weights.bias", "spiking.1.weights.weight", "spiking.1.weights.bias",
    ]  # fmt: skip


def test_fixed_layers_keep_their_statistics():
    network = HybridNetwork(CNN, SHAPE, fixed_artificial=True).train()
    source = HybridNetwork(**network.pretraining_config)
    source(torch.rand(6, *SHAPE))
    network.load_artificial(source)
    features = network.encode_features(torch.ones(2, *SHAPE))
    assert torch.equal(features, network.encode_features(torch.ones(2, *SHAPE)))
    assert torch.equal(network.artificial[1].running_mean, source.artificial[1].running_mean)
    assert network.spiking.training
    assert source.artificial[1].running_mean.any()


def test_nir_takes_folded_networks_alone():
    with pytest.raises(ValueError, match=r"no batch norm; fold that of A4-S6n-S5 \(folded\(\)\)"):
        HybridNetwork("A4-S6n-S5", SHAPE).nir_part()
    chain, shape = HybridNetwork("A4-S6n-S5", SHAPE).folded().nir_part()
    assert chain(torch.rand(3, 2, *shape)).shape == (2, 5)


def test_held_out_images():
    training, validation, test = split(1000, 0, 800, None, 0.05)
    assert (len(training), len(validation), len(test)) == (760, 40, 200)
    assert math.isclose(len(split(1000, 0, 800)[1]) / 800, 0.25)


def test_training_with_a_loss_of_each_step_and_a_penalty(digits, tmp_path):
    """The whole way: a loss of each step, rates that are penalised, a file that is loaded and tested again."""
    few = digits.subset(torch.arange(300))
    protocol = Protocol("digits", epochs=2, batch_size=60, lr=5e-3, loss="step", rate_penalty=5.0, rate_target=0.01)
    torch.manual_seed(0)
    network = HybridNetwork("A8C3p1n-S8C3p1nd10-Pa-S10", digits.shape, steps=4, **PLAIN)
    before = network(few[:50][0], rates=True)[1]
    outcome = learning.train(network, few, protocol, run_dir=tmp_path, device="cpu", progress=False)
    found = load(outcome.checkpoint)
    assert found.protocol == protocol
    again = learning.evaluate(found.network, few, found.protocol, device="cpu", progress=False)
    assert again == outcome.test_accuracy
    table = learning.confusion(found.network, few, found.protocol, device="cpu", progress=False)
    assert table.dtype == torch.int64
    assert torch.equal(table.sum(1), few.labels[learning.parts(network, few, protocol)[2]].bincount(minlength=10))
    assert (table.trace() / table.sum()).item() == again
    assert found.network.eval()(few[:50][0], rates=True)[1] < 0.8 * before
    counting = HybridNetwork("A8-S10", digits.shape)
    with pytest.raises(ValueError, match="loss 'step' needs a network with readout='membrane'; this one has 'count'"):
        learning.train(counting, few, protocol, run_dir=tmp_path / "other", device="cpu", progress=False)
