"""The network against a loop written by hand, in float64 so that no rounding decides a spike."""

from functools import partial

import pytest
import torch
from torch import nn

import hnn_kernels
from hnn_models import HybridNetwork, NotationError
from hnn_models.network.activity import activity
from support.looped_network import by_hand, make, record, weights

SMALL = ["A12-A9-S5", "A12-S9-S5", "S12-S9-S5", "S5", "A5-S8-S7-S5"]
IMAGES = ["A4C3-S6C3-P2-S5", "S4C3-P2-S6C2-S7-S5", "A4C3-P2-S6C3-S5", "A4C3-A6C2-P2-S5", "P2-S4C2-S5"]
OPTIONS = [
    {},
    {"axon": None},
    {"axon": "normalized", "input": "axon"},
    {"input": "axon"},
    {"learn": ("axon",), "input": "axon"},
    {"learn": ("axon",), "per": "channel", "input": "axon"},
    {"learn": ("axon",), "per": "layer", "input": "axon"},
    {"decay": 0.5, "reset_decay": 0.9, "threshold": 2.0, "axon": hnn_kernels.IIR((0.5,), (1.0, 0.25))},
]


def same_gradients(network, one, other):
    """Both gradients of every parameter that is trained, and that none is left out."""
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    factor = torch.linspace(-1, 1, one.numel(), dtype=one.dtype).view_as(one)
    gradients = (torch.autograd.grad((out * factor).sum(), trained.values()) for out in (one, other))
    for name, a, b in zip(trained, *gradients, strict=True):
        assert b.abs().max() > 0, name
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("architecture", SMALL + IMAGES)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_duplicate_coding_equals_a_loop_by_hand(architecture, options):
    shape = (2, 9, 8) if "C" in architecture else (1, 4, 4)
    network, images = make(architecture, shape, steps=6, **options)
    neuron = {name: value for name, value in options.items() if name in ("decay", "reset_decay", "threshold")}
    counts = network(images)
    assert counts.shape == (3, 5)
    assert torch.equal(counts, by_hand(network, images, **neuron))
    assert 0 < counts.sum() < 6 * counts.numel()


@pytest.mark.parametrize("options", OPTIONS[3:7], ids=str)
@pytest.mark.parametrize(
    ("coding", "architecture"),
    [
        (coding, architecture)
        for coding in ("duplicate", "gaussian", "poisson")
        for architecture in ("A12-S9-S5", "S12-S5", *IMAGES)
        if coding != "gaussian" or architecture[0] == "A"
    ],
)
def test_every_coding_and_its_gradients_in_smooth_mode(coding, architecture, options, monkeypatch):
    """In smooth mode the network is a true function of its parameters, and so is the loop."""
    made = record(monkeypatch)
    shape = (2, 9, 8) if "C" in architecture else (1, 4, 4)
    fixed = coding == "poisson" and architecture[0] == "A"
    network, images = make(architecture, shape, steps=5, coding=coding, smooth=True, fixed_artificial=fixed, **options)
    counts = network(images)
    assert len(made) == (coding != "duplicate")
    expected = by_hand(network, images, made, smooth=True)
    torch.testing.assert_close(counts, expected, rtol=1e-12, atol=1e-12)
    same_gradients(network, counts, expected)


