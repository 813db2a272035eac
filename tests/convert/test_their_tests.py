"""Unit tests that snnTorch and SpikingJelly have for their neurons, restated over unrolled and converted modules.

Their released packages do not ship them: these say in our words what the tests in their repositories check. Norse ships
its tests, and they run as they are (``test_norse.py``). Those of sinabs are in ``test_their_sinabs_tests.py``.
"""

import copy

import pytest
import torch
from torch import nn

import hnn_kernels
from support.converted import by_the_loop
from support.unrolled import left

pytest.importorskip("snntorch", reason="its tests need the extra 'peers'")
pytest.importorskip("spikingjelly", reason="its tests need the extra 'peers'")
import snntorch as snn
from spikingjelly.activation_based import functional, neuron, surrogate

# -- snnTorch: each neuron over an input of 0.25 and one of 0 ---------------------------------------------------------

RESETS = ("subtract", "zero", "none")
MAKE = {
    "leaky": lambda **given: snn.Leaky(beta=0.5, **given),
    "lapicque": lambda **given: snn.Lapicque(beta=0.5, **given),
    "synaptic": lambda **given: snn.Synaptic(alpha=0.5, beta=0.5, **given),
    "alpha": lambda **given: snn.Alpha(alpha=0.6, beta=0.5, **given),
    "rleaky": lambda **given: snn.RLeaky(beta=0.5, V=0.5, all_to_all=False, **given),
    "rsynaptic": lambda **given: snn.RSynaptic(alpha=0.5, beta=0.5, V=0.5, all_to_all=False, **given),
}


class Each(nn.Module):
    """Every neuron with every reset, with its states outside and inside."""

    def __init__(self):
        super().__init__()
        pairs = [(name, reset) for name in MAKE for reset in RESETS]
        self.outside = nn.ModuleDict({f"{n} {r}": MAKE[n](reset_mechanism=r) for n, r in pairs})
        self.inside = nn.ModuleDict({f"{n} {r}": MAKE[n](reset_mechanism=r, init_hidden=True) for n, r in pairs})

    def forward(self, x):
        found = {}
        for name, one in self.outside.items():
            before = one.reset_mem()
            states = before if isinstance(before, tuple) else (before,)
            found[name] = []
            for now in x:
                out = one(now, *states)
                states = out[-len(states) :]
                found[name].append(out)
        return found, {name: [one(now) for now in x] for name, one in self.inside.items()}


@pytest.fixture(scope="module")
def recorded():
    with pytest.MonkeyPatch.context() as patch:
        by_the_loop(patch)
        snn.SpikingNeuron.init()
        net = Each()
        unrolled = hnn_kernels.unroll(net)
        found = unrolled(torch.tensor([0.25, 0.0]).unsqueeze(-1))
        assert not unrolled.refused
        assert len(unrolled.report) == 2 * len(MAKE) * len(RESETS)
        assert all(layer.unrolled for layer in unrolled.report)
        yield net, *found


@pytest.mark.parametrize("reset", RESETS)
def test_potentials_and_currents_decay(recorded, reset):
    _, steps, _ = recorded
    for name in ("leaky", "rleaky"):
        first, second = (step[-1] for step in steps[f"{name} {reset}"])
        assert second == first * 0.5
    (_, m0), (_, m1) = steps[f"lapicque {reset}"]
    assert m1 < m0
    for name in ("synaptic", "rsynaptic"):
        (*_, s0, m0), (*_, s1, m1) = steps[f"{name} {reset}"]
        assert s0 == 2 * s1
        assert m1 == m0 * 0.5 + s1
    (_, e0, i0, m0), (_, e1, i1, m1) = steps[f"alpha {reset}"]
    assert e0 + i0 == 0
    assert e1 + i1 > 0
    assert m0 < m1


def test_no_neuron_fires_at_a_quarter(recorded):
    _, outside, inside = recorded
    for steps in (*([step[0] for step in found] for found in outside.values()), *inside.values()):
        assert steps[0] == steps[1] == 0


@pytest.mark.parametrize("name", MAKE)
def test_the_reset_may_be_changed_and_the_neuron_then_computes_itself(name):
    changed = MAKE[name]()
    for reset, value in (("zero", 1), ("none", 2), ("subtract", 0)):
        changed.reset_mechanism = reset
        assert changed.reset_mechanism_val == value
    changed.reset_mechanism = "none"
    with pytest.raises(ValueError, match="reset_mechanism was changed"):
        hnn_kernels.unroll(changed)


