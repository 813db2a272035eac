"""SpikingJelly's neurons beside their converted twins: spikes, potentials and gradients, over their options."""

import functools

import pytest
import torch
from torch import nn

import hnn_kernels
from support.converted import by_the_loop, same, twins

pytest.importorskip("spikingjelly", reason="converting SpikingJelly's modules needs the extra 'peers'")
from spikingjelly.activation_based import functional, neuron, surrogate

DTYPES = (torch.float32, torch.float64)
# Worst of these cases: 2.5e-6, the gradient of KLIF's k, which is a sum over all elements. The other half is margin.
TOLERANCE = {torch.float32: 5e-6, torch.float64: 1e-13}
RESETS = {"hard": {"v_reset": 0.0}, "soft": {"v_reset": None}, "shifted": {"v_reset": -0.2}}
SURROGATES = [
    surrogate.Sigmoid(3.0), surrogate.ATan(2.5), surrogate.Erf(1.5), surrogate.PiecewiseExp(1.2),
    surrogate.PiecewiseQuadratic(0.8), surrogate.Rect(0.7), surrogate.SoftSign(1.7), surrogate.SuperSpike(0.6),
]  # fmt: skip


EACH = torch.linspace(0.5, 1.5, 40)


def inputs(dtype=torch.float32, shape=(14, 3, 40), scale=1.6):
    torch.manual_seed(3)
    return (torch.randn(shape) * scale).to(dtype)


def over(module, x):
    """Call a module over a train, by its step mode."""
    return module(x) if module.step_mode == "m" else torch.stack([module(now) for now in x])


def run(module, x):
    """Two trains, which are parts of the time, and what the module remembers."""
    spikes = torch.cat([over(module, x[:6]), over(module, x[6:])])
    kept = [value for value in module.memories() if isinstance(value, torch.Tensor)]
    # The library's ActivationAwareIFNode records its trains alone, and no steps.
    recorded = [module.v_seq] if getattr(module, "v_seq", None) is not None else []
    recorded += getattr(module, "state_seqs", None) or []
    functional.reset_net(module)
    assert isinstance(next(module.memories()), float) or not next(module.memories()).requires_grad
    return [spikes, *(value.clone() for value in kept), *recorded]


def options(kind):
    """Every option that changes the step: those of a class in turn with the resets."""
    flags = {
        neuron.LIFNode: ({"decay_input": True, "tau": 3.3}, {"decay_input": False}),
        neuron.ParametricLIFNode: ({"decay_input": True, "init_tau": 3.3}, {"decay_input": False}),
        neuron.KLIFNode: ({"decay_input": True, "scale_reset": True}, {"decay_input": False, "scale_reset": False}),
        neuron.IzhikevichNode: ({"a": 0.1, "b": 0.2, "tau_w": 3.0}, {"a0": 0.5}),
        neuron.TernaryLIFNode: ({"decay_input": True, "tau": 3.3}, {"decay_input": False}),
        neuron.RAFNode: ({"omega": 0.7, "b": -0.1, "dt": 1.5},),
    }.get(kind, ({},))
    # Without a bound V of these grows beyond every number.
    resets = [r for r in RESETS if r != "soft" or kind not in (neuron.QIFNode, neuron.EIFNode, neuron.IzhikevichNode)]
    for i, reset in enumerate(resets):
        for j, flag in enumerate(flags):
            yield {**RESETS[reset], **flag, "detach_reset": (i + j) % 2 == 1, "store_v_seq": (i + j) % 3 == 0}


CASES = [
    (kind, given)
    for kind in (
        neuron.IFNode, neuron.LIFNode, neuron.ParametricLIFNode, neuron.KLIFNode, neuron.QIFNode, neuron.EIFNode,
        neuron.IzhikevichNode, neuron.TernaryIFNode, neuron.TernaryLIFNode, neuron.RAFNode,
    )
    for given in options(kind)
    if kind not in (neuron.QIFNode, neuron.EIFNode) or given["v_reset"] <= 0.0
]  # fmt: skip


