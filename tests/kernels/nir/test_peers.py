"""Graphs to and from other libraries: equal spikes where they follow the standard, and their known departures from it.

Versions: snnTorch 1.0.0, SpikingJelly 2.0.0, Norse 1.1.0, sinabs 3.1.3, with nir 1.0.8 and nirtorch 2.6. docs/nir.md
lists the departures.
"""

import contextlib
import io

import numpy as np
import pytest
import torch
from torch import nn

from hnn_kernels import IIR
from hnn_kernels.nir import EachStep, export, load
from hnn_kernels.nn import LIF

nir = pytest.importorskip("nir", reason="NIR needs the extra 'nir'")
nirtorch = pytest.importorskip("nirtorch", reason="the peers' exchange needs nirtorch")
if not hasattr(nirtorch, "torch_to_nir"):
    pytest.skip("the peers' exchange needs nirtorch 2.6", allow_module_level=True)

T, B, DT = 60, 4, 1e-4  # the dt that snnTorch has built in


@pytest.fixture
def x():
    torch.manual_seed(0)
    return (torch.rand(T, B, 20) < 0.4).float()


def linear(out, in_, bias=True, cls=nn.Linear, scale=1.0):
    """Weights with which both layers fire."""
    generator = torch.Generator().manual_seed(out)
    layer = cls(in_, out, bias=bias)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(out, in_, generator=generator) * 0.35 * scale)
        if bias:
            layer.bias.copy_(torch.rand(out, generator=generator) * 0.1)
    return layer


def ours(first, second=None, bias=True, scale=1.0):
    return nn.Sequential(linear(30, 20, bias, scale=scale), first, linear(10, 30, bias, scale=scale), second or first)


def quiet(function, *args, **options):
    with contextlib.redirect_stdout(io.StringIO()):
        return function(*args, **options)


def steps(network, x):
    """The outputs of a network that takes a step at a time, with the state that it returns, if it does."""
    outputs, state = [], None
    with torch.no_grad():
        for now in x:
            out = network(now) if state is None else network(now, state)
            if isinstance(out, tuple):
                out, state = out[0], out[1]
            outputs.append(out)
    return torch.stack(outputs)


def rows(x):
    """A train as the Squeeze layers of sinabs take it: ``[B * T, ...]``."""
    return x.transpose(0, 1).flatten(0, 1)


def train(rows):
    return rows.unflatten(0, (B, T)).transpose(0, 1)


def check(out, expected):
    assert 0.01 < expected.mean() < 0.5
    assert torch.equal(out, expected)


def share(out, expected):
    """The share of spikes that differ."""
    return (out != expected).float().mean().item()


NEURONS = {
    "LIF": (lambda: LIF(0.9, reset="zero"), lambda: LIF(0.8, reset="zero")),
    "CubaLIF": (lambda: LIF(0.9, reset="zero", synapse=IIR((0.8,), (1.0,))),) * 2,
    "r = 1": (
        lambda: LIF(0.9, None, 0.1, reset="zero", synapse=IIR((), (0.1,))),
        lambda: LIF(0.8, None, 0.2, reset="zero", synapse=IIR((), (0.2,))),
    ),
    "no leak": (lambda: LIF(1.0, None, 3.0, reset="zero"),) * 2,
}


# -- SpikingJelly ----------------------------------------------------------------------------------------------------


@pytest.fixture
def spikingjelly():
    return pytest.importorskip("spikingjelly.activation_based")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", NEURONS)
def test_to_spikingjelly(name, bias, x, spikingjelly):
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    model = ours(*(make() for make in NEURONS[name]), bias=bias)
    theirs = import_from_nir(export(model, x, dt=DT), dt=DT, step_mode="m")
    check(theirs(x)[0], model(x))


def test_a_network_of_images_to_spikingjelly(spikingjelly):
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    torch.manual_seed(1)
    model = nn.Sequential(
        EachStep(nn.Conv2d(2, 4, 3, padding=1)), LIF(0.9, None, 0.5, reset="zero"),
        EachStep(nn.AvgPool2d(2), nn.Flatten()),
        nn.Linear(64, 10, bias=False), LIF(0.8, None, 0.3, reset="zero"),
    )  # fmt: skip
    x = (torch.rand(20, 3, 2, 8, 8) < 0.5).float()
    check(import_from_nir(export(model, x, dt=DT), dt=DT, step_mode="m")(x)[0], model(x))