def test_states_from_outside_are_an_error_where_they_are_inside(recorded):
    class Wrong(nn.Module):
        def __init__(self):
            super().__init__()
            self.lif = snn.Leaky(0.5, init_hidden=True)

        def forward(self, x):
            return self.lif(x, x)

    unrolled = hnn_kernels.unroll(Wrong())
    with pytest.raises(TypeError, match="`mem` should not be passed"):
        unrolled(torch.ones(2, 1))


# -- SpikingJelly, all steps in a call and step by step ----------------------------------------------------------------


class Loop(nn.Module):
    def __init__(self, node):
        super().__init__()
        self.node = node

    def forward(self, x):
        return torch.stack([self.node(now) for now in x])


@pytest.fixture(params=["converted", "unrolled"])
def over_time(request, monkeypatch):
    """Make of a node a function over all steps, which computes with our kernels."""
    by_the_loop(monkeypatch)

    def make(node):
        if request.param == "converted":
            node.step_mode = "m"
            assert hnn_kernels.convert(node).replaced
            return node
        unrolled = hnn_kernels.unroll(Loop(node))

        def call(x):
            out = unrolled(x)
            assert not unrolled.refused
            return out

        return call

    return make


def test_counts_of_several_spikes_and_what_is_left_of_the_potential(over_time):
    for training in (True, False):
        node = neuron.ILIFNode(v_threshold=1.0, tau=4 / 3).train(training)
        x = torch.tensor([[[3.2, 0.4, 5.8]], [[0.0, 0.0, 0.0]]])
        out = over_time(node)(x)
        assert torch.equal(out, torch.tensor([[[3.0, 0.0, 4.0]], [[0.0, 0.0, 0.0]]]))
        torch.testing.assert_close(node.v, 0.25 * (x[0] - out[0]))


@pytest.mark.parametrize(("window", "gradient"), [(None, [0.0, 1.0, 0.0, 0.0]), ((-0.5, 4.5), [1.0, 1.0, 1.0, 0.0])])
def test_a_gradient_inside_a_window(over_time, window, gradient):
    function = surrogate.MultiLevelSpikeCount(4, **({} if window is None else {"grad_window": window}))
    x = torch.tensor([[[-0.25, 0.5, 4.25, 4.75]], [[0.0, 0.0, 0.0, 0.0]]], requires_grad=True)
    out = over_time(neuron.ILIFNode(surrogate_function=function))(x)
    out[0].sum().backward()
    assert torch.equal(x.grad[0], torch.tensor([gradient]))


def test_halves_are_rounded_to_even(over_time):
    x = torch.tensor([[[0.5, 1.5, 2.5, 3.5, 4.5]], [[0.0] * 5]])
    assert torch.equal(over_time(neuron.ILIFNode())(x)[0], torch.tensor([[0.0, 2.0, 2.0, 4.0, 4.0]]))


@pytest.mark.parametrize(
    ("threshold", "offset", "axis", "reset", "shape"),
    [
        (1.5, 0.25, -1, None, (3, 2, 2)),
        (torch.tensor([1.0, 1.5, 2.0]), torch.tensor([0.0, 0.25, -0.25]), -1, None, (4, 2, 3)),
        (torch.tensor([1.0, 2.0]), torch.tensor([0.0, 0.5]), 1, None, (3, 1, 2, 2, 2)),
        (torch.tensor([1.0, 2.0]), 0.0, -1, 0.25, (5, 3, 2)),
    ],
    ids=("numbers", "last axis", "channels", "hard"),
)
def test_thresholds_and_offsets_of_channels(over_time, threshold, offset, axis, reset, shape):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2
    node = neuron.ActivationAwareIFNode(threshold, offset, axis, v_reset=reset)
    got = over_time(node)(x)

    def broadcast(value):
        value = torch.as_tensor(value)
        return value.view(-1, *[1] * (len(shape) - 3)) if value.dim() and axis == 1 else value

    v, expected = torch.full(shape[1:], reset or 0.0), []
    for now in x:
        v = v + now
        expected.append((v + broadcast(offset) >= broadcast(threshold)).float())
        hard = reset is not None
        v = torch.where(expected[-1] > 0, reset, v) if hard else v - expected[-1] * broadcast(threshold)
    assert torch.equal(got, torch.stack(expected))
    assert 0 < got.mean() < 1
    torch.testing.assert_close(node.v, v)


