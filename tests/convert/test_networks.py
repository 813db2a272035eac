"""Whole networks of the libraries, converted: trained beside the original, and all that is done with a model."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

import hnn_kernels
from support.converted import by_the_loop
from support.distributed import gradients_of_two

pytest.importorskip("spikingjelly", reason="converting other libraries' models needs the extra 'peers'")
pytest.importorskip("sinabs", reason="converting other libraries' models needs the extra 'peers'")
pytest.importorskip("norse", reason="converting other libraries' models needs the extra 'peers'")
import norse.torch as nt
import sinabs
import sinabs.activation as sa
import sinabs.layers as sl
from spikingjelly.activation_based import functional, layer, neuron, surrogate


def multi_layer(dtype=torch.float32):
    """SpikingJelly's example lif_fc_mnist with a hidden layer, a learnt time constant, and all steps in one call."""
    torch.manual_seed(0)
    given = {"surrogate_function": surrogate.ATan(), "detach_reset": True}
    leaky, learnt = neuron.LIFNode(v_threshold=0.5, **given), neuron.ParametricLIFNode(1.5, v_threshold=0.3, **given)
    net = nn.Sequential(layer.Linear(20, 50), leaky, layer.Linear(50, 10), learnt)
    functional.set_step_mode(net, "m")
    return net.to(dtype)


def train_steps(dtype=torch.float32, steps=12, batch=6, features=20):
    torch.manual_seed(1)
    return (torch.rand(steps, batch, features) * 6).to(dtype), torch.randint(10, (batch,))


def losses(net, x, labels, reset, rate=0.05, count=6):
    optimizer = torch.optim.SGD(net.parameters(), lr=rate)
    found = []
    for _ in range(count):
        out = net(x)
        out = out[0] if isinstance(out, tuple) else out
        loss = nn.functional.cross_entropy(out, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        reset(net)
        found.append(float(loss.detach()))
    assert found[0] != found[-1]
    return found


class Mean(nn.Module):
    """A network whose output is its rate over the axis of time."""

    def __init__(self, net, axis):
        super().__init__()
        self.net, self.axis = net, axis

    def forward(self, x):
        out = self.net(x)
        return (out[0] if isinstance(out, tuple) else out).mean(self.axis)


def spiking_images():
    """SpikingJelly's example conv_fashion_mnist with few channels."""
    torch.manual_seed(0)
    given = {"surrogate_function": surrogate.ATan(), "v_threshold": 0.2}
    conv = {"kernel_size": 3, "padding": 1, "bias": False}
    net = nn.Sequential(
        layer.Conv2d(1, 6, **conv), layer.BatchNorm2d(6), neuron.IFNode(**given), layer.MaxPool2d(2, 2),
        layer.Conv2d(6, 6, **conv), layer.BatchNorm2d(6), neuron.IFNode(**given), layer.MaxPool2d(2, 2),
        layer.Flatten(), layer.Linear(24, 20, bias=False), neuron.IFNode(**given), layer.Linear(20, 10, bias=False),
        neuron.IFNode(**given),
    )  # fmt: skip
    functional.set_step_mode(net, "m")
    return Mean(net, 0), torch.rand(4, 5, 1, 8, 8) * 2, torch.tensor([1, 7, 3, 0, 2]), functional.reset_net


def sinabs_events():
    """The network of sinabs' tutorial: convolutions, sums and IAFSqueeze with min_v_mem = -1."""
    torch.manual_seed(0)
    given = {"batch_size": 3, "min_v_mem": -1.0, "surrogate_grad_fn": sa.PeriodicExponential()}
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False), sl.IAFSqueeze(**given), sl.SumPool2d(2), nn.Flatten(),
        nn.Linear(36, 10, bias=False), sl.IAFSqueeze(**given), nn.Unflatten(0, (3, -1)),
    )  # fmt: skip
    x = (torch.rand(30, 2, 8, 8) < 0.4).float() * 2
    return Mean(net, 1), x, torch.tensor([1, 7, 4]), sinabs.reset_states


def norse_sequence():
    torch.manual_seed(0)
    net = nt.SequentialState(nt.Lift(nn.Linear(20, 30)), nt.LIF(), nn.Linear(30, 10), nt.LI())
    x, labels = train_steps(steps=20)
    return Mean(net, 0), x * 8, labels, id


def spiking_perceptron():
    x, labels = train_steps()
    return Mean(multi_layer(), 0), x, labels, functional.reset_net


@pytest.mark.parametrize("make", [spiking_perceptron, spiking_images, sinabs_events, norse_sequence])
def test_training_beside_the_original(make, monkeypatch):
    by_the_loop(monkeypatch)
    expected = losses(*make())
    net, *given = make()
    optimised = {id(p) for p in net.parameters()}
    report = hnn_kernels.convert(net)
    assert report.replaced
    assert not report.left, report
    assert {id(p) for p in net.parameters()} == optimised
    # Rounding grows from step to step: 2e-6 in the sixth step of these networks.
    assert losses(net, *given) == pytest.approx(expected, rel=1e-5)


