"""snnTorch's neurons of one step, and its filters over time, beside their converted twins."""

import pytest
import torch

import hnn_kernels
from support.converted import by_the_loop, relative, same

pytest.importorskip("snntorch", reason="converting snnTorch's modules needs the extra 'peers'")
import snntorch as snn
from snntorch import surrogate, utils

from support.snntorch_neurons import DEFINED, NEURONS, TUTORIALS, B, N, Side, Tutorial, drive, each, losses

# A convolution sums in another order than the recursion. The worst of these cases is 4.2e-6, the gradient of a
# threshold that all neurons share.
TOLERANCE = 1e-5


def inputs(shape=(30, 3, 12)):
    torch.manual_seed(3)
    return torch.randn(shape)


def spikes_first(module, x):
    out = module(x)
    return list(out) if isinstance(out, tuple) else [(out > 0.5).float(), out]


@pytest.mark.parametrize("beta", [0.9, torch.linspace(0.4, 0.95, 12), torch.tensor([0.8])], ids=("0.9", "each", "one"))
@pytest.mark.parametrize("learn", [False, True])
def test_filters(beta, learn):
    def make():
        given = {"learn_beta": learn, "learn_threshold": learn, "graded_spikes_factor": 1.5}
        return snn.StateLeaky(beta, 12, spike_grad=surrogate.fast_sigmoid(), **given)

    same(make, spikes_first, inputs(), TOLERANCE)


@pytest.mark.parametrize("output", [True, False])
def test_linear_filters(output):
    same(lambda: snn.LinearLeaky(0.9, 12, 7, output=output), spikes_first, inputs(), TOLERANCE)


def test_a_filter_that_ends_stays():
    (entry,) = hnn_kernels.convert(snn.StateLeaky(0.9, 12, kernel_truncation_steps=4))
    assert "kernel_truncation_steps" in entry.why


# -- neurons that get one step in a call -------------------------------------------------------------------------------

# Those whose spikes come back through weights, which no call over all steps could have.
WEIGHTED = {
    "all to all": lambda: snn.RLeaky(0.8, linear_features=N),
    "all to all zero": lambda: snn.RLeaky(
        0.8, linear_features=N, reset_mechanism="zero", reset_delay=False, init_hidden=True
    ),
    "synaptic all to all": lambda: snn.RSynaptic(0.5, 0.8, linear_features=N, learn_alpha=True),
    "each to itself": lambda: snn.RSynaptic(0.5, 0.8, V=each() - 0.7, all_to_all=False, init_hidden=True, output=True),
}
STEPS = {**NEURONS, **{f"{name}, by definition": make for name, make in DEFINED.items()}, **WEIGHTED}


def sides(dtype, neurons=STEPS):
    """Return the neurons side by side, the library's and the converted."""
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        made.append(Side({name: make() for name, make in neurons.items()}).to(dtype))
    report = hnn_kernels.convert(made[1])
    assert {entry.name for entry in report.replaced} == {f"neurons.{name}" for name in neurons}
    assert not report.left
    return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_steps_over_their_options(dtype, monkeypatch):
    by_the_loop(monkeypatch)
    found = []
    # The library's own weights meet float32 spikes.
    for net in sides(dtype, STEPS if dtype is torch.float32 else {**NEURONS, **DEFINED}):
        x = drive().to(dtype).requires_grad_()
        out = net(x)
        trains = [(name, i, train) for name, kept in out.items() for i, train in enumerate(kept)]
        loss = sum((train.double() * torch.linspace(-1, 1, train.numel()).view_as(train)).sum() for *_, train in trains)
        loss.backward()
        gradients = {name: p.grad for name, p in net.named_parameters()} | {"x": x.grad}
        resets = {name: neuron.reset for name, neuron in net.neurons.items()}
        found.append((trains, gradients, list(net.state_dict()), resets))
    (expected, gradients, keys, resets), (got, ours, our_keys, our_resets) = found
    assert our_keys == keys
    for name, reset in resets.items():
        assert torch.equal(our_resets[name], reset), name
        assert our_resets[name].dtype == reset.dtype, name
    for (name, i, train), (*_, twin) in zip(expected, got, strict=True):
        assert twin.dtype == train.dtype, (name, i)
        assert torch.equal(twin, train), (name, i)
    for name, gradient in gradients.items():
        assert (gradient is None) == (ours[name] is None), name
        # Sums over a batch are in another order.
        assert gradient is None or relative(ours[name], gradient) < 1e-6, name


def test_steps_in_bfloat16_keep_dtypes(monkeypatch):
    by_the_loop(monkeypatch)
    library, twin = sides(torch.float32)
    x = drive().bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        expected, got = library(x), twin(x)
    for name, trains in expected.items():
        assert [train.dtype for train in got[name]] == [train.dtype for train in trains], name


@pytest.mark.parametrize("tutorial", TUTORIALS)
def test_the_networks_of_the_tutorials_train_alike(tutorial, monkeypatch):
    by_the_loop(monkeypatch)

    def converted(net):
        assert not hnn_kernels.convert(net).left
        return net

    assert losses(tutorial, converted) == pytest.approx(losses(tutorial, lambda net: net), rel=1e-5)