@pytest.mark.parametrize("mode", ["m", "s"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("kind", "given"), CASES, ids=lambda case: getattr(case, "__name__", None))
def test_neurons_with_their_options(kind, given, dtype, mode, monkeypatch):
    by_the_loop(monkeypatch)
    made = functools.partial(kind, step_mode=mode, surrogate_function=surrogate.ATan(), **given)
    same(made, run, inputs(dtype), TOLERANCE[dtype])


def set_mode(module, mode):
    functional.set_step_mode(module, mode)
    return module


def watched(module):
    module.register_forward_hook(lambda *args: None)
    return module


def half(kind, later=None, **given):
    """Make a neuron, and set what its constructor does not take."""
    module = kind(**given)
    for name, value in {"step_mode": "m", **(later or {})}.items():
        setattr(module, name, value)
    return module


@pytest.mark.parametrize("mode", ["m", "s"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "make",
    [
        lambda: half(neuron.HalfThresholdIFNode, v_threshold=1.5),
        lambda: half(neuron.HalfThresholdIFNode, detach_reset=True, store_v_seq=True),
        lambda: half(neuron.SimpleIFNode, v_reset=None),
        lambda: half(neuron.SimpleIFNode, v_reset=-0.2, detach_reset=True),
        lambda: half(neuron.SimpleLIFNode, tau=2.5, decay_input=True, v_reset=-0.1),
        lambda: half(neuron.SimpleLIFNode, tau=2.5, decay_input=False, detach_reset=True),
        lambda: half(neuron.CUBALIFNode, {"detach_reset": True, "store_v_seq": True}, v_decay=0.6, v_reset=None),
        lambda: half(neuron.CUBALIFNode, c_decay=0.6, v_reset=-0.3, surrogate_function=surrogate.ATan()),
        lambda: half(neuron.CUBALIFNode, v_reset=None, surrogate_function=surrogate.ATan()),
        lambda: half(neuron.ComplementaryLIFNode, tau=3.0),
        lambda: half(neuron.ComplementaryLIFNode).eval(),
        lambda: half(neuron.ComplementaryLIFNode, store_state_seqs=True),
        lambda: half(neuron.ILIFNode, detach_reset=True),
        lambda: half(neuron.ILIFNode, tau=3.0, store_v_seq=True),
        lambda: half(neuron.ILIFNode, surrogate_function=surrogate.MultiLevelSpikeCount(2, grad_window=(-0.5, 2.5))),
        lambda: half(neuron.ActivationAwareIFNode, v_threshold=EACH, v_offset=EACH - 0.7, store_v_seq=True),
        lambda: half(neuron.ActivationAwareIFNode, v_threshold=EACH, channel_dim=1, v_reset=-0.3, detach_reset=True),
    ],
    ids=(
        "half",
        "half recorded",
        "simple",
        "simple hard",
        "simple leaky",
        "simple leaky whole",
        "current recorded",
        "current hard",
        "current soft",
        "clif",
        "clif eval",
        "clif recorded",
        "ilif",
        "ilif recorded",
        "ilif window",
        "aware",
        "aware hard",
    ),
)
def test_other_neurons(make, dtype, mode, monkeypatch):
    by_the_loop(monkeypatch)
    # The mode is set behind the conversion, as set_step_mode may be.
    same(make, lambda module, x: run(set_mode(module, mode), x), inputs(dtype), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gated_neurons(dtype, monkeypatch):
    by_the_loop(monkeypatch)

    def make():
        import numpy as np

        np.random.seed(5)
        return neuron.GatedLIFNode(T=6, inplane=4)

    x = inputs(dtype, (6, 3, 4, 5, 5))
    same(make, lambda module, x: [module(x), module.v], x, TOLERANCE[dtype])


@pytest.mark.parametrize("function", SURROGATES, ids=lambda function: type(function).__name__)
def test_surrogates(function):
    make = functools.partial(neuron.LIFNode, step_mode="m", surrogate_function=function)
    same(make, run, inputs(torch.float64), 1e-13)


@pytest.mark.parametrize("decode", [None, "max-mem", "max-abs-mem", "mean-mem", "last_mem"])
@pytest.mark.parametrize("make", [neuron.NonSpikingIFNode, functools.partial(neuron.NonSpikingLIFNode, 3.0)])
def test_read_outs(make, decode):
    library, ours = twins(lambda: make(decode=decode))
    x = inputs()
    expected, got = library(x), ours(x)
    if decode is None:
        assert isinstance(got, list)
        expected, got = torch.stack(expected), torch.stack(got)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.v, library.v, rtol=1e-5, atol=1e-6)


def test_a_compiled_neuron():
    """One neuron by definition through its kernel, with the gradient of a parameter."""
    make = functools.partial(neuron.KLIFNode, step_mode="m", scale_reset=True)
    same(make, run, inputs(), TOLERANCE[torch.float32])


@pytest.mark.parametrize("v_reset", [0.0, None])
def test_a_step_of_a_learnt_time_constant_is_no_call_of_lif(v_reset, monkeypatch):
    monkeypatch.setattr("hnn_kernels._convert.spikingjelly_calls.lif", lambda *args, **kwargs: pytest.fail("lif"))
    by_the_loop(monkeypatch)
    make = functools.partial(neuron.ParametricLIFNode, 3.3, v_reset=v_reset)
    same(make, run, inputs(), TOLERANCE[torch.float32])
    library, ours = twins(make)
    over(library, inputs())
    over(ours, inputs())
    assert torch.equal(ours.v, library.v)


def test_a_step_of_a_learnt_time_constant_in_a_graph(monkeypatch):
    by_the_loop(monkeypatch)
    library, ours = twins(neuron.ParametricLIFNode)
    graph = torch.compile(ours, backend="eager", fullgraph=True)
    assert torch.equal(torch.stack([graph(x) for x in inputs()]), over(library, inputs()))


def test_without_a_compiler_the_library_computes_a_step_of_a_learnt_time_constant(monkeypatch):
    monkeypatch.setattr("hnn_kernels._convert.spikingjelly._search_once", lambda: "there is no C++ compiler")
    library, ours = neuron.ParametricLIFNode(), neuron.ParametricLIFNode()
    (entry,) = hnn_kernels.convert(ours)
    assert entry.mapping.endswith("the library computes single steps: there is no C++ compiler")
    with pytest.warns(RuntimeWarning, match="computes this call itself: there is no C"):
        found = over(ours, inputs())
    assert torch.equal(found, over(library, inputs()))
    ours.step_mode = "m"
    ours.reset()
    assert torch.equal(ours(inputs()), found)


def test_exact_ties_fire():
    grid = torch.randint(-2, 3, (20, 3, 50)) / 4
    same(lambda: neuron.IFNode(step_mode="m"), run, grid, 1e-6)


@pytest.mark.parametrize("mode", ["m", "s"])
def test_the_functional_form_has_the_states_of_its_caller(mode):
    library, ours = twins(lambda: neuron.LIFNode(step_mode=mode))
    x, v = inputs() if mode == "m" else inputs()[0], torch.full((3, 40), 0.3)
    (expected,), (after,) = library.functional_forward((x,), (v,))
    (got,), (found,) = ours.functional_forward((x,), (v,))
    assert torch.equal(got, expected)
    torch.testing.assert_close(found, after)
    assert ours.v == library.v == 0.0


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: neuron.LIFNode(step_mode="m", surrogate_function=surrogate.S2NN()), "no surrogate like .*S2NN"),
        (lambda: neuron.LIFNode(step_mode="m", surrogate_function=surrogate.ATan(spiking=False)), "spiking mode"),
        (lambda: neuron.LIFNode(step_mode="m", surrogate_function=surrogate.ATan(torch.tensor(2.0))), "alpha"),
        (lambda: neuron.LIAFNode(torch.relu, True, step_mode="m"), "Python function of the potential"),
        (lambda: neuron.PSN(4), "no kernel computes its step"),
        (lambda: neuron.SimpleLIFNode(2.0, True, v_reset=None, step_mode="m"), "without v_reset"),
        (lambda: half(neuron.LIFNode, surrogate_function=watched(surrogate.ATan())), "surrogate has hooks"),
    ],
    ids=lambda case: case if isinstance(case, str) else "",
)
def test_what_stays_is_said(make, why):
    module = nn.Sequential(make())
    (entry,) = (one for one in hnn_kernels.convert(module) if one.name == "0")
    assert not entry.replaced
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(entry.why)
    assert type(module[0]).__module__.startswith("spikingjelly.")


