"""Weights are called as modules: hooks, pruning, parametrisations and other modules have their effect everywhere."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

import hnn_kernels
from hnn_models import HybridNetwork
from hnn_models.analysis import energy, timing
from hnn_models.network.activity import activity
from hnn_models.network.layers import Signal
from hnn_models.network.table import kept_for_backward, rows
from hnn_models.network.weights import affine
from support.looped_network import by_hand, make

SHARED_AXON = [
    {"input": "axon"},
    {"input": "axon", "axon": "normalized"},
    {"input": "axon", "axon": hnn_kernels.IIR((0.5, -0.3), (1.0, -2.0))},  # whose response changes sign
    {"input": "axon", "learn": ("axon",), "per": "layer"},
]
INPUTS = [{}, {"input": "axon"}, {"input": "axon", "learn": ("axon",)}]
CODINGS = [
    ("A12-S9-S5", "duplicate"),
    ("A12-S9-S5", "gaussian"),
    ("S9-S5", "poisson"),
    ("A4C3-S6C3-P2-S5", "duplicate"),
]


class Adapter(nn.Module):
    """A low-rank adapter around a layer, as fine-tuning libraries make them."""

    def __init__(self, base):
        super().__init__()
        self.base = base
        out, inputs = base.weight.shape[:2]
        if isinstance(base, nn.Conv2d):
            self.down, self.up = nn.Conv2d(inputs, 2, base.kernel_size, bias=False), nn.Conv2d(2, out, 1, bias=False)
        else:
            self.down, self.up = nn.Linear(inputs, 2, bias=False), nn.Linear(2, out, bias=False)
        self.to(base.weight.dtype)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


def no_bias(layer):
    layer.bias = None
    return layer


CHANGES = {
    "plain": lambda layer: layer,
    # torch prunes a view of the weights as one vector, which needs them contiguous.
    "pruned": lambda layer: prune.l1_unstructured(layer.to(memory_format=torch.contiguous_format), "weight", 0.3),
    "pruned bias": lambda layer: prune.random_unstructured(layer, "bias", 0.5),
    "weight_norm of hooks": weight_norm,
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm of hooks": lambda layer: spectral_norm(layer),
    "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "no bias": no_bias,
    "adapter": Adapter,
    "sequence": lambda layer: nn.Sequential(layer, nn.Identity()),
}
ONCE = {name for name in CHANGES if name not in ("adapter", "sequence")}


def changed(network, change):
    """``network`` with every layer's weights changed."""
    for layer in network.spiking:
        layer.weights = CHANGES[change](layer.weights)
    return network