CHANGES = (
    utils.reset,
    lambda net: snn.Leaky.detach_hidden(),
    lambda net: net[0].threshold.fill_(0.5),
    lambda net: setattr(net[0], "beta", torch.tensor(0.4)),
    lambda net: setattr(net[1], "spike_grad", surrogate.fast_sigmoid(3)),
    lambda net: setattr(net[1], "reset_delay", False),
    lambda net: net[1].reset_mem(),
    lambda net: setattr(net[1], "output", False),
)


def test_states_that_are_kept_and_reset_and_options_that_change(monkeypatch):
    by_the_loop(monkeypatch)
    found = []
    for convert in (False, True):
        snn.SpikingNeuron.init()  # the library's list of all neurons, which a reset goes over
        net = torch.nn.Sequential(
            snn.Leaky(0.9, init_hidden=True), snn.Synaptic(0.5, 0.8, init_hidden=True, output=True)
        )
        if convert:
            assert len(hnn_kernels.convert(net).replaced) == 2
        x, kept = drive(), []
        for change in CHANGES:
            leaf = x.clone().requires_grad_()
            out = [net(now) for now in leaf]
            kept += [v for one in out for v in (one if isinstance(one, tuple) else (one,))]
            torch.stack([one[-1] if isinstance(one, tuple) else one for one in out]).sum().backward()
            kept += [net[0].mem, net[1].syn, leaf.grad]
            for module in net:
                module.detach_hidden()
            change(net)
        found.append(kept)
        with pytest.raises(TypeError, match="`mem` should not be passed"):
            net[0](x[0], x[0])
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["learnt", "alpha, by definition", "recurrent, by definition", "all to all"])
def test_what_a_call_returns_is_detached_in_place_as_the_librarys(name, monkeypatch):
    by_the_loop(monkeypatch)
    for net in sides(torch.float32, {name: STEPS[name]}):
        neuron = net.neurons[name]
        found = neuron(drive()[0].requires_grad_())
        for value in found if isinstance(found, tuple) else (found,):
            assert value.requires_grad
            assert value.detach_() is value
        neuron.detach_hidden()


def test_an_option_for_no_kernel_is_the_librarys():
    neuron, library = snn.Leaky(0.9), snn.Leaky(0.9)
    hnn_kernels.convert(neuron)
    for one in (neuron, library):
        one.state_quant = torch.round
    with pytest.warns(RuntimeWarning, match="Leaky computes this call itself: state_quant rounds the potential"):
        found = neuron(drive()[0])
    assert all(torch.equal(a, b) for a, b in zip(found, library(drive()[0]), strict=True))
    hnn_kernels.convert(other := snn.Leaky(0.9))
    with pytest.raises(TypeError, match="unexpected keyword argument 'syn'"):
        other(drive()[0], syn=drive()[0])


def test_a_converted_loop_is_unrolled_before_and_behind(monkeypatch):
    by_the_loop(monkeypatch)
    torch.manual_seed(0)
    net, x = Tutorial(), torch.rand(B, N) * 4
    expected = net(x)
    unrolled = hnn_kernels.unroll(net)
    for change in (hnn_kernels.convert, hnn_kernels.revert, hnn_kernels.convert):
        change(net)
        found = unrolled(x)
        assert not unrolled.refused
        assert [layer.unrolled for layer in unrolled.report] == [True, True]
        assert torch.equal(found[0], expected[0])
    assert hnn_kernels.unroll(net)(x)[0].equal(expected[0])
    assert net(x)[0].equal(expected[0])


@pytest.mark.filterwarnings("ignore:Inhibition")
@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: snn.SLSTM(3, 4), "products of their own"),
        (lambda: snn.SConv2dLSTM(1, 2, 3), "convolutions of their own"),
        (lambda: snn.DeltaLeaky(beta=0.9), "it resets nothing"),
        (lambda: snn.Leaky(0.9, inhibition=True), "inhibition=True lets one neuron of a layer fire"),
        (lambda: snn.Leaky(0.9, state_quant=torch.round), "state_quant rounds the potential"),
        (lambda: snn.Leaky(0.9, spike_grad=surrogate.SSO()), "spike_grad is not one of"),
        (lambda: snn.Leaky(0.9, spike_grad=surrogate.atan(torch.tensor(2.0))), "spike_grad is not one of"),
        (lambda: snn.RSynaptic(0.9, 0.8, all_to_all=False, reset_delay=False), "an error in snnTorch"),
    ],
    ids=("lstm", "convolutions", "delta", "inhibition", "quantised", "noisy", "of a tensor", "error"),
)
def test_what_has_no_counterpart_stays(make, why):
    module = make()
    kind = type(module)
    (entry,) = hnn_kernels.convert(module)
    assert not entry.replaced
    assert why in entry.why
    assert type(module) is kind


def test_a_subclass_of_such_a_neuron_is_said_to_be_one():
    class Doubled(snn.Leaky):
        pass

    (entry,) = hnn_kernels.convert(Doubled(0.9))
    assert entry.why == "a subclass of snntorch._neurons.leaky.Leaky, whose step may be another one"
