"""Whole networks of the libraries, converted: trained beside the original, and all that is done with a model."""

import copy
import io
import pickle
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest
import torch
from torch import nn

import hnn_kernels
from support.converted import by_the_loop
from support.distributed import gradients_of_two

pytest.importorskip("spikingjelly", reason="converting other libraries' models needs the extra 'peers'")
pytest.importorskip("sinabs", reason="converting other libraries' models needs the extra 'peers'")
pytest.importorskip("norse", reason="converting other libraries' models needs the extra 'peers'")
pytest.importorskip("snntorch", reason="converting other libraries' models needs the extra 'peers'")
import norse.torch as nt
import sinabs
import sinabs.activation as sa
import sinabs.layers as sl
import snntorch as snn
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


class Loop(nn.Module):
    """A loop over snnTorch's neurons, whose states are inside; its surrogates are functions that no pickle holds."""

    def __init__(self, surrogates=True):
        super().__init__()
        given = {"init_hidden": True, "surrogate_disable": not surrogates}
        self.fc1, self.lif1 = nn.Linear(20, 30), snn.Leaky(0.9, learn_beta=True, **given)
        self.fc2, self.lif2 = nn.Linear(30, 10), snn.Synaptic(0.5, 0.9, output=True, **given)

    def forward(self, x):
        self.lif1.reset_mem()
        self.lif2.reset_mem()
        return torch.stack([self.lif2(self.fc2(self.lif1(self.fc1(now))))[0] for now in x])


def sinabs_perceptron():
    torch.manual_seed(0)
    # Both layers are one neuron by definition.
    return nn.Sequential(nn.Linear(20, 30), sl.IAF(min_v_mem=-1.0), nn.Linear(30, 10), sl.IAF(min_v_mem=-1.0))


def norse_read_out():
    """Norse's spiking neurons have parameters that no pickle holds."""
    torch.manual_seed(0)
    return nt.SequentialState(nn.Linear(20, 10), nt.LI())


def snntorch_loop(**given):
    torch.manual_seed(0)
    return Loop(**given)


class Steps(nn.Module):
    """SpikingJelly's network in a loop of its own, a call for each step."""

    def __init__(self):
        super().__init__()
        self.net = multi_layer()
        functional.set_step_mode(self.net, "s")

    def forward(self, x):
        return torch.stack([self.net(now) for now in x])


class Case(NamedTuple):
    """A network of a library, with what the tests need to know of it.

    It has one that pickles hold, the names of its neurons, the factor of its input, its reset, and its axis of time.
    """

    make: Callable
    pickled: Callable
    neurons: tuple[str, str]
    scale: float
    reset: Callable
    time: int = 0


CASES = {
    "spikingjelly": Case(multi_layer, multi_layer, ("1", "3"), 1.0, functional.reset_net),
    "spikingjelly, by steps": Case(Steps, Steps, ("net.1", "net.3"), 1.0, functional.reset_net),
    "sinabs": Case(sinabs_perceptron, sinabs_perceptron, ("1", "3"), 1.0, sinabs.reset_states, 1),
    "norse": Case(lambda: norse_sequence()[0].net, norse_read_out, ("1", "3"), 8.0, id),
    "snntorch": Case(snntorch_loop, partial(snntorch_loop, surrogates=False), ("lif1", "lif2"), 1.0, id),
}


class Pair(NamedTuple):
    """A converted network, the original, and what calls one of them."""

    net: nn.Module
    original: nn.Module
    case: Case

    def neuron(self, net):
        return net.get_submodule(self.case.neurons[0])

    def spikes(self, net, steps=12):
        out = net(train_steps(steps=steps)[0] * self.case.scale)
        out = out[0] if isinstance(out, tuple) else out
        assert out.any()
        self.case.reset(net)
        return out


def pair_of(case):
    net, original = case.make(), case.make()
    assert [one.name for one in hnn_kernels.convert(net).replaced] == list(case.neurons)
    return Pair(net, original, case)


@pytest.fixture(params=CASES)
def pair(request, monkeypatch):
    by_the_loop(monkeypatch)
    return pair_of(CASES[request.param])


@pytest.fixture
def spiking():
    """SpikingJelly's network alone."""
    return pair_of(CASES["spikingjelly"])


def test_the_report_names_every_neuron(spiking):
    report = hnn_kernels.convert(spiking.original)
    assert [one.name for one in report] == ["1", "3"]
    assert all(one.replaced and one.exact and not one.why for one in report)
    assert report[0].kind == "spikingjelly.activation_based.neuron.lif.LIFNode"
    assert str(report).splitlines()[0] == "replaced 2 of 2 modules of other libraries"
    assert not hnn_kernels.convert(spiking.net)  # a second time there is nothing to do