def unfolded(network, images):
    """The current of the first spiking layer, whose weights get the whole signal."""
    layer = network.spiking[0]
    value, _, response, *_ = network.code(network.encode_features(images))
    whole = response.view(-1, *(1,) * value.dim()) * value
    return layer.current(Signal(whole))


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("architecture", ["A12-S9-S5", "S9-S5", "A4C3-S6C3-S5"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("options", SHARED_AXON, ids=str)
def test_a_constant_value_behind_an_axon_gives_the_current_of_the_whole_signal(architecture, change, options):
    network, images = make(architecture, (2, 9, 8) if "C" in architecture else (1, 4, 4), steps=6, **options)
    changed(network, change).eval()
    signal = network.code(network.encode_features(images))
    assert signal.response is not None
    layer = network.spiking[0]
    assert layer.once(signal) == (change in ONCE)
    sizes = []
    layer.weights.register_forward_hook(lambda module, args, out: sizes.append(len(args[0])))
    observed = layer.current(signal)
    layer.weights._forward_hooks.clear()
    expected = unfolded(network, images)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(layer.current(signal), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(observed, expected, rtol=1e-12, atol=1e-12)
    assert sizes == [6 * 3]  # a hook may do anything, so that it gets all steps
    parameters = [p for p in network.parameters() if p.requires_grad and p.numel()]
    factor = torch.linspace(-1, 1, expected.numel(), dtype=expected.dtype).view_as(expected)
    one, other = (
        torch.autograd.grad((current * factor).sum(), parameters, allow_unused=True)
        for current in (layer.current(signal), unfolded(network, images))
    )
    for a, b in zip(one, other, strict=True):
        if a is None or b is None:
            assert a is b
        else:
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    assert any(gradient is not None and gradient.abs().max() > 0 for gradient in one)


@pytest.mark.parametrize(
    ("change", "known"),
    [
        (lambda layer: layer, True),
        (lambda layer: prune.l1_unstructured(layer, "weight", 0.3), True),
        (lambda layer: layer.register_forward_hook(lambda *_: None) and layer, False),
        (lambda layer: layer.register_forward_pre_hook(lambda *_: None) and layer, False),
        (lambda layer: nn.Sequential(layer, nn.Dropout()), False),
        (lambda layer: setattr(layer, "forward", lambda x: x.relu()) or layer, False),
        (lambda layer: type("Mine", (nn.Linear,), {"forward": lambda self, x: x})(3, 2), False),
        (lambda layer: type("Mine", (nn.Linear,), {})(3, 2), True),
    ],
)
def test_what_is_known_to_be_affine(change, known):
    assert affine(change(nn.Linear(3, 2))) is known


def test_a_module_before_the_weights_and_a_hook_for_all_modules():
    layer = nn.Linear(3, 2)
    assert affine(layer, [nn.Flatten()])
    assert not affine(layer, [nn.Flatten(), nn.MaxPool2d(2)])
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        assert not affine(layer)
    finally:
        handle.remove()


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("options", INPUTS, ids=str)
@pytest.mark.parametrize(("architecture", "coding"), CODINGS)
@pytest.mark.parametrize("change", CHANGES)
def test_every_change_trains_in_every_coding_and_input(architecture, coding, options, change):
    network, images = make(architecture, (2, 9, 8) if "C" in architecture else (1, 4, 4), coding=coding, **options)
    optimizer = torch.optim.SGD(changed(network, change).parameters(), 0.1)
    for step in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), torch.arange(3)).backward()
        for layer in network.spiking if step == 0 else ():
            gradients = [p.grad for p in layer.weights.parameters()]
            assert any(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)
        optimizer.step()
    if change == "pruned":
        network(images)
        for layer in network.spiking:
            assert torch.equal(layer.weights.weight, layer.weights.weight_orig * layer.weights.weight_mask)


@pytest.mark.parametrize("options", INPUTS, ids=str)
@pytest.mark.parametrize("kind", ["forward", "forward pre", "full backward", "of all modules"])
def test_a_hook_is_called_once_a_call_and_has_its_effect(options, kind):
    network, images = make("A12-S9-S5", **options)
    assert network(images).sum() > 0
    seen = []
    weights = network.spiking[0].weights

    def silence(module, args, out):
        if module is weights:
            seen.append(1)
            return out * 0 - 1
        return None

    def empty(module, args):
        seen.append(1)
        return (torch.full_like(args[0], -100.0),)

    def backward(module, into, out):
        seen.append(1)
        return tuple(None if gradient is None else gradient * 0 for gradient in into)

    if kind == "forward":
        handle = weights.register_forward_hook(silence)
    elif kind == "forward pre":
        with torch.no_grad():
            weights.weight.abs_()
        handle = weights.register_forward_pre_hook(empty)
    elif kind == "full backward":
        handle = weights.register_full_backward_hook(backward)
    else:
        handle = nn.modules.module.register_module_forward_hook(silence)
    try:
        counts = network(images)
        if kind == "full backward":
            nn.functional.cross_entropy(counts, torch.arange(3)).backward()
            assert network.artificial[1].weight.grad.abs().max() == 0
        else:
            assert counts.sum() == by_silent(network, images)
        assert seen == [1]
    finally:
        handle.remove()


def by_silent(network, images):
    """The counts of the same network where the first layer never fires: its biases of the second alone."""
    silent = copy.deepcopy(network)
    silent.spiking[0].weights._forward_hooks.clear()
    silent.spiking[0].weights._forward_pre_hooks.clear()
    with torch.no_grad():
        silent.spiking[0].weights.weight.zero_()
        silent.spiking[0].weights.bias.fill_(-1)
    handles = dict(nn.modules.module._global_forward_hooks)
    nn.modules.module._global_forward_hooks.clear()
    try:
        return silent(images).sum()
    finally:
        nn.modules.module._global_forward_hooks.update(handles)


@pytest.mark.parametrize("options", INPUTS, ids=str)
def test_a_network_without_biases_counts_what_the_loop_counts(options):
    network, images = make("A4C3-S6C3-P2-S5", (2, 9, 8), steps=6, **options)
    for layer in network.spiking:
        layer.weights.bias = None
    counts = network(images)
    assert counts.sum() > 0
    assert torch.equal(counts, by_hand(network, images))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("options", INPUTS, ids=str)
def test_dynamic_quantisation(options):
    torch.manual_seed(0)
    network = HybridNetwork("A32-S24-S10", (1, 8, 8), steps=8, gain=20.0, **options)
    images = torch.rand(16, 1, 8, 8)
    quantised = torch.ao.quantization.quantize_dynamic(network, {nn.Linear}, dtype=torch.qint8)
    plain, counts = network(images), quantised(images)
    assert plain.sum() > 0
    assert (counts - plain).abs().mean() < 0.2 * plain.mean()
    assert [row.name for row in rows(quantised)] == [row.name for row in rows(network)]
    assert str(quantised).count("\n") == str(network).count("\n")
    times = 8 if options == {"input": "axon"} else 1  # of the plain layer's, which folds the axon
    one, other = ([cost.macs for cost in energy.profile(net, [images])] for net in (quantised, network))
    assert one[:2] == [other[0], times * other[1]]
    assert [work.spikes.shape for work in activity(quantised, images)] == [(8, 16, 24), (8, 16, 10)]


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("options", INPUTS, ids=str)
def test_activity_energy_table_and_timing_take_every_change(change, options):
    network, images = make("A4C3-S6C3-P2-S5", (2, 9, 8), steps=4, **options)
    changed(network, change)
    network.artificial[0] = CHANGES[change](network.artificial[0])
    network.eval()  # in training, spectral normalisation goes on with its iteration at each call
    counts = network(images)
    counts.sum().backward()
    works = list(activity(network, images))
    assert torch.equal(works[-1].spikes.sum(0), counts)
    macs = [cost.macs for cost in energy.profile(network, [images])]
    plain, _ = make("A4C3-S6C3-P2-S5", (2, 9, 8), steps=4, **options)
    times = 4 if "input" in options and (change not in ONCE or "learn" in options) else 1
    assert macs[:2] == [7 * 6 * 4 * 2 * 9, times * 5 * 4 * 6 * 4 * 9]
    assert [row.name for row in rows(network)] == [row.name for row in rows(plain)]
    assert sum(row.parameters for row in rows(network)) == sum(p.numel() for p in network.parameters())
    assert len(kept_for_backward(network)) == len(rows(network))
    before = copy.deepcopy(network.state_dict())
    measured = timing.compare(network, images, torch.arange(3), ("reference",), repeats=1)
    assert measured.step["reference"] > 0
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_copies_and_pickles():
    network, images = make("A12-S9-S5", input="axon")
    expected = network(images)
    for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(twin(images), expected)
        assert [row.name for row in rows(twin)] == [row.name for row in rows(network)]
        twin.spiking[0].weights = Adapter(twin.spiking[0].weights)
        assert dict(twin.named_modules())["spiking.0.weights"] is [m for *_, m in twin.modules_by_token()][1].weights
