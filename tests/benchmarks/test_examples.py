"""The example networks of other libraries: each is converted or unrolled whole, and agrees with its library."""

import pytest
import torch

from benchmarks.core.cases import EXAMPLES, Case
from benchmarks.core.examples import ExampleStep, concerned
from benchmarks.core.fairness import DisagreementError
from benchmarks.core.layer import Unsupported
from benchmarks.core.operations import OPS
from benchmarks.providers import providers
from support.converted import by_the_loop

CPU = torch.device("cpu")
KNOWN = {provider.name: provider for provider in providers()}


def smaller(case):
    steps, batch, *features = case.shape
    return case._replace(shape=(min(steps, 4 if case.op.startswith("unrolled") else 20), min(batch, 3), *features))


@pytest.fixture(params=EXAMPLES, ids=lambda case: case.op)
def example(request, monkeypatch):
    pytest.importorskip(OPS[request.param.op].library.split(" ")[0], reason="its network needs the extra 'peers'")
    by_the_loop(monkeypatch)
    return ExampleStep(smaller(request.param), CPU)


def test_both_networks_take_a_step_and_agree(example):
    for provider in ("cpu", example.op.library):
        work = example.of(KNOWN[provider])
        (x, labels) = work.items[0]
        work.backward(work.forward(x, labels), x, labels)
        (agreement,) = work.check()
        assert agreement.spike_rate is None or 0 < agreement.spike_rate < 1


def test_another_network_disagrees(monkeypatch):
    pytest.importorskip("spikingjelly", reason="its network needs the extra 'peers'")
    example = ExampleStep(Case("converted_spikingjelly_mlp", (20, 3, 100)), CPU)
    work = example.of(KNOWN["cpu"])
    example.networks[1][1].v_threshold = 0.4
    with pytest.raises(DisagreementError, match="of the spikes differ"):
        list(work.check())
    example.networks[1][1].v_threshold = 1e9
    example.networks[0][1].v_threshold = 1e9
    with pytest.raises(DisagreementError, match=r"0\.00e\+00 fire"):
        list(work.check())


def test_only_the_library_and_what_converts_have_a_part():
    op = OPS["converted_spikingjelly_mlp"]
    assert {name for name, one in KNOWN.items() if concerned(one, op)} >= {"cpu", "spikingjelly torch"}
    assert not concerned(KNOWN["norse"], op)
    assert concerned(KNOWN["norse"], OPS["lif"])
    with pytest.raises(Unsupported, match="kernels are those of cpu"):
        KNOWN["reference"].converts(CPU)