@pytest.mark.parametrize("coding", ["gaussian", "poisson"])
@pytest.mark.parametrize("architecture", ["A12-S9-S5", "A4C3-P2-S6C3-S5"])
def test_random_codings_count_what_the_loop_counts(coding, architecture, monkeypatch):
    made = record(monkeypatch)
    shape = (2, 9, 8) if "C" in architecture else (1, 4, 4)
    network, images = make(architecture, shape, steps=6, coding=coding, fixed_artificial=coding == "poisson")
    counts = network(images)
    assert torch.equal(counts, by_hand(network, images, made))
    ((given, train),) = made
    assert train.shape == (6, 3, *given[0].shape[1:])
    if coding == "poisson":
        assert set(train.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("coding", ["gaussian", "poisson"])
def test_noise_is_seeded_from_torch(coding):
    network, images = make("A12-S9-S5", coding=coding, fixed_artificial=coding == "poisson")
    torch.manual_seed(7)
    one, other = network(images), network(images)
    assert not torch.equal(one, other)
    torch.manual_seed(7)
    assert torch.equal(network(images), one)


def test_poisson_codes_the_pixels_of_a_purely_spiking_network(monkeypatch):
    made = record(monkeypatch)
    network, images = make("S9-S5", coding="poisson")
    network(images)
    assert torch.equal(made[0][0][0], images.flatten(1))


def test_artificial_network_ends_in_logits():
    network, images = make("A12-A5", coding="poisson")  # which has no use there
    first, last = weights(network)
    logits = network(images)
    assert torch.equal(logits, last(torch.relu(first(images.flatten(1)))))
    assert (logits < 0).any()


@pytest.mark.parametrize("options", [{}, {"input": "axon"}, {"input": "axon", "learn": ("axon",), "per": "layer"}])
@pytest.mark.parametrize(("architecture", "expected"), [("A4C3-P2-S6C3-S5", [3, 3, 18]), ("S9-S5", [3, 18])])
def test_a_constant_value_meets_the_weights_once_and_a_train_all_steps_in_one_call(
    architecture, expected, options, monkeypatch
):
    rows = []

    def noting(product, x, *args):
        rows.append(x.shape[0])
        return product(x, *args)

    for name in ("linear", "conv2d"):
        monkeypatch.setattr(nn.functional, name, partial(noting, getattr(nn.functional, name)))
    network, images = make(architecture, (2, 9, 8), steps=6, **options)
    network(images)
    assert rows == expected


def test_learnt_axon_of_each_neuron_needs_the_weights_at_every_step():
    network, _ = make("S9-S5", input="axon", learn=("axon",))
    assert not network.code.constant


@pytest.mark.skipif(hnn_kernels.explain("cpu").chosen == "reference", reason="the reference stacks its steps")
def test_convolutions_stay_in_the_layout_that_is_faster():
    network, images = make("A4C3-S6C3-P2-S8C2-S5", (2, 9, 8), steps=4)
    seen = []
    for layer in network.spiking[:-1]:
        layer.neurons.register_forward_hook(lambda module, args, out: seen.append((args[0], out)))
    network(images)
    for current, train in seen:
        assert current.flatten(0, -4).is_contiguous(memory_format=torch.channels_last)
        assert train.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_gradient_reaches_every_layer():
    network, images = make("A12-S9-S5", learn=("decay", "threshold", "axon"))
    nn.functional.cross_entropy(network(images), torch.arange(3)).backward()
    assert {name for name, p in network.named_parameters() if p.grad.abs().sum() == 0} == set()
    assert [len(list(layer.neurons.parameters())) for layer in network.spiking] == [4, 2]


def test_loss_gradient_is_that_of_the_count():
    """Eq. 2: dE/dcount is softmax minus one-hot, and the count's gradient reaches every step alike."""
    network, images = make("S5", steps=3)
    labels = torch.arange(3)
    bias = network.spiking[0].weights.bias
    counts = network(images)
    nn.functional.cross_entropy(counts, labels, reduction="sum").backward()
    residual = counts.detach().softmax(1) - nn.functional.one_hot(labels, 5)
    (expected,) = torch.autograd.grad((network(images) * residual).sum(), bias)
    torch.testing.assert_close(bias.grad, expected)
    assert bias.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("per", "shapes"),
    [
        ("layer", [(2,), (1,), (2,), (1,), (2,), (1,)]),
        ("channel", [(2, 2, 1, 1), (1, 2, 1, 1), (2, 4, 1, 1), (1, 4, 1, 1), (2, 7), (1, 7)]),
        ("neuron", [(2, 2, 9, 8), (1, 2, 9, 8), (2, 4, 7, 6), (1, 4, 7, 6), (2, 7), (1, 7)]),
    ],
)
def test_shapes_of_learnt_axons(per, shapes):
    network = HybridNetwork("S4C3-P2-S7-S5", (2, 9, 8), input="axon", learn=("axon",), per=per)
    assert [tuple(p.shape) for name, p in network.named_parameters() if "feed" in name] == shapes


@pytest.mark.parametrize("architecture", ["A12-S5", "A12-A5"])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"coding": "morse"}, ValueError, "coding must be one of 'duplicate', 'gaussian', 'poisson', .*; got 'morse'"),
        ({"input": "dendrite"}, ValueError, "input must be one of 'direct', 'axon'; got 'dendrite'"),
        ({"per": "brain"}, ValueError, "per must be one of"),
        ({"steps": 0}, ValueError, "steps must be an int of at least 1"),
        ({"steps": 2.5}, ValueError, "steps must be an int of at least 1; got 2.5"),
        ({"input_shape": (1, 0)}, ValueError, "input_shape must be"),
        ({"input_shape": 28}, ValueError, "input_shape must be"),
        ({"readout": "spikes"}, ValueError, "readout must be one of"),
        ({"potential": "last"}, TypeError, "potential is not an option"),
        ({"shape": (5,)}, TypeError, "shape is not an option"),
        ({"sigma": -1.0}, ValueError, "sigma"),
        ({"tau": 4.0}, TypeError, "tau"),
        ({"learn": "axon"}, TypeError, "learn must be a sequence of names"),
        ({"learn": ("weights",)}, ValueError, "learn must be one of"),
        (
            {"axon": "long"},
            ValueError,
            "axon must be one of 'dual_exponential', 'normalized', 'exponential'; got 'long'",
        ),
        ({"axon": (0.5,)}, TypeError, "axon must be a name, an IIR of floats or None"),
        ({"axon": ((0.5,), ())}, ValueError, "feedforward must have at least one"),
        ({"axon": ((torch.ones(3),), (1.0,))}, TypeError, "axon must be an IIR of floats"),
        ({"axon": None, "input": "axon"}, ValueError, "input='axon' needs an axon"),
        ({"axon": None, "learn": ("axon",)}, ValueError, "learn names 'axon', but axon is None"),
        ({"activation": "tanh"}, ValueError, "activation must be one of 'relu', 'sigmoid', 'identity'; got 'tanh'"),
        ({"activation": ("relu", "relu")}, ValueError, "activation must have 1 names for 'A12-.5'; got 2"),
        ({"gain": 0}, ValueError, "gain must be a finite number above 0; got 0"),
        ({"gain": "large"}, ValueError, "gain must be a finite number above 0; got 'large'"),
        ({"gain": True}, ValueError, "gain must be a finite number above 0; got True"),
        ({"fixed_artificial": 1}, ValueError, "fixed_artificial must be True or False"),
    ],
)
def test_wrong_option(architecture, options, error, message):
    with pytest.raises(error, match=message):
        HybridNetwork(architecture, **{"input_shape": (1, 4, 4), **options})


