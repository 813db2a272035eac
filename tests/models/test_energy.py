"""Operations counted by hand on networks small enough to do so."""

import pytest
import torch
from torch import nn

from hnn_models import HybridNetwork
from hnn_models.analysis import energy
from hnn_models.analysis.costs import total
from hnn_models.network.activity import activity, membrane
from support.looped_network import make

# Weights of 1, no bias, no axon, a reset that takes the threshold off at once: a current of 0.5 fires at steps
# 2, 4, 6, ... of a membrane that does not leak, one of 1 at every step.
INTEGRATOR = {"decay": 1.0, "reset": "subtract", "axon": None}


def ones(architecture, shape, weight=1.0, **options):
    network = HybridNetwork(architecture, shape, **options)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.weight.fill_(weight)
                module.bias.zero_()
    return network


def test_dense_network_by_hand():
    """2 pixels of 0.25 give each of 3 neurons 0.5: T = 4, so 2 spikes each; 6 spikes to 2 neurons of the last layer."""
    network = ones("S3-S2", (2,), steps=4, **INTEGRATOR)
    first, last = energy.profile(network, [torch.full((5, 2), 0.25)])
    assert (first.spikes, first.updates, first.rate) == (6, 12, 0.5)
    assert (first.macs, first.accumulates) == (6, 0)  # 2 x 3 weights on the analogue value, once
    assert (first.inner_macs, first.inner_accumulates) == (2 * 12, 2 * 12)  # leak and reset; current and comparison
    # weights and inputs; a current, and V read and written; 6 spikes
    assert first.traffic == 4 * (2 * 6 + 3 * 12 + 6)
    # 3 spikes at once give 3, at steps 2 and 4; what is left over fires at the others but the first
    assert (last.spikes, last.updates) == (2 * 3, 8)
    assert (last.macs, last.accumulates) == (0, 6 * 2)
    assert last.traffic == 4 * (3 * 12 + 3 * 8 + 6)
    assert first.energy() == pytest.approx(4.6 * 30 + 0.9 * 24)
    assert last.energy() == pytest.approx(4.6 * 16 + 0.9 * (12 + 16))
    assert last.memory_energy() == pytest.approx(12.5 * last.traffic)
    both = total([first, last])
    assert both.energy() == pytest.approx(first.energy() + last.energy())
    assert both.rate == 12 / 20


def test_mean_over_images_and_batches():
    """One of the two images fires at every step, the other never."""
    network = ones("S3-S2", (2,), steps=4, **INTEGRATOR)
    for batches in ([torch.tensor([[0.5, 0.5], [0.0, 0.0]])], [torch.full((1, 2), 0.5), torch.zeros(1, 2)]):
        first, last = energy.profile(network, batches)
        assert (first.spikes, first.rate, first.macs, last.accumulates) == (6, 0.5, 6, 12)
    with pytest.raises(ValueError, match="at least one image"):
        energy.profile(network, [])


def test_artificial_layers_by_hand():
    network = ones("A4C3-P2-A3-S2", (2, 6, 6), steps=4, **INTEGRATOR)
    convolution, dense, last = energy.profile(network, [torch.rand(5, 2, 6, 6)])
    assert convolution.macs == 2 * 3 * 3 * 4 * 4 * 4
    assert (dense.macs, dense.accumulates, dense.spikes) == (4 * 2 * 2 * 3, 0, None)
    assert dense.traffic == 4 * (2 * 48 + 3)
    assert last.macs == 3 * 2
    assert total([convolution, dense, last]).rate == last.rate


@pytest.mark.parametrize(("coding", "times"), [("duplicate", 1), ("gaussian", 4)])
def test_the_coded_value_meets_the_weights_once_or_at_every_step(coding, times):
    network = ones("A4C3-S5C2-S2", (2, 6, 6), coding=coding, steps=4, **INTEGRATOR)
    border, first, _ = energy.profile(network, [torch.rand(5, 2, 6, 6)])
    assert border.macs == 2 * 9 * (4 * 16) * (2 if coding == "gaussian" else 1)
    assert first.macs == times * 4 * 4 * (5 * 9)
    assert first.accumulates == 0


