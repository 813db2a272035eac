"""Loops over single steps of this package's own layer, against the same loops unrolled."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import hnn_kernels
from hnn_kernels import IIR
from hnn_kernels._unroll import module
from hnn_kernels.nn import LIF
from support.unrolled import compare, hold_equal, left, passed

T, B, N = 5, 3, 8


def lif(**options):
    return LIF(0.8, None, 0.5, reset="subtract", **options)


class Loop(nn.Module):
    """A loop over a layer, something between, and another layer."""

    def __init__(self, between=None, first=None, features=N):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(N, N), nn.Linear(features, 4)
        self.lif1, self.lif2 = first or lif(), lif()
        self.between = between or nn.Identity()

    def forward(self, x):
        s1 = s2 = None
        outs = []
        for t in range(x.shape[0]):
            a, s1 = self.lif1(self.fc1(x[t]), steps=1, state=s1, return_state=True)
            b, s2 = self.lif2(self.fc2(self.between(a[0])), steps=1, state=s2, return_state=True)
            outs.append(b[0])
        return torch.stack(outs), s2.v


def inputs(*shape, scale=2.0):
    torch.manual_seed(1)
    return torch.rand(*(shape or (T, B, N))) * scale


def done(unrolled):
    assert not unrolled.refused
    return [layer.unrolled for layer in unrolled.report]


def test_layers_are_one_call_each():
    unrolled = hold_equal(Loop(), inputs())
    assert not unrolled.refused
    assert [(layer.name, layer.steps, layer.unrolled) for layer in unrolled.report] == [
        ("lif1", T, True), ("lif2", T, True),
    ]  # fmt: skip


class Reader(Loop):
    """Inputs of several forms, filters, and a potential."""

    def __init__(self):
        super().__init__(first=lif(synapse=IIR((0.5,), (1.0,)), axon=IIR((0.3, 0.1), (1.0, 0.2)), learn=("axon",)))
        self.lif2 = LIF(0.9, 0.5, 0.5, potential="train", tie_fires=False)

    def forward(self, x):
        s1 = s2 = None
        outs, potentials, total = torch.zeros(T, B, 4), [], 0.0
        for t, now in enumerate(x.unbind(1)):
            a, s1 = self.lif1(self.fc1(now)[None] + x[:, t : t + 1].transpose(0, 1), state=s1, return_state=True)
            (b, v), s2 = self.lif2(self.fc2(torch.cat([a[0], x[:, t]], 1)[:, :N]), steps=1, state=s2, return_state=True)
            outs[t] = b.squeeze(0)
            potentials.append(v[0])
            total = total + functional.softmax(v[0], -1)
        return outs, torch.stack(potentials, 1), total, s1.axon


def test_forms_of_input_and_output():
    assert all(done(hold_equal(Reader(), inputs(B, T, N))))


BETWEEN = {
    "batch norm": lambda: nn.BatchNorm1d(N),
    "layer norm": lambda: nn.LayerNorm(N),
    "dropout": lambda: nn.Dropout(0.5),
    "in place": lambda: nn.Sequential(nn.Linear(N, N), nn.ReLU(inplace=True)),
    "convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 2, 2)), nn.Conv2d(2, 4, 3, padding=1), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, N)
    ),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_what_stands_between_layers_keeps_its_meaning_of_a_step(name):
    net = Loop(BETWEEN[name]())
    assert all(done(hold_equal(net, inputs())))
    net.eval()
    assert all(done(hold_equal(net, inputs(), passes=1)))


@pytest.fixture
def written(monkeypatch):
    """The contracted graphs, in their order."""
    graphs = []

    def contract(graph_module):
        graphs.append(contract_them(graph_module))
        return graphs[-1]

    contract_them = module.contract
    monkeypatch.setattr(module, "contract", contract)
    return graphs


@pytest.mark.parametrize("name", ["layer norm", "convolution", None])
def test_the_graph_does_not_grow_with_the_steps(name, written):
    net = Loop(BETWEEN[name]() if name else None)
    unrolled = hnn_kernels.unroll(net)
    for steps in (T, T + 2):
        unrolled(inputs(steps, B, N))
    few, more = (str(graph.graph) for graph, _ in written)
    assert few.count("\n") == more.count("\n")
    assert "stack" not in more
    assert more.count("torch._C._nn.linear") == 2 + (name == "convolution")


class Circle(Loop):
    """The second layer's spikes come back to it; the first one's do not."""

    def forward(self, x):
        s1 = s2 = None
        b = torch.zeros(1, x.shape[1], 4)
        outs = []
        for t in range(x.shape[0]):
            a, s1 = self.lif1(self.fc1(x[t]), steps=1, state=s1, return_state=True)
            b, s2 = self.lif2(self.fc2(a[0]) - 0.5 * b[0].flip(-1), steps=1, state=s2, return_state=True)
            outs.append(b[0])
        return torch.stack(outs)


def test_what_feeds_back_is_left_and_named_and_the_rest_is_not():
    with pytest.warns(hnn_kernels.UnrollWarning, match=r"lif2 \(LIF\), 5 steps: left as it was.*comes back"):
        unrolled = hold_equal(Circle(), inputs())
    assert done(unrolled) == [True, False]


class Both(Loop):
    """Two layers that feed each other."""

    def forward(self, x):
        s1 = s2 = None
        back = torch.zeros(x.shape[1], 4)
        outs = []
        for t in range(x.shape[0]):
            a, s1 = self.lif1(self.fc1(x[t] - back.repeat(1, 2)), steps=1, state=s1, return_state=True)
            b, s2 = self.lif2(self.fc2(a[0]), steps=1, state=s2, return_state=True)
            back = b[0]
            outs.append(back)
        return torch.stack(outs)


def test_a_circle_through_all_layers_leaves_the_loop():
    net = Both()
    unrolled = hnn_kernels.unroll(net)
    said = left(unrolled, inputs())
    assert "lif1" in said
    assert "through lif2" in said
    assert "comes back" in unrolled.refused
    compare(passed(net, net, inputs()), passed(net, unrolled, inputs()))


class Broken(Loop):
    """A loop with something that a graph cannot hold, or that decides by values."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.said = []

    def forward(self, x):
        s1, outs = None, []
        for t in range(x.shape[0]):
            a, s1 = self.lif1(self.fc1(x[t]), steps=1, state=s1, return_state=True)
            self.said.append(t)
            if self.kind == "print":
                print("a step")
            elif self.kind == "item":
                self.said[-1] = a.sum().item()
            elif self.kind == "branch" and a.sum() > 3:
                a = a * 2
            elif self.kind == "state":
                s1 = s1._replace(v=s1.v * 0.5)
            elif self.kind == "switch":
                with torch.no_grad():
                    a = a + a
            outs.append(a[0])
        return torch.stack(outs)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("print", "test_unroll.py"),
        ("branch", "test_unroll.py"),
        ("state", "its state does not go from one of its steps"),
        ("switch", r"switches gradients.*test_unroll.py"),
    ],
)
def test_loops_that_are_no_graph_are_left_with_a_reason(kind, reason):
    net = Broken(kind)
    unrolled = hnn_kernels.unroll(net)
    with pytest.warns(hnn_kernels.UnrollWarning, match=reason):
        found = passed(net, unrolled, inputs())
    assert len(net.said) == T  # what ran, ran once
    compare(passed(net, net, inputs()), found)
    assert not left(unrolled, inputs())  # it is said once
    assert unrolled.refused


