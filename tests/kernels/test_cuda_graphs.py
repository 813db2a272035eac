"""Captured passes and steps have the numbers of the others. Graphs are recorded on the CPU."""

import copy

import pytest
import torch
from torch import nn

from hnn_kernels import IIR, Graphed, TrainingStep
from hnn_kernels.nn import LIF
from support import recorded_graphs

STEPS, INPUTS, CLASSES = 6, 5, 3


@pytest.fixture
def made(monkeypatch):
    """The graphs that are made."""
    return recorded_graphs.install(monkeypatch)


class Network(nn.Module):
    """A spiking network with noise and a buffer, whose loss comes with it if labels do."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.first, self.norm = nn.Linear(INPUTS, 8), nn.BatchNorm1d(8)
        self.neurons = LIF(0.8, learn=("decay",), axon=IIR.dual_exponential(4, 1), shape=(8,), backend="cpu")
        self.last, self.drop = nn.Linear(8, CLASSES), nn.Dropout(0.3)

    def forward(self, x, labels=None):
        current = self.norm(self.first(x))
        spikes = self.neurons(current.expand(STEPS, *current.shape).contiguous())
        logits = self.last(self.drop(spikes)).sum(0)
        return logits if labels is None else nn.functional.cross_entropy(logits, labels)


def batches(*sizes):
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(n, INPUTS, generator=generator), torch.randint(CLASSES, (n,), generator=generator)) for n in sizes
    ]


def trained(network, call, data, **adamw):
    """The losses of a training, and the parameters and buffers behind it."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, fused=True, **adamw)
    torch.manual_seed(7)
    losses = []
    for x, labels in data:
        loss = nn.functional.cross_entropy(call(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return losses, copy.deepcopy(network.state_dict())


def same(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_a_graphed_network_learns_the_same(made):
    plain, other = Network(), Network()
    data = batches(4, 4, 4, 2, 4)
    expected = trained(plain, plain, data)
    found = trained(other, Graphed(other), data)
    same(found, expected)
    assert [graph.replays for graph in made] == [4, 4]  # forward and backward; the batch of 2 has none


def test_evaluation_is_not_captured(made):
    network = Network()
    graphed, ((x, _),) = Graphed(network), batches(4)
    with torch.no_grad():
        graphed(x)
    network.eval()
    same(graphed(x), network(x))
    assert made == []
    network.train()
    graphed(x)
    network.eval()
    same(graphed(x), network(x))
    assert [graph.replays for graph in made] == [1, 0]


def test_a_capture_changes_nothing(made):
    network, ((x, _),) = Network(), batches(4)
    before, random = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    Graphed(network)._capture((x,))
    same(network.state_dict(), before)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_parameters_that_moved_or_stay_fixed_are_captured_again(made):
    network, data = Network(), batches(4, 4, 4)
    graphed = Graphed(network)
    graphed(data[0][0])
    network.first.weight.data = network.first.weight.detach() * 2
    graphed(data[1][0])
    assert len(made) == 4
    network.last.weight.requires_grad_(False)
    graphed(data[2][0]).sum().backward()
    assert len(made) == 6
    assert network.last.weight.grad is None
    assert network.first.weight.grad is not None


def test_the_callers_tensors_are_left_alone(made):
    network, data = Network(), batches(4, 4)
    graphed = Graphed(network)
    first = data[0][0].clone()
    graphed(data[0][0])
    graphed(data[1][0])
    assert torch.equal(data[0][0], first)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_autocast_is_part_of_the_graph(made, dtype):
    network, other = Network(), Network()
    ((x, _),) = batches(4)

    def run(call):
        torch.manual_seed(7)
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
            return call(x)

    graphed = Graphed(other)
    same(run(graphed), run(network))
    assert len(made) == 2
    with torch.autocast("cpu", dtype=torch.float16 if dtype is None else torch.bfloat16, enabled=dtype is None):
        graphed(x)  # another autocast is another pass
    assert [graph.replays for graph in made] == [1, 0]


def test_gradients_that_would_be_overwritten_are_refused(made):
    network = Network()
    graphed, ((x, _),) = Graphed(network), batches(4)
    graphed(x).sum().backward()
    with pytest.raises(RuntimeError, match=r"set_to_none=True.*first\.weight has one"):
        graphed(x).sum().backward()
    network.zero_grad(set_to_none=True)
    graphed(x).sum().backward()


def test_what_waits_for_the_device_is_not_captured(made):
    class Waits(Network):
        def forward(self, x, labels=None):
            return super().forward(x * x.sum().item())

    with pytest.raises(RuntimeError, match="capturing"):
        Graphed(Waits())(batches(4)[0][0])


@pytest.mark.parametrize("inputs", [(), (1.0,), (torch.ones(4, INPUTS), None)])
def test_inputs_that_are_no_tensors(made, inputs):
    with pytest.raises((TypeError, ValueError), match="inputs"):
        Graphed(Network())(*inputs)


def test_tensors_that_are_on_no_gpu_are_named():
    network, ((x, labels),) = Network(), batches(4)
    with pytest.raises(ValueError, match=r"one CUDA device; inputs\[0\] is on cpu"):
        Graphed(network)(x)
    step = TrainingStep(network, torch.optim.AdamW(network.parameters(), lr=0.01, fused=True))
    with pytest.raises(ValueError, match=r"one CUDA device; inputs\[0\] is on cpu"):
        step(x, labels)


# -- the whole step ----------------------------------------------------------------------------------------------------


def whole(network, data, step_of, lr):
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, fused=True)
    step = step_of(network, optimizer)
    torch.manual_seed(7)
    losses = []
    for i, batch in enumerate(data):
        if isinstance(lr, torch.Tensor):
            lr.fill_(0.01 / (i + 1))  # a schedule
        losses.append(step(*batch))
    return losses, copy.deepcopy(network.state_dict())


def usual_step(network, optimizer):
    def step(*batch):
        optimizer.zero_grad()
        loss = network(*batch)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


@pytest.mark.parametrize("scheduled", [False, True])
def test_captured_steps_learn_the_same(made, scheduled):
    data = batches(4, 4, 4, 4, 4, 2, 4)
    expected, found = (
        whole(Network(), data, step_of, torch.tensor(0.01) if scheduled else 0.01)
        for step_of in (usual_step, TrainingStep)
    )
    same(found, expected)
    assert [graph.replays for graph in made] == [3]


def test_a_learning_rate_that_is_a_float_may_not_change(made):
    network, data = Network(), batches(4, 4, 4, 4, 4)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, fused=True)
    step = TrainingStep(network, optimizer)
    for batch in data[:4]:
        step(*batch)
    optimizer.param_groups[0]["lr"] = 0.001
    with pytest.raises(RuntimeError, match=r"lr of param_groups\[0\] was 0.01 when .* and is 0.001"):
        step(*data[4])


def test_a_parameter_that_moved_is_refused(made):
    network, data = Network(), batches(4, 4, 4, 4, 4)
    step = TrainingStep(network, torch.optim.AdamW(network.parameters(), lr=0.01, fused=True))
    for batch in data[:4]:
        step(*batch)
    network.first.weight.data = network.first.weight.detach().clone()
    with pytest.raises(RuntimeError, match="has moved"):
        step(*data[4])


def test_an_optimizer_that_waits_for_the_device_is_refused():
    network = Network()
    with pytest.raises(ValueError, match="capturable=True or fused=True"):
        TrainingStep(network, torch.optim.AdamW(network.parameters()))
    TrainingStep(network, torch.optim.SGD(network.parameters()))  # has no such option
