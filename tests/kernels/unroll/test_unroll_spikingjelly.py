"""Loops over SpikingJelly's neurons of one step, against the same loops unrolled."""

import copy
import gc

import pytest
import torch
from torch import nn

import hnn_kernels
from support.converted import by_the_loop
from support.unrolled import compare, hold_equal, left, passed

pytest.importorskip("spikingjelly")
from spikingjelly.activation_based import functional, neuron, surrogate

T, B, N = 5, 4, 12
NEURONS = {
    "if": lambda: neuron.IFNode(),
    "if soft": lambda: neuron.IFNode(v_reset=None, detach_reset=True),
    "lif": lambda: neuron.LIFNode(tau=3.0, surrogate_function=surrogate.ATan()),
    "lif reset": lambda: neuron.LIFNode(decay_input=False, v_threshold=0.8, v_reset=-0.2),
    "lif soft": lambda: neuron.LIFNode(v_reset=None),
    "plif": lambda: neuron.ParametricLIFNode(init_tau=2.5, detach_reset=True),
    "from half": lambda: neuron.HalfThresholdIFNode(),
    "current": lambda: neuron.CUBALIFNode(v_reset=None, surrogate_function=surrogate.ATan()),
}
DEFINED = {
    "lif reset": NEURONS["lif reset"],
    "plif": NEURONS["plif"],
    "klif": lambda: neuron.KLIFNode(scale_reset=True),
    "quadratic": lambda: neuron.QIFNode(v_reset=-0.1),
    "exponential": lambda: neuron.EIFNode(v_reset=-0.1),
    "izhikevich": lambda: neuron.IzhikevichNode(a=0.1, b=0.2, tau_w=3.0),
    "complementary": lambda: neuron.ComplementaryLIFNode(),
    "levels": lambda: neuron.ILIFNode(),
    "ternary": lambda: neuron.TernaryLIFNode(),
    "aware": lambda: neuron.ActivationAwareIFNode(torch.linspace(0.5, 1.5, N)),
    "resonate": lambda: neuron.RAFNode(),
}


class Loop(nn.Module):
    """A loop as SpikingJelly's tutorials write it."""

    def __init__(self, reset=True, neurons=NEURONS):
        super().__init__()
        self.reset = reset
        self.fc, self.neurons = nn.Linear(N, N), nn.ModuleDict({name: make() for name, make in neurons.items()})

    def forward(self, x):
        if self.reset:
            functional.reset_net(self)
        rates, potentials = 0.0, []
        for t in range(T):
            spikes = [lif(self.fc(x[t])) for lif in self.neurons.values()]
            rates = rates + torch.stack(spikes)
            potentials.append(self.neurons["lif reset"].v)
        return rates / T, torch.stack(potentials), self.neurons["plif"].v


def drive():
    return torch.randn(T, B, N, generator=torch.Generator().manual_seed(0)) * 3 + 1


def size_of_terms(net, name, x):
    """Return the sum of the absolute terms of the gradient of a neuron's w, one for each element of a step."""
    net = copy.deepcopy(net)
    net.neurons[name].w = nn.Parameter(net.neurons[name].w.detach().expand(B, N).clone())
    return float(passed(net, net, x).gradients[f"neurons.{name}.w"].abs().sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("made", [NEURONS, DEFINED], ids=("lif", "defined"))
def test_options(made, dtype, monkeypatch):
    by_the_loop(monkeypatch)
    torch.manual_seed(0)
    net, x = Loop(neurons=made).to(dtype), drive().to(dtype).requires_grad_()
    # The terms of plif's w have both signs. Of 158 networks in float32 the worst gradient differs by 2.8e-5 of itself,
    # and by 1.2e-7 of its terms.
    sizes = {"neurons.plif.w": size_of_terms(net, "plif", x)}
    unrolled = hold_equal(net, x, passes=1, sizes=sizes)
    assert {layer.name for layer in unrolled.report if layer.unrolled} == {f"neurons.{name}" for name in made}
    fired = dict(zip(made, unrolled(x)[0].flatten(1).count_nonzero(1).tolist(), strict=True))
    assert all(fired.values()), fired


def test_another_network_that_is_collected_while_a_loop_is_compiled(monkeypatch):
    others = [Loop() for _ in range(3)]
    for other in others:
        functional.reset_net(other)  # which keeps a list of networks
    net = Loop()
    unrolled = hnn_kernels.unroll(net)
    contract = unrolled._contract

    def meanwhile(*args):
        others.clear()
        gc.collect()
        return contract(*args)

    monkeypatch.setattr(unrolled, "_contract", meanwhile)
    compare(passed(net, net, drive()), passed(net, unrolled, drive()))
    assert not others
    assert not unrolled.refused


def test_states_that_are_kept_from_call_to_call_and_a_surrogate_that_changes():
    torch.manual_seed(0)
    net = Loop(reset=False, neurons={name: NEURONS[name] for name in ("if", "lif reset", "plif")})
    unrolled = hnn_kernels.unroll(net)

    def twice(call):
        functional.reset_net(net)
        return call(drive()), call(drive())

    compare(passed(net, twice, net), passed(net, twice, unrolled))
    assert not unrolled.refused
    net.neurons["if"].surrogate_function = surrogate.LeakyKReLU()
    expected = passed(net, twice, net)
    assert "the steps of neurons.if ran one by one" in left(lambda: compare(expected, passed(net, twice, unrolled)))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: type("Other", (neuron.LIFNode,), {})(), "a subclass of .*LIFNode, whose step may be another one"),
        (lambda: neuron.LIAFNode(torch.relu, True), "Python function of the potential"),
        (lambda: neuron.PSN(T), "no kernel computes its step"),
    ],
    ids=("subclass", "function", "other"),
)
def test_neurons_without_a_counterpart_are_named(make, why):
    with pytest.raises(ValueError, match=rf"model has no neurons.*0 \(\w+\): .*{why}"):
        hnn_kernels.unroll(nn.Sequential(make()))


def test_a_converted_loop_is_unrolled():
    torch.manual_seed(0)
    net = Loop(neurons={name: NEURONS[name] for name in ("lif reset", "plif")})
    for node in net.neurons.values():
        node.step_mode = "m"
    assert len(hnn_kernels.convert(net).replaced) == 2
    functional.set_step_mode(net, "s")
    unrolled = hold_equal(net, drive(), passes=1)
    assert [layer.unrolled for layer in unrolled.report] == [True, True]
