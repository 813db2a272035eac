"""The suite's times in a graph, on the emulated device: what is captured, and the rows beside the eager ones."""

from functools import partial

import pytest
import torch

from benchmarks.core import graphs, workloads
from benchmarks.core.cases import Case
from benchmarks.providers.own import Own
from benchmarks.suite import runner
from hnn_kernels import IIR, Graphed, nn
from support.fake_providers import PLAN
from support.targets import emulated_device

CUDA = torch.device("cuda")
CASE = Case("lif_axon_learnt", (9, 2, 5))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Three inputs take turns. What a call costs the host is no reason for fewer calls here."""
    monkeypatch.setattr(workloads, "ROTATED_BYTES", 3 * 4 * 9 * 2 * 5)
    monkeypatch.setattr(graphs, "HOST_SECONDS", 1e9)


def test_rows_of_a_graph_stand_beside_the_eager_ones(target):
    ((_, rows),) = runner.run([CASE], [Own(target.backend)], CUDA, PLAN, lambda what: None)
    assert [(row.buffers, row.mode) for row in rows] == [
        (buffers, mode) for buffers in ("rotated", "graph") for mode in ("forward", "backward", "both")
    ], [row.note for row in rows]
    for row in rows:
        assert row.note == ""
        assert row.median_ms is not None
        assert row.share_of_copy is not None


def test_a_replay_does_what_the_calls_do(target):
    workload = workloads.Workload(CASE, CUDA)
    make = partial(Own(target.backend).layer, device=CUDA, dtype=torch.float32)
    captured = graphs.Replays(workload.work(make), 3)
    before = emulated_device().launches
    captured(lambda: None)
    # Forward thrice alone, and thrice with backward, which is a launch too.
    assert emulated_device().launches - before >= 3 + 6
    assert captured.each((3.0, 9.0)) == (1.0, 2.0)


def test_a_graphed_layer_replays_both_ways(target):
    layer = nn.LIF(0.8, 0.7, axon=IIR.dual_exponential(4, 1), backend=target.backend)
    graphed = Graphed(layer)
    for seed in range(3):
        x = torch.randn((9, 2, 5), generator=torch.Generator().manual_seed(seed)).cuda().requires_grad_()
        grad = torch.linspace(-1, 1, 90).reshape(9, 2, 5).cuda()
        found, expected = ((y, *torch.autograd.grad(y, x, grad)) for y in (graphed(x), layer(x)))
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one.detach().cpu(), other.detach().cpu())


def test_a_call_that_waits_for_the_device_has_no_graph(target):
    class Waits(Own):
        def layer(self, *arguments, **options):
            layer = super().layer(*arguments, **options)

            def run(current):
                if torch.cuda.is_current_stream_capturing():  # the emulated device does not mind a real wait
                    raise RuntimeError("operation not permitted when stream is capturing")
                return layer.run(current)

            return layer._replace(run=run)

    ((_, rows),) = runner.run([CASE], [Waits(target.backend)], CUDA, PLAN, lambda what: None)
    assert {row.buffers for row in rows} == {"rotated"}
    assert all(row.note.startswith("no graph: ") and row.median_ms is not None for row in rows)