def test_spikes_at_the_edge_of_a_map_meet_fewer_weights():
    """Poisson coding of pixels that are 0 or 1: they fire at every step. A corner of 4 x 4 has one 3 x 3 window."""
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, 0, 0] = image[0, 0, 1, 1] = image[0, 0, 0, 1] = 1  # in 1, 4 and 2 windows
    network = ones("S5C3-S2", (1, 4, 4), coding="poisson", steps=4, **INTEGRATOR)
    first, _ = energy.profile(network, [image])
    assert (first.macs, first.accumulates) == (0, 4 * 5 * (1 + 4 + 2))


def test_binary_pools_pass_events():
    """All 4 x 4 neurons of 3 channels fire at every step, and a pool of 2 x 2 passes a quarter."""
    network = ones("S3C2-P2-S2", (1, 5, 5), steps=4, **INTEGRATOR)
    first, last = energy.profile(network, [torch.ones(1, 1, 5, 5)])
    assert first.spikes == 4 * 48
    assert (last.macs, last.accumulates) == (0, 4 * 12 * 2)


@pytest.mark.parametrize(
    ("architecture", "options", "event_driven", "filtered"),
    [
        ("S6-S2", {}, True, 2),
        ("S6-S2", {"learn": ("axon",), "per": "layer"}, True, 2),
        ("S6-S2", {"learn": ("axon",)}, False, 6),
        ("S3C2-S2", {}, True, 2),
        ("S3C2-P2-S2", {}, False, 48),
    ],
)
def test_where_the_axon_leaves_a_layer_event_driven(architecture, options, event_driven, filtered):
    """All fire from the first step on, so F is never zero. The dual exponential has 3 coefficients and 2 memories."""
    network = ones(architecture, (1, 5, 5), weight=9.0, steps=4, **options)
    image = torch.ones(1, 1, 5, 5)
    first, last = energy.profile(network, [image])
    weights = network.spiking[-1].weights.weight.numel()
    operations = weights * (first.spikes / first.shape[0] if event_driven and len(first.shape) == 1 else 4)
    if event_driven and len(first.shape) == 3:
        operations = first.spikes * 2
    assert (last.macs, last.accumulates) == ((0, operations) if event_driven else (operations, 0))
    assert last.inner_macs == 2 * last.updates + 3 * 4 * filtered  # the reset filter, and the axon
    moved = 3 * last.accumulates if event_driven else 2 * last.macs
    assert last.traffic == 4 * (moved + 5 * last.updates + 2 * 2 * 4 * filtered + last.spikes)


@pytest.mark.parametrize("options", [{}, {"learn": ("axon",)}])
def test_axon_input(options):
    network = ones("S6-S2", (1, 5, 5), weight=9.0, steps=4, input="axon", **options)
    first, _ = energy.profile(network, [torch.ones(1, 1, 5, 5)])
    if options:  # an axon of its own for each pixel: everything at every step
        assert (first.macs, first.inner_macs) == (4 * 150, 2 * 24 + 3 * 4 * 25)
    else:  # the product once, times the response at every step
        assert (first.macs, first.inner_macs) == (150, 2 * 24 + 24)


@pytest.mark.parametrize("coding", ["duplicate", "gaussian", "poisson"])
@pytest.mark.parametrize("input_", ["direct", "axon"])
def test_activity_is_that_of_the_network(coding, input_):
    network, images = make("A4C3-S6C2-P2-S5", (2, 9, 8), steps=6, coding=coding, input=input_,
                           fixed_artificial=coding == "poisson")  # fmt: skip
    torch.manual_seed(5)
    counts = network(images)
    torch.manual_seed(5)
    works = list(activity(network, images))
    assert torch.equal(works[-1].spikes.sum(0), counts)
    assert counts.sum() > 0
    for work in works:
        v = membrane(work)
        assert v.shape == work.spikes.shape
        assert torch.equal(v >= 1, work.spikes == 1)


def test_a_purely_artificial_network_has_no_activity():
    network = ones("A3-A2", (2,))
    assert list(activity(network, torch.rand(4, 2))) == []
    first, last = energy.profile(network, [torch.rand(4, 2)])
    assert (first.macs, last.macs) == (6, 6)
    assert total([first, last]).rate is None


def test_what_the_same_layers_cost_as_artificial_ones():
    network = ones("A4C3-P2-S5C2-S2", (2, 8, 8), coding="gaussian", steps=4)
    cost = energy.all_artificial(network)
    assert cost.macs == 2 * 9 * 4 * 36 + 4 * 4 * 5 * 4 + 5 * 4 * 2
    assert cost.energy() == pytest.approx(4.6 * cost.macs)
    assert cost.spikes is None