@pytest.mark.parametrize(
    "make",
    [
        lambda n: (n.LIFNode(7.0, v_threshold=0.2), n.IFNode(v_threshold=0.5)),
        lambda n: (n.LIFNode(7.0, decay_input=False, v_reset=-0.3), n.IFNode(v_reset=0.1)),
        lambda n: (n.ParametricLIFNode(5.0, v_threshold=0.2), n.LIFNode(4.0, decay_input=False)),
        lambda n: (n.CUBALIFNode(0.8, 0.9, v_reset=0.0), n.CUBALIFNode(0.7, 0.8, v_reset=0.0)),
    ],
    ids=["LIF-IF", "v_reset", "PLIF-LIF", "CUBALIF"],
)
def test_from_spikingjelly(make, x, spikingjelly):
    from spikingjelly.activation_based.nir_exchange import export_to_nir

    layer = spikingjelly.layer
    first, second = make(spikingjelly.neuron)
    theirs = nn.Sequential(linear(30, 20, cls=layer.Linear), first, linear(10, 30, False, cls=layer.Linear), second)
    spikingjelly.functional.set_step_mode(theirs, "m")
    with torch.no_grad():
        expected = theirs(x)
    spikingjelly.functional.reset_net(theirs)
    check(load(export_to_nir(theirs, x, dt=DT), dt=DT, tie_fires=True)(x), expected)


def test_spikingjelly_starts_a_cubalif_at_its_reset_potential(x, spikingjelly):
    """It leaks to 0, where ours starts."""
    from spikingjelly.activation_based.nir_exchange import export_to_nir

    theirs = nn.Sequential(spikingjelly.neuron.CUBALIFNode(0.7, 0.8, v_reset=-0.3, v_threshold=4.0))
    spikingjelly.functional.set_step_mode(theirs, "m")
    expected = theirs(x)
    spikingjelly.functional.reset_net(theirs)
    network = load(export_to_nir(theirs, x, dt=DT), dt=DT, tie_fires=True)
    _, zero = network(x[:0], return_state=True)
    (name,) = zero
    state = {name: zero[name]._replace(v=torch.full((B, 20), -0.3))}
    check(network(x, state=state), expected)
    assert share(network(x), expected) > 0.001


def test_what_spikingjelly_refuses(x, spikingjelly):
    from spikingjelly.activation_based.nir_exchange import export_to_nir, import_from_nir

    def take(layer):
        return import_from_nir(export(layer, (20,), dt=DT), dt=DT)

    with pytest.raises(ValueError, match="r must equal 1 or tau / dt"):
        take(LIF(0.9, reset="zero", synapse=IIR((), (0.5,))))
    with pytest.raises(ValueError, match="v_leak must equal v_reset"):
        take(LIF(0.9, reset="zero", reset_potential=-0.3))
    with pytest.raises(ValueError, match="must be uniform"):
        take(LIF(torch.linspace(0.1, 0.9, 20), reset="zero"))
    soft = spikingjelly.neuron.LIFNode(7.0, v_reset=None, step_mode="m")
    with pytest.raises(NotImplementedError, match="soft reset"):
        export_to_nir(nn.Sequential(soft), x, dt=DT)


# -- snnTorch --------------------------------------------------------------------------------------------------------


@pytest.fixture
def snn():
    snn = pytest.importorskip("snntorch")
    pytest.importorskip("snntorch.export_nir")
    # Empties the library's list of all its neurons: its reset fails at a StateLeaky, which another test may have made.
    snn.SpikingNeuron.init()
    return snn


def leaky(snn, kind, **options):
    """Two layers of snnTorch. Their graphs have types where the coefficients are one for each neuron."""

    def neurons(n, decay, **more):
        each = {"beta": torch.full((n,), decay), "threshold": torch.ones(n), "init_hidden": True, **options, **more}
        return snn.Leaky(**each) if kind == "Leaky" else snn.Synaptic(alpha=torch.full((n,), 0.8), **each)

    return nn.Sequential(linear(30, 20), neurons(30, 0.9), linear(10, 30, False), neurons(10, 0.8, output=True))


def from_snntorch(model, x):
    """Its graph, and its spikes."""
    from snntorch import utils
    from snntorch.export_nir import export_to_nir

    graph = quiet(export_to_nir, model, x[0, :1], ignore_dims=[0])
    utils.reset(model)
    with torch.no_grad():
        return graph, torch.stack([model(now)[0] for now in x])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", ["LIF", "CubaLIF", "r = 1"])