@pytest.mark.parametrize(
    ("architecture", "options", "message", "marked"),
    [
        ("A12-A9-S5", {"coding": "poisson"}, "must be fixed", "    ^^"),
        ("A12-A9-S5", {"coding": "gaussian", "fixed_artificial": True}, "needs trainable artificial", "    ^^"),
        ("S9-S5", {"coding": "gaussian"}, "needs an artificial layer before", "^^"),
        ("S9-S5", {"fixed_artificial": True}, "every layer here is spiking", "^^"),
        ("A9-A5", {"fixed_artificial": True}, "leaves nothing to train", "   ^^"),
        (
            "A9-S5",
            {"coding": "poisson", "fixed_artificial": True, "activation": ("relu",)},
            "needs activation 'sig",
            "^^",
        ),
        ("A4C3-S9C3-S5", {}, "'S9C3' does not fit: its kernel is 3 x 3, the image before it only 2 x 2", "     ^^^^"),
    ],
)
def test_what_does_not_go_together_is_marked(architecture, options, message, marked):
    with pytest.raises(NotationError) as caught:
        HybridNetwork(architecture, (1, 4, 4), **options)
    problem, shown, carets = str(caught.value).split("\n")
    assert message in problem
    assert shown == f"  {architecture}"
    assert carets == f"  {marked}"


def test_gain_of_the_initial_weights_is_that_of_the_spiking_layers_alone():
    networks = []
    for gain in (1.0, 3.0):
        torch.manual_seed(0)
        networks.append(HybridNetwork("A4C3-S4C3-S5", (1, 9, 9), gain=gain))
    for (name, one), three in zip(networks[0].named_parameters(), networks[1].parameters(), strict=True):
        scaled = name.startswith("spiking") and name.endswith("weights.weight")
        assert torch.equal(three, (3 if scaled else 1) * one), name


def test_gain_wakes_the_purely_spiking_cnn():
    rates = []
    for gain in (1.0, 6.0):
        torch.manual_seed(0)
        images = nn.functional.interpolate(torch.rand(4, 3, 8, 8), size=32, mode="bilinear")
        network = HybridNetwork("S32C3-S32C3-S64C3-P2-S64C3-P2-S512-S10", (3, 32, 32), gain=gain)
        rates.append([work.spikes.mean().item() for work in activity(network, images)])
    assert max(rates[0][1:]) == 0
    assert min(rates[1]) > 0.01


def test_wrong_images():
    network, images = make("A12-S5")
    with pytest.raises(ValueError, match=r"images must be \[B, 1, 4, 4\]; got \(3, 1, 16\)"):
        network(images.reshape(3, 1, 16))
    with pytest.raises(TypeError, match="images must be a floating tensor"):
        network(images.byte())
    with pytest.raises(ValueError, match=r"features must be \[B, 12\]; got \(3, 1, 4, 4\)"):
        network.forward_features(images)


def test_unusable_backend_is_refused_not_replaced():
    network, images = make("A12-S5", backend="nonsense")
    with pytest.raises(ValueError, match="nonsense"):
        network(images)


@pytest.mark.parametrize(
    "options",
    [
        {"decay": 0.5, "learn": ("threshold",), "activation": ("sigmoid",)},
        {
            "learn": ["axon"],
            "per": "layer",
            "input": "axon",
            "axon": hnn_kernels.IIR.exponential(3),
            "synapse": "normalized",
        },
        {"coding": "poisson", "fixed_artificial": True, "reset": "zero", "gain": 2.0},
    ],
)
def test_config_rebuilds_the_network_and_is_plain(options, tmp_path):
    network, images = make("A12-S9-S5", **options, backend="reference")
    assert "backend" not in network.config
    torch.save(network.config, tmp_path / "config")
    twin = HybridNetwork(**torch.load(tmp_path / "config", weights_only=True)).double()
    twin.load_state_dict(network.state_dict())
    assert twin.config == network.config
    torch.manual_seed(1)
    expected = network(images)
    torch.manual_seed(1)
    assert torch.equal(twin(images), expected)
    assert expected.sum() > 0
