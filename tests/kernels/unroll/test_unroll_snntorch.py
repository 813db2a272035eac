"""Loops over snnTorch's neurons, against the same loops unrolled."""

import pytest
import torch
from torch import nn

import hnn_kernels
from hnn_kernels._convert import snntorch_steps as mapping
from support.converted import by_the_loop
from support.distributed import gradients_of_two
from support.unrolled import compare, hold_equal, left, passed

snn = pytest.importorskip("snntorch")
from snntorch import surrogate, utils  # noqa: E402

from support.snntorch_neurons import DEFINED, NEURONS, TUTORIALS, B, N, Side, T, Tutorial, drive, losses  # noqa: E402


@pytest.fixture(autouse=True)
def _forget_earlier_neurons():
    snn.SpikingNeuron.init()  # the library's list of all neurons, which a reset goes over


def test_the_tutorials_network():
    torch.manual_seed(0)
    unrolled = hold_equal(Tutorial(), torch.rand(B, N) * 4, passes=3)
    assert [(layer.name, layer.steps, layer.unrolled) for layer in unrolled.report] == [
        ("lif1", T, True), ("lif2", T, True),
    ]  # fmt: skip


@pytest.mark.parametrize("tutorial", TUTORIALS)
def test_training_has_the_loops_losses(tutorial):
    assert losses(tutorial, hnn_kernels.unroll) == pytest.approx(losses(tutorial, lambda net: net), rel=1e-5)


# Each by the text of its reason.
LEFT = {
    "recurrent": (lambda: snn.RLeaky(0.9, linear_features=N), "through the weights of recurrent"),
    "recurrent at once": (
        lambda: snn.RSynaptic(0.9, 0.8, all_to_all=False, reset_delay=False),
        "RSynaptic is an error",
    ),
    "lstm": (lambda: snn.SLSTM(3, 4), "products of their own"),
    "delta": (lambda: snn.DeltaLeaky(beta=0.9), "resets nothing"),
    "inhibition": (lambda: snn.Leaky(0.9, inhibition=True), "inhibition=True"),
    "quantised": (lambda: snn.Leaky(0.9, state_quant=torch.round), "rounds the potential"),
    "noisy": (lambda: snn.Leaky(0.9, spike_grad=surrogate.SSO()), "spike_grad is not"),
    "of a tensor": (lambda: snn.Leaky(0.9, spike_grad=surrogate.atan(torch.tensor(2.0))), "spike_grad is not"),
    "all steps": (lambda: snn.StateLeaky(0.9, 12), "all steps in one call"),
}


@pytest.mark.parametrize("made", [NEURONS, DEFINED], ids=("lif", "defined"))
def test_options(made, monkeypatch):
    by_the_loop(monkeypatch)
    torch.manual_seed(0)
    net = Side({name: make() for name, make in made.items()})
    unrolled = hold_equal(net, drive().requires_grad_(), passes=1, twin=Side({n: make() for n, make in made.items()}))
    assert {layer.name for layer in unrolled.report if layer.unrolled} == {f"neurons.{name}" for name in made}
    for name, train in net(drive()).items():
        assert 0 < train[0].count_nonzero() < train[0].numel(), name


@pytest.mark.filterwarnings("ignore:Inhibition")
@pytest.mark.parametrize("name", LEFT)
def test_neurons_without_a_counterpart_are_left_with_the_reason(name):
    make, reason = LEFT[name]
    neuron = make()
    assert reason in mapping.arguments_of(neuron)
    with pytest.raises(ValueError, match="model has no neurons") as error:
        hnn_kernels.unroll(nn.Sequential(neuron))
    assert reason in str(error.value)


class Mixed(Tutorial):
    """A neuron that is left between two that are not."""

    def __init__(self):
        super().__init__()
        self.left = snn.Leaky(0.9, state_quant=torch.round)

    def forward(self, x):
        mem1, mem, mem2 = self.lif1.reset_mem(), self.left.reset_mem(), self.lif2.reset_mem()
        out = []
        for now in x:
            spk, mem1 = self.lif1(self.fc1(now), mem1)
            spk, mem = self.left(spk, mem)
            spk, mem2 = self.lif2(self.fc2(spk), mem2)
            out.append(spk)
        return sum(out), mem2


def test_a_neuron_that_is_left_computes_its_steps():
    torch.manual_seed(0)
    with pytest.warns(hnn_kernels.UnrollWarning, match="left .*rounds the potential"):
        unrolled = hold_equal(Mixed(), drive() * 3, passes=1)
    assert [layer.unrolled for layer in unrolled.report] == [True, False, True]


class Doubled(snn.Leaky):
    def forward(self, x, mem=None):
        return super().forward(2 * x, mem)


def test_a_subclass_computes_its_steps_and_is_named():
    torch.manual_seed(0)
    net, twin = Tutorial(), Tutorial()
    net.lif2, twin.lif2 = Doubled(0.9), Doubled(0.9)
    with pytest.warns(hnn_kernels.UnrollWarning, match="lif2 .*a subclass of snntorch._neurons.leaky.Leaky"):
        unrolled = hold_equal(net, torch.rand(B, N) * 4, passes=1, twin=twin)
    assert [layer.unrolled for layer in unrolled.report] == [True, False]
    with pytest.raises(ValueError, match=r"model has no neurons.*the model \(Doubled\): a subclass of"):
        hnn_kernels.unroll(Doubled(0.9))