def test_to_snntorch(name, bias, x, snn):
    from snntorch.import_nir import import_from_nir

    model = ours(*(make() for make in NEURONS[name]), bias=bias)
    check(steps(quiet(import_from_nir, export(model, x, dt=DT)), x), model(x))


@pytest.mark.parametrize(
    ("kind", "options", "reading"),
    [
        ("Leaky", {"reset_mechanism": "zero"}, {}),
        ("Synaptic", {"reset_mechanism": "zero", "reset_delay": False}, {}),
        ("Leaky", {}, {"reset": "filter", "reset_decay": 0.0}),  # the default: subtraction in the next step
        ("Synaptic", {}, {"reset": "filter", "reset_decay": 0.0}),
    ],
)
def test_from_snntorch(kind, options, reading, x, snn):
    graph, expected = from_snntorch(leaky(snn, kind, **options), x)
    check(load(graph, dt=DT, **reading)(x), expected)


def test_departures_of_snntorch(x, snn):
    from snntorch.import_nir import import_from_nir

    # Subtraction is written as a reset to 0: its own round trip differs as ours does.
    graph, expected = from_snntorch(leaky(snn, "Leaky"), x)
    assert share(load(graph, dt=DT)(x), expected) > 0.02
    assert share(steps(quiet(import_from_nir, graph), x), expected) > 0.02
    # Its subtraction without a delay is none of ours.
    graph, expected = from_snntorch(leaky(snn, "Leaky", reset_delay=False), x)
    for reading in ({"reset": "subtract"}, {"reset": "filter", "reset_decay": 0.0}):
        assert share(load(graph, dt=DT, **reading)(x), expected) > 0.01
    # The potential that Synaptic sets to 0 is the next one.
    graph, expected = from_snntorch(leaky(snn, "Synaptic", reset_mechanism="zero"), x)
    assert share(load(graph, dt=DT)(x), expected) > 0.02
    # v_reset is not read, an IF leaks, and flattening begins at the batch.
    model = ours(LIF(0.9, reset="zero", reset_potential=-0.5))
    assert share(steps(quiet(import_from_nir, export(model, x, dt=DT)), x), model(x)) > 0.005
    integrator = nir.IF(r=np.ones(20), v_threshold=np.ones(20), v_reset=np.zeros(20))
    network = quiet(import_from_nir, nir.NIRGraph.from_list(integrator))
    assert [module.beta.item() for module in network.modules() if isinstance(module, snn.Leaky)] == pytest.approx([0.9])
    flat = export(EachStep(nn.Flatten()), (2, 3), dt=DT)
    out = quiet(import_from_nir, flat)(torch.zeros(B, 2, 3))
    assert (out[0] if isinstance(out, tuple) else out).shape == (B * 2, 3)


# -- Norse -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def norse():
    return pytest.importorskip("norse.torch")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", ["CubaLIF", "r = 1"])
def test_to_norse(name, bias, x, norse):
    model = ours(*(make() for make in NEURONS[name]), bias=bias)
    check(steps(norse.from_nir(export(model, x, dt=DT), dt=DT), x), model(x))


@pytest.mark.parametrize("v_leak", [0.0, 0.2])
def test_from_norse(v_leak, x, norse):
    """Its time constants are times the dt that is given, so it is given 1."""
    slow = norse.LIFBoxParameters(tau_mem_inv=torch.tensor(50.0), v_th=torch.tensor(0.5), v_leak=torch.tensor(v_leak))
    theirs = norse.SequentialState(
        linear(30, 20, scale=5), norse.LIFBoxCell(dt=1e-3), linear(10, 30, scale=5), norse.LIFBoxCell(slow, dt=1e-3)
    )
    graph = norse.to_nir(theirs, x[0, :1], dt=1.0)
    check(load(graph, dt=1e-3)(x), steps(theirs, x))


