"""Values that are not finite are said where they enter training: the epoch, the step and the tensor."""

import functools
import math

import pytest
import torch

pytest.importorskip("lightning", reason="training needs the extra 'models'")

from hnn_models import HybridNetwork
from hnn_models.training import finite, learning
from hnn_models.training.classifier import Classifier
from hnn_models.training.protocol import Protocol

PROTOCOL = Protocol.of("digits", epochs=2, batch_size=64, lr=2e-3)


@pytest.fixture
def few(digits):
    return digits.subset(torch.arange(200))  # two steps in an epoch


def build(architecture="A16-S12-S10", **options):
    torch.manual_seed(0)
    return HybridNetwork(architecture, (1, 8, 8), steps=4, **options)


def train(network, images, run_dir, precision="32-true", **options):
    protocol = PROTOCOL._replace(precision=precision)
    return learning.train(network, images, protocol, run_dir=run_dir, device="cpu", progress=False, **options)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["artificial.1.weight", "spiking.0.weights.bias", "spiking.1.weights.weight"])
def test_weights_before_training(few, tmp_path, precision, value, name):
    network = build()
    network.get_parameter(name).data.view(-1)[0] = value
    with pytest.raises(FloatingPointError, match=f"^{name} is not finite before training$"):
        train(network, few, tmp_path, precision)
    with pytest.raises(FloatingPointError, match=f"^{name} is not finite in the network that is tested$"):
        learning.evaluate(network, few, PROTOCOL, device="cpu", progress=False)
    assert not list(tmp_path.glob("*.ckpt"))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("layer", [0, 1])
def test_weights_in_a_step(few, tmp_path, monkeypatch, precision, epoch, layer):
    """A gradient that is not finite in the second step: Adam puts it into the weights."""
    network = build()
    step = Classifier.training_step

    def poisoned(self, batch, batch_index):
        loss = step(self, batch, batch_index)
        bias = self.network.spiking[layer].weights.bias
        if (self.current_epoch, batch_index) == (epoch, 1):
            loss = loss + (bias * math.nan).sum()
        return loss

    monkeypatch.setattr(Classifier, "training_step", poisoned)
    message = rf"^spiking.{layer}.weights.bias is not finite in epoch {epoch + 1}, step 2: try a lower lr \(0.002\)$"
    with pytest.raises(FloatingPointError, match=message):
        train(network, few, tmp_path, precision)
    assert len(learning.history(tmp_path)) == epoch


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("architecture", ["A16-A10", "A16-S12-S10"])
def test_logits_and_loss(few, tmp_path, precision, architecture):
    """Finite weights whose product is not."""
    network = build(architecture, activation="identity")
    with torch.no_grad():
        network.artificial[1].weight.fill_(1e38)
        network.artificial[1].bias.zero_()
    currents = "the current of spiking.0, " if "S" in architecture else ""
    with pytest.raises(FloatingPointError, match=f"^{currents}the logits and the loss are not finite in epoch 1, "):
        train(network, few, tmp_path, precision)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_currents(few, tmp_path, precision):
    """A current of infinity gives a spike in each step, or none: the counts are finite."""
    network = build("S12-S10")
    with torch.no_grad():
        network.spiking[0].weights.weight.fill_(3e38)
    assert network(few[:8][0]).isfinite().all()
    with pytest.raises(FloatingPointError, match=r"^the current of spiking.0 is not finite in epoch 1, step 1:"):
        train(network, few, tmp_path, precision)


def test_logits_in_a_test(few):
    """Finite weights whose product is not, so that a prediction would be made of NaN."""
    network = build(activation="identity")
    with torch.no_grad():
        network.artificial[1].weight.fill_(1e38)
    with pytest.raises(FloatingPointError, match=r"the logits are not finite in the test$"):
        learning.evaluate(network, few, PROTOCOL, device="cpu", progress=False)
    mixed = PROTOCOL._replace(precision="bf16-mixed")
    with pytest.raises(FloatingPointError, match=r"in the test: try precision '32-true', not 'bf16-mixed'$"):
        learning.evaluate(network, few, mixed, device="cpu", progress=False)


def test_logits_in_validation(few, tmp_path, monkeypatch):
    step = Classifier.validation_step

    def poisoned(self, batch, batch_index):
        step(self, (batch[0] * math.inf, batch[1]), batch_index)

    monkeypatch.setattr(Classifier, "validation_step", poisoned)
    with pytest.raises(FloatingPointError, match=r"the logits are not finite in the validation of epoch 1$"):
        train(build(), few, tmp_path)
    assert not list(tmp_path.glob("*.ckpt"))