@pytest.mark.parametrize(("mode", "kept"), [("m", torch.float32), ("s", torch.bfloat16)])
def test_half_precision_keeps_a_wide_state_within_a_call(mode, kept):
    library, ours = twins(lambda: neuron.LIFNode(step_mode=mode))
    spikes = over(ours, inputs(torch.bfloat16))
    assert spikes.dtype == torch.bfloat16
    assert ours.v.dtype == kept
    # A state that is rounded otherwise makes a spike fall otherwise here and there.
    assert float((spikes != over(library, inputs(torch.bfloat16))).float().mean()) < 0.01


@pytest.mark.parametrize("mode", ["m", "s"])
def test_another_batch_starts_anew(mode):
    library, ours = twins(lambda: neuron.LIFNode(step_mode=mode).eval())
    for x in (inputs(), inputs(shape=(14, 5, 40))):
        with torch.no_grad():
            assert torch.equal(over(ours, x), over(library, x))


# -- the library's tests of these neurons, restated: its page "Neuron" lists what they check -------------------------


def test_multi_step_is_single_steps():
    single, multi = neuron.LIFNode(tau=2.0), neuron.LIFNode(tau=2.0, step_mode="m")
    hnn_kernels.convert(multi)
    x = inputs()
    assert torch.equal(torch.stack([single(one) for one in x]), multi(x))
    torch.testing.assert_close(multi.v, single.v)
    multi.step_mode = "s"
    multi.reset()
    single.reset()
    assert torch.equal(multi(x[0]), single(x[0]))


@pytest.mark.parametrize("mode", ["m", "s"])
@pytest.mark.parametrize("make", [neuron.LIFNode, neuron.CUBALIFNode, neuron.KLIFNode, neuron.RAFNode])
def test_reset_and_detach(make, mode, monkeypatch):
    by_the_loop(monkeypatch)
    module = set_mode(make(), mode)
    hnn_kernels.convert(module)
    over(module, inputs().requires_grad_())
    assert all(value.requires_grad for value in module.memories())
    functional.detach_net(module)
    assert not any(value.requires_grad for value in module.memories())
    functional.reset_net(module)
    assert set(module.memories()) == {0.0}