class Carried(Loop):
    """The user carries the states from call to call."""

    def forward(self, x, s1=None):
        outs = []
        for now in x:
            a, s1 = self.lif1(self.fc1(now), steps=1, state=s1, return_state=True)
            outs.append(a[0])
        return torch.stack(outs), s1


class Checkpointed(Carried):
    """Each step is computed again in backward."""

    def forward(self, x, s1=None):
        def step(now):
            return self.lif1(self.fc1(now), steps=1, state=None, return_state=True)[0]

        return torch.stack([checkpoint(step, now, use_reentrant=False) for now in x])


def test_a_checkpoint_inside_leaves_the_loop():
    net = Checkpointed()
    unrolled = hnn_kernels.unroll(net)
    expected = passed(net, net, inputs())
    assert "left as it was" in left(lambda: compare(expected, passed(net, unrolled, inputs())))
    assert unrolled.refused


def test_hooks_run_at_each_step_and_a_layer_may_be_put_in_later():
    net = Loop()
    unrolled = hnn_kernels.unroll(net)
    seen = []
    net.fc1.register_forward_hook(lambda module, args, out: out * 0.5)
    net.lif2.register_forward_pre_hook(lambda module, args: seen.append(1))
    net.lif1 = LIF(0.3, None, 0.4, reset="zero")  # not known to the compiled loop
    expected = passed(net, net, inputs())
    left(lambda: compare(expected, passed(net, unrolled, inputs())))
    assert len(seen) == 2 * T
    with torch.inference_mode():
        torch.testing.assert_close(unrolled(inputs()), net(inputs()))