def test_features_of_a_fixed_part(few, tmp_path):
    source, network = build("A16-A12-A10", activation="identity"), build(fixed_artificial=True, activation="identity")
    done = train(source, few, tmp_path / "source")
    content = torch.load(done.checkpoint, weights_only=True)
    content["state_dict"]["network.artificial.1.weight"].fill_(3e38)
    torch.save(content, done.checkpoint)
    with pytest.raises(FloatingPointError, match="the output of the fixed artificial layers is not finite"):
        train(network, few, tmp_path / "run", pretrained=done.checkpoint)


@pytest.mark.parametrize("coding", ["duplicate", "gaussian"])
@pytest.mark.parametrize("input_", ["direct", "axon"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_counts_of_an_image_that_is_not_finite_are_nan(coding, input_, value):
    network = build(coding=coding, input=input_, activation="identity")
    images = torch.rand(3, 1, 8, 8)
    images[1, 0, 2, 3] = value
    logits = network(images)
    assert logits[1].isnan().all()
    assert logits[[0, 2]].isfinite().all()


@pytest.mark.parametrize("wrap", [lambda network: network, functools.partial(torch.compile, backend="eager")])
@pytest.mark.parametrize(
    "name", ["spiking.0.weights.weight", "spiking.1.weights.bias", "spiking.0.neurons.axon.feedback"]
)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_counts_behind_a_parameter_that_is_not_finite_are_nan(name, value, wrap):
    network = build("A8-S6-S10", learn=("axon",))
    images = torch.rand(3, 1, 8, 8)
    assert wrap(network)(images).isfinite().all()
    with torch.no_grad():
        network.get_parameter(name).view(-1)[1] = value
    assert wrap(network)(images).isnan().all()


def test_large_parameters_are_finite():
    network = build("S12-S10")
    with torch.no_grad():
        network.spiking[0].weights.weight.fill_(3e38)
    assert network(torch.zeros(3, 1, 8, 8)).isfinite().all()


def test_networks_side_by_side_that_are_not_finite():
    networks = [build("S12-S10") for _ in range(3)]
    with torch.no_grad():
        networks[1].spiking[0].weights.weight[2, 3] = math.nan
    parameters, _ = torch.func.stack_module_state(networks)
    images = torch.rand(2, 1, 8, 8)
    logits = torch.func.vmap(lambda p: torch.func.functional_call(networks[0], p, (images,)))(parameters)
    assert logits.isnan().all((1, 2)).tolist() == [False, True, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_counts_of_finite_images_are_whole_numbers(dtype):
    network = build("S12-S10").to(dtype)
    logits = network(torch.rand(3, 1, 8, 8).to(dtype))
    assert logits.dtype == dtype
    assert torch.equal(logits, logits.round())
    assert not logits.signbit().any()


def test_a_device_that_is_not_waited_for_names_the_first_step(monkeypatch):
    """As on a GPU: the error comes with the hundredth step or the last one, and names the step that was the first."""
    network = build()
    watch = finite.FiniteWatch(network, "advice")
    watch.begin(3, torch.device("cpu"))
    monkeypatch.setattr(torch.Tensor, "device", property(lambda self: torch.device("cuda")), raising=False)
    for number in range(1, 8):
        with watch.step():
            pass
        watch.forward(torch.ones(2, 10), torch.ones(2))
        if number == 5:
            network.spiking[0].weights.weight.data[0, 0] = math.nan
        if number < 7:
            watch.updated(last=False)
    with pytest.raises(FloatingPointError, match=r"^spiking.0.weights.weight is not finite in epoch 3, step 5: a"):
        watch.updated(last=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_every_tensor_is_told(dtype, value, monkeypatch):
    most = torch.finfo(dtype).max
    tensors = [torch.tensor(values, dtype=dtype) for values in ([1, most, -most], [[2, value], [1, 3]], 0.5)]
    assert finite._all_finite(tensors).tolist() == [True, False, True]
    monkeypatch.setattr(torch.Tensor, "device", property(lambda self: torch.device("cuda")), raising=False)
    assert finite._all_finite(tensors).tolist() == [True, False, True]