def test_what_a_module_is_stays(pair):
    net, original, _ = pair
    neuron, before = pair.neuron(net), pair.neuron(original)
    assert list(net.state_dict()) == list(original.state_dict())
    assert isinstance(neuron, type(before))
    assert type(neuron).__name__ == type(before).__name__
    net.load_state_dict(original.state_dict())
    seen = []
    neuron.register_forward_hook(lambda module, args, out: seen.append(module))
    assert torch.equal(pair.spikes(net), pair.spikes(original))
    assert set(seen) == {neuron}
    for one in (net, original):
        one.eval()
    assert neuron.training is False
    assert torch.equal(pair.spikes(net), pair.spikes(original))
    assert net.train().get_submodule(pair.case.neurons[0]).training is True


def test_an_optimizer_made_before(pair):
    found = []
    for convert in (False, True):
        net = pair.case.make()
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)
        if convert:
            hnn_kernels.convert(net)
        for _ in range(2):
            optimizer.zero_grad()
            pair.spikes(net).square().mean().backward()
            optimizer.step()
        found.append([p.detach() for p in net.parameters()])
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_revert_gives_the_classes_back(pair):
    net, original, _ = pair
    hnn_kernels.revert(net)
    assert [type(module) for module in net.modules()] == [type(module) for module in original.modules()]
    assert torch.equal(pair.spikes(net), pair.spikes(original))


def test_copies_and_files(pair):
    net, original, case = pair
    expected, copied = pair.spikes(original).detach(), copy.deepcopy(net)
    assert type(pair.neuron(copied)) is type(pair.neuron(net))
    assert torch.equal(pair.spikes(copied), expected)
    if case.pickled is not case.make:
        net, original = case.pickled(), case.pickled()
        assert hnn_kernels.convert(net).replaced
        expected = pair.spikes(original)
    again = pickle.loads(pickle.dumps(net))
    assert type(pair.neuron(again)) is type(pair.neuron(net))
    assert torch.equal(pair.spikes(again), expected)
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert torch.equal(pair.spikes(loaded), expected)
    hnn_kernels.revert(loaded)
    assert type(pair.neuron(loaded)) is type(pair.neuron(original))


def test_numbers_that_change_have_their_effect(spiking):
    net, original, _ = spiking
    gradients = []
    for one in (net, original):
        one[1].tau, one[1].v_threshold, one[1].v_reset, one[1].detach_reset = 4.5, 0.6, None, False
        one[1].surrogate_function = surrogate.Sigmoid(2.0)
        spiking.spikes(one).sum().backward()
        gradients.append(one[0].weight.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_what_no_kernel_computes_the_library_computes(spiking):
    net, original, _ = spiking
    for one in (net, original):
        one[1].surrogate_function = surrogate.S2NN()
    with pytest.warns(RuntimeWarning, match=r"LIFNode computes this call itself: .* no surrogate like .*S2NN"):
        found = spiking.spikes(net)
    assert torch.equal(found, spiking.spikes(original))


def test_autocast(pair):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert pair.spikes(pair.net).dtype == pair.spikes(pair.original).dtype


def test_the_whole_model_compiles(pair):
    net, original, _ = pair
    for one in (net, original):  # the first call makes the states of sinabs
        pair.spikes(one, 3)
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    results = []
    for one in (original, compiled):
        out = pair.spikes(one, 3)
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        results.append(out.detach())
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=1e-6)
    for (name, expected), found in zip(original.named_parameters(), net.parameters(), strict=True):
        if expected.grad is not None:
            torch.testing.assert_close(found.grad, expected.grad, rtol=1e-4, atol=1e-5, msg=name)


class Side(nn.Module):
    """The networks of all libraries side by side, which DDP sees as one."""

    def __init__(self):
        super().__init__()
        self.nets = nn.ModuleList(case.make() for case in CASES.values())

    def forward(self, x):
        rates = []
        for net, case in zip(self.nets, CASES.values(), strict=True):
            out = net(x.transpose(0, case.time) * case.scale)
            rates.append((out[0] if isinstance(out, tuple) else out).mean(case.time))
        return torch.stack(rates)


def half_of_the_loss(net, call, rank=None):
    for one, case in zip(net.nets, CASES.values(), strict=True):
        case.reset(one)
    x, labels = train_steps()
    part = slice(None) if rank is None else slice(rank, None, 2)
    rates = call(x[:, part])
    return sum(nn.functional.cross_entropy(rate, labels[part]) for rate in rates)


def test_two_processes(tmp_path, monkeypatch):
    by_the_loop(monkeypatch)  # a fork has it too

    def make():
        net = Side()
        report = hnn_kernels.convert(net)
        assert len(report.replaced) == 2 * len(CASES)
        return net, net

    found = gradients_of_two(tmp_path, make, lambda call, rank: half_of_the_loss(call.module, call, rank))
    net = Side()
    half_of_the_loss(net, net).backward()
    expected = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    assert {name.split(".")[1] for name, gradient in expected.items() if gradient.any()} == set(
        map(str, range(len(CASES)))
    )
    for (name, gradient), got in zip(expected.items(), found, strict=True):
        torch.testing.assert_close(got, gradient, rtol=1e-4, atol=1e-6, msg=name)