class Hidden(nn.Module):
    """The states inside, as in the tutorials with ``nn.Sequential``."""

    def __init__(self, reset=True):
        super().__init__()
        self.reset = reset
        self.net = nn.Sequential(
            nn.Flatten(), nn.Linear(N, N), snn.Leaky(beta=0.9, init_hidden=True), nn.Linear(N, 10),
            snn.Leaky(beta=0.9, init_hidden=True, output=True),
        )  # fmt: skip

    def forward(self, x):
        if self.reset:
            utils.reset(self.net)
        spikes, potentials = zip(*(self.net(x) for _ in range(T)), strict=True)
        return torch.stack(spikes), torch.stack(potentials)


def test_states_that_are_kept_inside():
    torch.manual_seed(0)
    # The library's reset does not reach a deep copy.
    unrolled = hold_equal(Hidden(), torch.rand(B, 3, 4) * 3, twin=Hidden())
    assert [layer.unrolled for layer in unrolled.report] == [True, True]


def test_a_reset_inside_needs_no_reset_before(monkeypatch):
    for name in [name for name in vars(utils) if name.startswith("is_")]:
        monkeypatch.delattr(utils, name)
    unrolled = hnn_kernels.unroll(Hidden())
    unrolled(torch.rand(B, 3, 4))
    assert not unrolled.refused


def test_states_that_are_kept_from_call_to_call():
    torch.manual_seed(0)
    net = Hidden(reset=False)
    unrolled = hnn_kernels.unroll(net)

    def train(call):
        utils.reset(net.net)
        first = call(torch.rand(B, N) * 3)
        snn.Leaky.detach_hidden()
        return first, call(torch.rand(B, N) * 3)

    compare(passed(net, train, net), passed(net, train, unrolled))
    assert not unrolled.refused


class Blank(Tutorial):
    """The states before the first step are results, too."""

    def forward(self, x):
        before = self.lif1.reset_mem()
        mem, out = before, []
        for _ in range(T):
            _, mem = self.lif1(self.fc1(x), mem)
            out.append(mem)
        return torch.stack(out), before.exp().mean(0, keepdim=True).nan_to_num()


def test_a_state_before_the_first_step_may_be_used():
    torch.manual_seed(0)
    unrolled = hold_equal(Blank(), torch.rand(B, N) * 4)
    assert not unrolled.refused


def test_options_that_change_take_effect(monkeypatch):
    by_the_loop(monkeypatch)
    torch.manual_seed(0)
    net = Tutorial()
    unrolled = hnn_kernels.unroll(net)
    x = torch.rand(B, N) * 4
    unrolled(x)
    net.lif1.threshold.fill_(0.5)
    net.lif1.spike_grad = surrogate.atan(1.0)
    compare(passed(net, net, x), passed(net, unrolled, x))
    net.lif1.spike_grad = surrogate.heaviside()  # another kernel, behind a current that is constant in time
    compare(passed(net, net, x), passed(net, unrolled, x))
    net.lif2.state_quant = torch.round  # has no counterpart: its steps run one by one
    expected = passed(net, net, x)
    assert "the steps of lif2 ran one by one: state_quant rounds" in left(
        lambda: compare(expected, passed(net, unrolled, x))
    )


def test_a_state_that_only_the_neurons_own_step_continues_exactly():
    class Once(nn.Module):
        def __init__(self):
            super().__init__()
            self.lif = snn.Leaky(0.9, reset_mechanism="zero", reset_delay=False)

        def forward(self, x, mem):
            out = []
            for now in x:
                spk, mem = self.lif(now, mem)
                out.append(spk)
            return torch.stack(out), mem

    net = Once()
    unrolled = hnn_kernels.unroll(net)
    mem = torch.full((B, N), 1.5)
    expected = passed(net, net, drive(), mem)
    said = left(lambda: compare(expected, passed(net, unrolled, drive(), mem)))
    assert "a state is above the threshold" in said


def test_two_processes(tmp_path):
    def make():
        torch.manual_seed(0)
        net = Tutorial()
        return net, hnn_kernels.unroll(net)

    def loss(call, rank=None):
        x, labels = torch.rand(B, N, generator=torch.Generator().manual_seed(1)) * 4, torch.arange(B)
        part = slice(None) if rank is None else slice(rank, None, 2)
        spikes, potentials = call(x[part])
        if rank is not None:
            unrolled = call.module
            assert not unrolled.refused
            assert [layer.unrolled for layer in unrolled.report] == [True, True]
        return nn.functional.cross_entropy(spikes.sum(0), labels[part]) + potentials.pow(2).mean()

    found = gradients_of_two(tmp_path, make, loss)
    net, _ = make()
    loss(net).backward()
    for expected, got in zip(net.parameters(), found, strict=True):
        torch.testing.assert_close(got, expected.grad, rtol=1e-4, atol=1e-6)


def test_bfloat16_of_autocast_keeps_dtypes():
    torch.manual_seed(0)
    net = Tutorial()
    unrolled = hnn_kernels.unroll(net)
    x = torch.rand(B, N) * 4
    with torch.autocast("cpu", torch.bfloat16):
        expected, found = net(x), unrolled(x)
    assert [r.dtype for r in found] == [r.dtype for r in expected]
    # snnTorch rounds the potential to bfloat16 at each step, and the kernels keep it in float32.
    torch.testing.assert_close(found[1][0], expected[1][0], rtol=0.02, atol=0.02)


def test_unknown_versions_are_left(monkeypatch):
    monkeypatch.setattr(snn, "__version__", "0.9.4")
    assert "snnTorch 0.9.4 is not known" in mapping.arguments_of(snn.Leaky(0.9))