NODES = [
    "IFNode", "LIFNode", "ParametricLIFNode", "QIFNode", "EIFNode", "IzhikevichNode", "KLIFNode",
    "ComplementaryLIFNode", "ILIFNode", "HalfThresholdIFNode", "SimpleIFNode", "SimpleLIFNode", "CUBALIFNode",
    "ActivationAwareIFNode", "TernaryIFNode", "TernaryLIFNode", "RAFNode",
]  # fmt: skip


@pytest.mark.parametrize("name", NODES)
def test_dtypes_follow_and_a_reset_forgets_the_batch(name, monkeypatch):
    by_the_loop(monkeypatch)
    node = getattr(neuron, name)(**({"tau": 2.0, "decay_input": True} if name == "SimpleLIFNode" else {}))
    node.step_mode = "m"
    assert hnn_kernels.convert(node).replaced
    for dtype in (torch.float64, torch.float16):
        node = node.to(dtype)
        assert node(torch.rand(2, 4, 3, dtype=dtype)).dtype == dtype
        node.reset()
        assert node(torch.rand(2, 3, 3, dtype=dtype)).shape == (2, 3, 3)
        node.reset()


@pytest.mark.parametrize("v_reset", [0.0, None])
@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize("kind", ["IFNode", "LIFNode", "ParametricLIFNode"])
def test_gradients_of_an_input_a_state_and_a_time_constant(kind, v_reset, detach_reset, over_time):
    given = {} if kind == "IFNode" else {"decay_input": not detach_reset}
    make = {"v_threshold": 0.6, "v_reset": v_reset, "surrogate_function": surrogate.Sigmoid(4.0), **given}
    found = []
    for ours in (False, True):
        node = getattr(neuron, kind)(detach_reset=detach_reset, **make)
        call = over_time(node) if ours else Loop(node)
        torch.manual_seed(1)
        x, v = torch.randn(2, 2, 3).requires_grad_(), torch.randn(2, 3).requires_grad_()
        node.v = v
        out = call(x)
        (out.sum() + node.v.sum()).backward()
        found.append([out, node.v, x.grad, v.grad, *(p.grad for p in node.parameters())])
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected)


def _layouts(x):
    yield x.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2)
    yield x.permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2)
    wide = x.new_empty(*x.shape[:-1], 2 * x.shape[-1] + 1)
    wide[..., 1::2] = x
    yield wide[..., 1::2]
    yield x[:1].expand_as(x)
    yield x.view(-1).as_strided(x.shape, (1,) * x.dim())


def test_any_layout_of_the_input(monkeypatch):
    by_the_loop(monkeypatch)
    for kind in (neuron.LIFNode, neuron.KLIFNode):
        node = kind(step_mode="m")
        hnn_kernels.convert(node)
        for x in _layouts(torch.rand(4, 3, 2, 5) * 3):
            got = node(x)
            node.reset()
            assert torch.equal(got, node(x.contiguous()))
            assert got.data_ptr() != x.data_ptr()
            node.reset()


def test_a_number_as_the_state_is_that_state_everywhere(monkeypatch):
    by_the_loop(monkeypatch)
    x = torch.randn(3, 2, 2, 2, 2)
    one = neuron.GatedLIFNode(T=3, inplane=2)
    other = copy.deepcopy(one)
    hnn_kernels.convert(one)
    hnn_kernels.convert(other)
    one.v, other.v = 2.0, torch.full_like(x[0], 2.0)
    assert torch.equal(one(x), other(x))
    assert torch.equal(one.v, other.v)


def test_another_shape_begins_at_the_reset(over_time):
    node = neuron.LIFNode(v_reset=0.25, tau=2.0)
    call = over_time(node)
    call(torch.full((2, 1, 1), 1.1))
    functional.reset_net(node)
    assert node.v == 0.25
    assert not left(lambda: call(torch.full((2, 1, 2), 0.3)))
    assert node.v.shape == (1, 2)
