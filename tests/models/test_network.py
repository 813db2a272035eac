"""The network against a loop written by hand, in float64 so that no rounding decides a spike."""

import math

import pytest
import torch
from torch import nn

from hnn_models import HybridNetwork

SHAPE = (1, 4, 4)
RESET_DECAY = math.exp(-1 / 4)


def make(architecture, **options):
    """A network whose neurons really fire, on 7 images."""
    torch.manual_seed(0)
    network = HybridNetwork(architecture, SHAPE, **options).double()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Linear):
                module.weight.mul_(4)
    return network, torch.rand(7, *SHAPE, dtype=torch.float64)


def by_hand(network, images, decay=0.0, reset_decay=RESET_DECAY, threshold=1.0):
    """Section 3.2.1 and eq. 1, step by step: the weights of every spiking layer at every step."""
    linears = [module for module in network.modules() if isinstance(module, nn.Linear)]
    spiking = len(network.spiking)
    a = images.flatten(1)
    for linear in linears[: len(linears) - spiking]:
        a = torch.relu(linear(a))
    sizes = [linear.out_features for linear in linears[len(linears) - spiking :]]
    v, r, o = ([a.new_zeros(len(a), n) for n in sizes] for _ in range(3))
    count = 0
    for _ in range(network.steps):
        x = a
        for i, linear in enumerate(linears[len(linears) - spiking :]):
            r[i] = reset_decay * r[i] + o[i]
            v[i] = decay * v[i] + linear(x) - threshold * r[i]
            o[i] = (v[i] >= threshold).to(a.dtype)
            x = o[i]
        count = count + x
    return count


@pytest.mark.parametrize("architecture", ["A12-A9-S5", "A12-S9-S5", "S12-S9-S5", "S5", "A5-S8-S7-S5"])
@pytest.mark.parametrize("options", [{}, {"decay": 0.5, "reset_decay": 0.9, "threshold": 0.7}])
def test_equals_a_loop_by_hand(architecture, options):
    network, images = make(architecture, steps=6, **options)
    counts = network(images)
    assert counts.shape == (7, 5)
    assert torch.equal(counts, by_hand(network, images, **options))
    assert 0 < counts.sum() < 6 * counts.numel()


def test_artificial_network_ends_in_logits():
    network, images = make("A12-A5")
    first, last = network.artificial[1], network.artificial[3]
    logits = network(images)
    torch.testing.assert_close(logits, last(torch.relu(first(images.flatten(1)))))
    assert (logits < 0).any()


def test_constant_current_is_computed_once_and_later_layers_once_for_all_steps():
    network, images = make("A12-S9-S5", steps=6)
    shapes = []
    for layer in network.spiking:
        layer.weights.register_forward_hook(lambda module, args, out: shapes.append(tuple(out.shape)))
    network(images)
    assert shapes == [(7, 9), (6, 7, 5)]


def test_gradient_reaches_every_layer():
    network, images = make("A12-S9-S5", learn=("decay", "threshold"))
    nn.functional.cross_entropy(network(images), torch.arange(7) % 5).backward()
    assert {name for name, p in network.named_parameters() if p.grad.abs().sum() == 0} == set()
    assert len(list(network.spiking[0].neurons.parameters())) == 2


def test_loss_gradient_is_that_of_the_count():
    """Eq. 2: dE/dcount is softmax minus one-hot, and the count's gradient reaches every step alike."""
    network, images = make("S5", steps=3)
    labels = torch.arange(7) % 5
    bias = network.spiking[0].weights.bias
    counts = network(images)
    nn.functional.cross_entropy(counts, labels, reduction="sum").backward()
    residual = counts.detach().softmax(1) - nn.functional.one_hot(labels, 5)
    (expected,) = torch.autograd.grad((network(images) * residual).sum(), bias)
    torch.testing.assert_close(bias.grad, expected)
    assert bias.grad.abs().max() > 0


@pytest.mark.parametrize("architecture", ["A12-S5", "A12-A5"])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"coding": "morse"}, ValueError, "coding must be one of 'duplicate'; got 'morse'"),
        ({"steps": 0}, ValueError, "steps must be an int of at least 1"),
        ({"steps": 2.0}, ValueError, "steps must be an int of at least 1"),
        ({"input_shape": (1, 0)}, ValueError, "input_shape must be"),
        ({"input_shape": 28}, ValueError, "input_shape must be"),
        ({"readout": "spikes"}, TypeError, "readout is not an option"),
        ({"sigma": -1.0}, ValueError, "sigma"),
        ({"tau": 4.0}, TypeError, "tau"),
    ],
)
def test_wrong_option(architecture, options, error, message):
    with pytest.raises(error, match=message):
        HybridNetwork(architecture, **{"input_shape": SHAPE, **options})


def test_wrong_images():
    network, images = make("A12-S5")
    with pytest.raises(ValueError, match=r"images must be \[B, 1, 4, 4\]; got \(7, 1, 16\)"):
        network(images.reshape(7, 1, 16))
    with pytest.raises(TypeError, match="images must be a floating tensor"):
        network(images.byte())


def test_unusable_backend_is_refused_not_replaced():
    network, images = make("A12-S5", backend="nonsense")
    with pytest.raises(ValueError, match="nonsense"):
        network(images)


def test_config_rebuilds_the_network():
    network, images = make("A12-S9-S5", decay=0.5, learn=("threshold",), backend="reference")
    assert "backend" not in network.config
    twin = HybridNetwork(**network.config).double()
    twin.load_state_dict(network.state_dict())
    assert torch.equal(twin(images), network(images))


def test_print_tells_what_it_is():
    text = repr(make("A12-S5", decay=0.5)[0])
    for part in ("'A12-S5'", "input_shape=(1, 4, 4)", "coding='duplicate'", "steps=25", "decay=0.5", "out_features=12"):
        assert part in text
