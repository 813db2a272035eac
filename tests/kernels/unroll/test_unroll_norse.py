"""Loops over Norse's cells, against the same loops unrolled."""

import pytest
import torch
from torch import nn

import hnn_kernels
from hnn_kernels._convert import rules
from support.converted import by_the_loop
from support.unrolled import compare, hold_equal, left, passed

nt = pytest.importorskip("norse.torch")
from norse.torch.functional.izhikevich import tonic_spiking  # noqa: E402
from norse.torch.functional.reset import reset_subtract  # noqa: E402

T, B, N = 5, 4, 12
CELLS = {
    "lif": nt.LIFCell,
    "millivolts": lambda: nt.LIFCell(nt.LIFParameters(v_leak=torch.tensor(-0.2), v_reset=torch.tensor(-0.3))),
    "box": lambda: nt.LIFBoxCell(nt.LIFBoxParameters(reset_method=reset_subtract)),
    "iaf": nt.IAFCell,
    "li": nt.LICell,
    "li box": nt.LIBoxCell,
    "li weighted": lambda: nt.LILinearCell(N, N),
    "ex": nt.LIFExCell,
    "adex": nt.LIFAdExCell,
    "lsnn": nt.LSNNCell,
    "refrac": nt.LIFRefracCell,
    "izhikevich": lambda: nt.IzhikevichCell(tonic_spiking),
}


class Loop(nn.Module):
    """A loop as Norse's tasks write it: the state is None at first."""

    def __init__(self, cells):
        super().__init__()
        self.fc, self.cells = nn.Linear(N, N), nn.ModuleDict({name: make() for name, make in cells.items()})

    def forward(self, x, states=None):
        states = dict.fromkeys(self.cells) if states is None else states
        out, potentials = [], []
        for t in range(T):
            current = self.fc(x[t])
            found = []
            for name, cell in self.cells.items():
                spikes, states[name] = cell(current * (10 if name == "izhikevich" else 1), states[name])
                found.append(spikes)
            out.append(torch.stack(found))
            potentials.append(next(iter(states.values())).v)
        return torch.stack(out), torch.stack(potentials), states


def drive(seed=0):
    return torch.randn(T, B, N, generator=torch.Generator().manual_seed(seed)) * 12 + 4


def test_cells(monkeypatch):
    by_the_loop(monkeypatch)
    torch.manual_seed(0)
    unrolled = hold_equal(Loop(CELLS), drive().requires_grad_(), passes=1)
    assert {layer.name for layer in unrolled.report if layer.unrolled} == {f"cells.{name}" for name in CELLS}
    spikes = unrolled(drive())[0].flatten(2).count_nonzero(2).sum(0)
    assert spikes.min() > 0, dict(zip(CELLS, spikes.tolist(), strict=True))


def test_states_go_from_call_to_call(monkeypatch):
    by_the_loop(monkeypatch)
    torch.manual_seed(0)
    net = Loop({name: CELLS[name] for name in ("lif", "refrac", "li weighted")})
    unrolled = hnn_kernels.unroll(net)

    def twice(call):
        first, _, states = call(drive())
        return first, call(drive(1), states)

    compare(passed(net, twice, net), passed(net, twice, unrolled))
    assert not unrolled.refused
    net.cells["lif"].p = net.cells["lif"].p._replace(method="circ")
    expected = passed(net, twice, net)
    assert "the steps of cells.lif ran one by one" in left(lambda: compare(expected, passed(net, twice, unrolled)))


def test_what_is_not_known_is_named(monkeypatch):
    with pytest.raises(ValueError, match=r"0 \(LIFRecurrentCell\): no kernel computes its step"):
        hnn_kernels.unroll(nn.Sequential(nt.LIFRecurrentCell(N, N)))
    monkeypatch.setattr(rules.metadata, "version", lambda package: "2.0")
    with pytest.raises(ValueError, match=r"0 \(LIFCell\): norse 2.0 was not tried"):
        hnn_kernels.unroll(nn.Sequential(nt.LIFCell()))