def test_values_that_are_read_are_right():
    net = Broken("item")
    unrolled = hnn_kernels.unroll(net)
    compare(passed(net, net, inputs()), passed(net, unrolled, inputs()))  # the compiler may or may not take it
    assert len(net.said) == 2 * T
    assert net.said[:T] == pytest.approx(net.said[T:])


def test_batches_gradients_and_training_change():
    net = Loop(nn.Dropout(0.5))
    unrolled = hnn_kernels.unroll(net)
    for batch in (B, B + 1, B):
        compare(passed(net, net, inputs(T, batch, N)), passed(net, unrolled, inputs(T, batch, N)))
    unrolled.eval()
    assert not net.training
    with torch.no_grad():
        compare(passed(net, net, inputs()), passed(net, unrolled, inputs()))
    unrolled.train()
    compare(passed(net, net, inputs()), passed(net, unrolled, inputs()))
    with torch.autocast("cpu", torch.bfloat16):
        compare(passed(net, net, inputs()), passed(net, unrolled, inputs()))
    assert not unrolled.refused


def test_a_call_of_one_kind_too_many_runs_as_it_is(monkeypatch):
    monkeypatch.setattr(module, "_MOST", 1)
    net = Carried()
    unrolled = hnn_kernels.unroll(net)
    for batch in (B, B + 1, B):
        expected = passed(net, lambda x: net(x)[0], inputs(T, batch, N))
        said = left(lambda: compare(expected, passed(net, lambda x: unrolled(x)[0], inputs(T, batch, N))))  # noqa: B023
        assert ("more than 1 kinds of calls were compiled" in said) == (batch != B)
        assert bool(unrolled.refused) == (batch != B)


def test_the_model_is_as_it_was():
    net = Loop()
    before = {name: type(module) for name, module in net.named_modules()}
    kept = dict(vars(net.lif1))
    unrolled = hnn_kernels.unroll(net)
    unrolled(inputs())
    assert {name: type(module) for name, module in net.named_modules()} == before
    assert vars(net.lif1) == kept
    assert unrolled.model is net
    net.lif1.decay, net.fc1 = 0.1, nn.Linear(N, N)  # what is changed later takes effect
    compare(passed(net, net, inputs()), passed(net, unrolled, inputs()))


def test_copies_and_pickles_are_of_their_own():
    unrolled = hnn_kernels.unroll(Loop().eval())
    expected = unrolled(inputs())[0]
    for other in (copy.deepcopy(unrolled), pickle.loads(pickle.dumps(unrolled))):
        assert not other.training
        with torch.no_grad():
            unrolled.model.fc1.weight.mul_(1.0)
            assert other.model is not unrolled.model
        assert torch.equal(other(inputs())[0], expected)
        assert done(other) == [True, True]


def test_states_go_from_call_to_call():
    net = Carried()
    unrolled = hnn_kernels.unroll(net)
    x = inputs()

    def twice(call):
        first, state = call(x[:2])
        second, state = call(x[2:], state)
        third, state = call(x, state.detach())
        return first, second, third, state.v

    compare(passed(net, twice, net), passed(net, twice, unrolled))
    assert not unrolled.refused


def test_an_input_may_be_unknown_to_a_layer():
    assert all(done(hold_equal(Loop(first=lif(learn=("decay",), shape=(N,))), inputs())))


@pytest.mark.parametrize("model", [None, torch.relu, "model"])
def test_only_modules_are_unrolled(model):
    with pytest.raises(TypeError, match=r"model must be an nn\.Module; got"):
        hnn_kernels.unroll(model)


def test_a_model_without_neurons_is_refused():
    with pytest.raises(ValueError, match="model has no neurons"):
        hnn_kernels.unroll(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"model has no neurons.*0 \(LIF\): readout='count'"):
        hnn_kernels.unroll(nn.Sequential(lif(readout="count")))
    with pytest.raises(ValueError, match=r"model has no neurons.*\(Other\): a subclass of hnn_kernels.nn.lif.LIF"):
        hnn_kernels.unroll(type("Other", (LIF,), {})(0.8))


def test_the_models_own_errors_come_through():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        hnn_kernels.unroll(Loop())(inputs(T, B, N + 1))