@pytest.fixture
def converted():
    """The network with a count of the calls of its first neuron, and the original."""
    net = multi_layer()
    original = copy.deepcopy(net)
    assert len(hnn_kernels.convert(net).replaced) == 2
    return net, original


def spikes(net):
    out = net(train_steps()[0])
    assert 0.01 < out.mean() < 0.99
    functional.reset_net(net)
    return out


def test_the_report_names_every_neuron(converted):
    net, original = converted
    report = hnn_kernels.convert(original)
    assert [one.name for one in report] == ["1", "3"]
    assert all(one.replaced and one.exact and not one.why for one in report)
    assert report[0].kind == "spikingjelly.activation_based.neuron.lif.LIFNode"
    assert str(report).splitlines()[0] == "replaced 2 of 2 modules of other libraries"
    assert not hnn_kernels.convert(net)  # a second time there is nothing to do


def test_what_a_module_is_stays(converted):
    net, original = converted
    assert list(net.state_dict()) == list(original.state_dict())
    assert isinstance(net[1], neuron.LIFNode)
    assert type(net[1]).__name__ == "LIFNode"
    net.load_state_dict(original.state_dict())
    seen = []
    net[1].register_forward_hook(lambda module, args, out: seen.append(out.shape))
    assert torch.equal(spikes(net), spikes(original))
    assert seen == [torch.Size([12, 6, 50])]
    assert net.eval()[1].training is False


def test_revert_gives_the_classes_back(converted):
    net, original = converted
    hnn_kernels.revert(net)
    assert [type(module) for module in net] == [type(module) for module in original]
    assert torch.equal(spikes(net), spikes(original))


def test_copies_and_files(converted):
    net, original = converted
    expected = spikes(original)
    assert torch.equal(spikes(copy.deepcopy(net)), expected)
    again = pickle.loads(pickle.dumps(net))
    assert type(again[1]) is type(net[1])
    assert torch.equal(spikes(again), expected)
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert torch.equal(spikes(loaded), expected)
    hnn_kernels.revert(loaded)
    assert type(loaded[3]) is neuron.ParametricLIFNode


def test_numbers_that_change_have_their_effect(converted):
    for net in converted:
        net[1].tau, net[1].v_threshold, net[1].v_reset, net[1].detach_reset = 4.5, 0.6, None, False
        net[1].surrogate_function = surrogate.Sigmoid(2.0)
    gradients = []
    for net in converted:
        spikes(net).sum().backward()
        gradients.append(net[0].weight.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_what_no_kernel_computes_the_library_computes(converted):
    net, original = converted
    for one in (net, original):
        one[1].surrogate_function = surrogate.S2NN()
    with pytest.warns(RuntimeWarning, match=r"LIFNode computes this call itself: .* no surrogate like .*S2NN"):
        found = spikes(net)
    assert torch.equal(found, spikes(original))


def test_autocast(converted):
    net, original = converted
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert spikes(net).dtype == spikes(original).dtype == torch.bfloat16


@pytest.mark.parametrize("library", ["spikingjelly", "sinabs"])
def test_the_whole_model_compiles(library, converted):
    if library == "spikingjelly":
        (net, original), x, reset = converted, train_steps()[0], functional.reset_net
    else:
        torch.manual_seed(0)
        # Both layers are one neuron by definition, that of test_compiled_layers: kernels are compiled once.
        layers = (sl.IAF(min_v_mem=-1.0) for _ in range(2))
        original = nn.Sequential(nn.Linear(20, 30), next(layers), nn.Linear(30, 10), next(layers))
        net, x, reset = copy.deepcopy(original), train_steps()[0], sinabs.reset_states
        hnn_kernels.convert(net)
        for one in (net, original):  # the first call makes the states
            one(x)
            reset(one)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    results = []
    for one in (original, compiled):
        out = one(x)
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        results.append(out.detach())
        reset(net if one is compiled else one)
    assert results[0].any()
    assert torch.equal(results[1], results[0])
    for (name, expected), found in zip(original.named_parameters(), net.parameters(), strict=True):
        if expected.grad is not None:
            torch.testing.assert_close(found.grad, expected.grad, rtol=1e-4, atol=1e-5, msg=name)


def half_of_the_loss(call, rank=None):
    x, labels = train_steps()
    part = slice(None) if rank is None else slice(rank, None, 2)
    return nn.functional.cross_entropy(call(x[:, part]).mean(0), labels[part])


def test_two_processes(tmp_path):
    def make():
        net = multi_layer()
        hnn_kernels.convert(net)
        return net, net

    def loss(call, rank):
        functional.reset_net(call)
        return half_of_the_loss(call, rank)

    found = gradients_of_two(tmp_path, make, loss)
    net = multi_layer()
    half_of_the_loss(net).backward()
    for expected, got in zip(net.parameters(), found, strict=True):
        torch.testing.assert_close(got, expected.grad, rtol=1e-4, atol=1e-6)