def test_departures_of_norse(x, norse):
    box = norse.SequentialState(linear(30, 20), norse.LIFBoxCell(dt=1e-3))
    with pytest.raises(ValueError, match=r"node '1', a LIF: a time constant must be at least dt = 0.001; got 1e-05"):
        load(norse.to_nir(box, x[0, :1], dt=1e-3), dt=1e-3)
    # r is not read for a LIF, v_reset never.
    model = ours(LIF(0.9, reset="zero"))
    assert share(steps(norse.from_nir(export(model, x, dt=DT), dt=DT), x), model(x)) > 0.05
    low = norse.LIFBoxParameters(v_reset=torch.tensor(-0.5))
    graph = norse.to_nir(norse.SequentialState(norse.LIFBoxCell(low)), x[0, :1], dt=1.0)
    assert np.all(np.asarray(graph.nodes["0"].v_reset) == 0)
    # An IAF adds its input as it is: its r is that of steps of 1.
    iaf = norse.SequentialState(linear(30, 20), norse.IAFCell(dt=1e-3))
    check(load(norse.to_nir(iaf, x[0, :1], dt=1.0), dt=1.0)(x), steps(iaf, x))
    # A LIFCell adds its input to the current as it is, which w_in does not say.
    cuba = norse.SequentialState(linear(30, 20), norse.LIFCell(dt=1e-3))
    graph, expected = norse.to_nir(cuba, x[0, :1], dt=1.0), steps(cuba, x)
    assert share(load(graph, dt=1e-3)(x), expected) > 0.02
    graph.nodes["1"].w_in = graph.nodes["1"].tau_syn / 1e-3
    check(load(graph, dt=1e-3)(x), expected)
    # Nor is v_reset of a CubaLIF read.
    model = ours(LIF(0.9, reset="zero", reset_potential=-0.5, synapse=IIR((0.8,), (1.0,))))
    assert share(steps(norse.from_nir(export(model, x, dt=DT), dt=DT), x), model(x)) > 0.02


# -- sinabs ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def sinabs():
    return pytest.importorskip("sinabs.nir")


def test_from_sinabs(x, sinabs):
    """It takes tau in steps, exact decays, and subtraction, and its default is a normalized input."""
    from sinabs import activation, layers

    def neurons(cls, **options):
        return cls(batch_size=B, spike_fn=activation.SingleSpike, **options)

    theirs = nn.Sequential(
        linear(30, 20),
        neurons(layers.LIFSqueeze, tau_mem=10.0),
        linear(10, 30),
        neurons(layers.IAFSqueeze, min_v_mem=None),
    )
    with torch.no_grad():
        expected = train(theirs(rows(x)))
    graph = sinabs.to_nir(theirs, rows(x))
    check(load(graph, dt=1.0, method="exponential", reset="subtract", tie_fires=True)(x), expected)
    assert share(load(graph, dt=1.0, method="exponential", tie_fires=True)(x), expected) > 0.01
    assert share(load(graph, dt=1.0, reset="subtract", tie_fires=True)(x), expected) > 0.001


@pytest.mark.filterwarnings("ignore::hnn_kernels.nir.NIRWarning")
def test_to_sinabs(x, sinabs):
    """With steps of 1. It reads neither r nor a reset, and its neurons fire several times in a step unless told."""
    from sinabs import activation

    model = ours(LIF(0.9, reset="subtract"), LIF(0.8, reset="subtract"))
    theirs = sinabs.from_nir(export(model, x, dt=1.0, method="exponential"), batch_size=B)
    for module in theirs.modules():
        if hasattr(module, "spike_fn"):
            module.spike_fn = activation.SingleSpike
    with torch.no_grad():
        check(train(theirs(rows(x))[0]), model(x))


def test_departures_of_sinabs(x, sinabs):
    with pytest.raises(KeyError):  # it has no Linear without a bias
        sinabs.from_nir(export(ours(LIF(0.9, reset="zero"), bias=False), x, dt=1.0), batch_size=B)
    fires = sinabs.from_nir(export(LIF(0.9, None, 0.1, reset="zero"), (20,), dt=1.0), batch_size=B)(rows(x))[0]
    assert fires.max() > 1


# -- nirtorch --------------------------------------------------------------------------------------------------------


def test_departures_of_nirtorchs_default_layers():
    layers = pytest.importorskip("nirtorch.nir_interpreter").DEFAULT_MAP
    weight, bias = np.ones((3, 2), np.float32), np.ones(3, np.float32)
    assert not torch.equal(layers[nir.Affine](nir.Affine(weight, bias)).bias, torch.ones(3))
    kernel, options = np.ones((3, 2, 5), np.float32), {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
    conv = layers[nir.Conv1d](nir.Conv1d(input_shape=None, weight=kernel, bias=bias, **options))
    assert (conv.in_channels, conv.out_channels) == (3, 2)
