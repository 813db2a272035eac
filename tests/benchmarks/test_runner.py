"""The suite's runner: rows with figures, and rows with the reason why there are none."""

import math
import re
import time

import pytest
import torch

from benchmarks.core import fairness
from benchmarks.core.cases import SUITES, Case
from benchmarks.core.layer import NO_PRODUCT, Layer, Unsupported
from benchmarks.core.operations import DTYPES, OPS, Dynamics
from benchmarks.core.timing import Plan
from benchmarks.providers.helpers import Compiled
from benchmarks.records.rows import Row
from benchmarks.suite import runner
from support.fake_providers import CPU, PLAN, Fake, FakeMultiplier, hasten, raising

LIF = Case("lif", (4, 3, 50))
DENSE, CONVOLUTION = Case("spike_products_10", (400, 20, 7)), Case("spike_products_25", (3, 8, 9, 8, 5))


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    hasten(monkeypatch)


def rows_of(*providers, cases=(LIF,), plan=PLAN) -> list[Row]:
    return [row for _, rows in runner.run(cases, providers, CPU, plan, lambda what: None) for row in rows]


def note_of(provider, **options) -> str:
    """The note of the only row that ``provider`` has, which has no figures."""
    (row,) = rows_of(provider, **options)
    assert (row.provider, row.median_ms, row.peak_bytes) == (provider.name, None, None)
    return row.note


def test_each_mode_and_kind_of_buffers_is_a_row_with_all_columns():
    rows = rows_of(Fake("a"), Fake("b"))
    found = [(row.buffers, row.provider, row.mode) for row in rows]
    modes = ("forward", "backward", "both")
    assert found == [(b, p, m) for b in dict.fromkeys(row.buffers for row in rows) for p in "ab" for m in modes]
    for row in rows:
        assert (row.op, row.case, row.dtype, row.version) == ("lif", "4x3x50", "float32", "1.2.3")
        assert row.device
        assert row.commit
        assert (row.torch, row.date) == (torch.__version__, row.run[:10])
        assert row.threads == torch.get_num_threads()
        assert row.q25_ms <= row.median_ms <= row.q75_ms
        assert row.first_call_ms > 0
        assert 0.05 <= row.spike_rate <= 0.2
        assert row.note == ""
        assert (row.tape_bytes is None) == (row.mode != "both")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("op", ["lif", "lif_axon_learnt"])
def test_bytes_are_those_of_the_tensors_that_must_be_read_and_written(op, dtype):
    shape = (4, 3, 50)
    current = torch.zeros(shape, dtype=getattr(torch, dtype))
    train, grad_train, grad_current = (torch.empty_like(current) for _ in range(3))
    forward = current.nbytes + train.nbytes
    backward = current.nbytes + grad_train.nbytes + grad_current.nbytes
    rows = rows_of(Learnt("learnt") if op.endswith("learnt") else Fake(), cases=[Case(op, shape, dtype)])
    wanted = {"forward": forward, "backward": backward, "both": forward + backward}
    for row in rows:
        assert row.bytes_moved == wanted[row.mode]
        assert row.gb_per_s == pytest.approx(row.bytes_moved / row.median_ms / 1e6)
        assert row.ns_per_neuron_step == pytest.approx(row.median_ms * 1e6 / math.prod(shape))
        # All rows with equal buffers share the bandwidth of one copy, which reads and writes the current.
        copy = row.gb_per_s / row.share_of_copy
        assert copy == pytest.approx(rows[0].gb_per_s / rows[0].share_of_copy) or row.buffers != rows[0].buffers


class Learnt(Fake):
    """A provider that learns a factor on the train per neuron, 1 at first."""

    def layer(self, wanted, features, device, dtype):
        factor = torch.ones(features, requires_grad=True)

        def run(current):
            return fairness.reference(current, wanted) * factor.to(current.dtype)

        return Layer(run, wanted, (factor,), exact=True)


def test_a_layer_that_disagrees_is_not_timed():
    late = note_of(Fake(change=lambda run, x: run(x.roll(1, 0))))
    assert late.startswith("disagrees with the reference: outputs are off by")
    gradient = note_of(Fake(change=lambda run, x: run(x).detach() + 0.1 * (x - x.detach())))
    assert gradient.startswith("disagrees with the reference: outputs are off by 0,")
    one_spike = note_of(Fake(change=lambda run, x: run(x) + torch.nn.functional.one_hot(torch.tensor(7), 50)))
    assert one_spike.startswith("disagrees with the reference")
    declared = note_of(Fake(dynamics=Dynamics(threshold=1.1)))
    assert declared.startswith("disagrees with the reference")
    shape = note_of(Fake(change=lambda run, x: run(x).sum(0, keepdim=True).expand(4, 3, 50)))
    assert shape.startswith("disagrees with the reference")
    learnt = Fake(learnt=(idle := torch.ones(50, requires_grad=True),), change=lambda run, x: run(x) + 0 * idle)
    assert note_of(learnt) == "disagrees with the reference: the gradient of a learnt tensor is zero, or not finite"


def test_rounding_is_allowed_unless_a_layer_claims_to_be_exact():
    def rounded(run, x):
        return run(x) + 1e-3 * x

    assert "disagrees" in note_of(Fake(change=rounded))
    assert {row.note for row in rows_of(Fake(change=rounded, exact=False))} == {""}


def test_own_dynamics_and_notes_stand_beside_the_figures():
    own = Dynamics(reset="subtract", reset_decay=None, width=1 / 3)

    class Own(Fake):
        def layer(self, wanted, *where, **options):
            return super().layer(own, *where, **options)

    (note,) = {row.note for row in rows_of(Own(note="on a rainy day"))}
    assert note == "its own dynamics: reset subtract, width 0.333; on a rainy day"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("what\nand where"), "ValueError: what"),
        (Unsupported("not for this device"), "not for this device"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "out of memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory"),
        (MemoryError(), "out of memory"),
    ],
)
def test_an_exception_of_a_provider_is_the_note_of_its_row(error, words):
    fine = Fake("fine")
    rows = rows_of(Fake("bad", raising(error)), fine)
    assert [row.note for row in rows if row.provider == "bad"] == [words]
    assert all(row.median_ms for row in rows if row.provider == "fine")


def test_a_failure_during_the_turns_is_a_note_too():
    calls = []

    def change(run, x):
        calls.append(x)
        if len(calls) > 5:  # after two calls, one each for peak and tape, and the check
            raise torch.OutOfMemoryError
        return run(x)

    rows = rows_of(Fake("late", change), Fake("fine"))
    assert [row.note for row in rows if row.provider == "late"] == ["out of memory"]
    assert len([row for row in rows if row.provider == "fine"]) == len(rows) - 1


def test_a_provider_that_is_too_slow_is_not_measured():
    def sleepy(run, x):
        time.sleep(0.2)
        return run(x)

    assert note_of(Fake(change=sleepy), plan=PLAN._replace(limit=0.1)) == (
        "over the time limit of 0.1 s per call: it takes 0.2 s"
    )
    first = Fake(change=sleepy)
    cases = [LIF, Case("lif", (8, 3, 50)), Case("lif", (2, 3, 50))]
    notes = [row.note for row in rows_of(first, cases=cases, plan=PLAN._replace(first=0.1))]
    limit = "over the time limit of 0.1 s for the first call"
    assert notes == [limit, f"{limit}, with as many steps or fewer", limit]
    assert first.made == 2  # not with more steps


def test_one_slow_call_is_forgiven():
    calls = []

    def change(run, x):
        calls.append(x)
        if len(calls) == 2:
            time.sleep(0.2)  # as if it compiled again
        return run(x)

    assert all(row.median_ms for row in rows_of(Fake(change=change), plan=PLAN._replace(limit=0.1)))


def test_a_compilation_that_would_take_too_long_is_not_begun():
    library = Fake("library")
    note = note_of(Compiled(library), cases=[Case("lif", (500, 3, 50))], plan=PLAN._replace(first=60.0))
    assert note == "over the time limit of 60 s for the first call: with so many steps it takes about 172 s to compile"
    assert library.made == 0


def test_products_that_take_too_long_are_not_begun():
    fake = Fake()
    note = note_of(fake, cases=[Case("linear_lif", (500, 160000, 16384))])
    assert note.startswith("over the time limit of 60 s per call: its matrix products alone take about")
    assert fake.made == 0


def test_a_case_that_cannot_be_built_is_a_note_for_every_provider(monkeypatch):
    monkeypatch.setattr(runner, "WORKLOADS", {"neuron": raising(torch.OutOfMemoryError())})
    assert [row.note for row in rows_of(Fake("a"), Fake("b"))] == ["out of memory"] * 2


def test_brief_cases_leave_compiled_libraries_out():
    library = Fake("library")
    assert note_of(Compiled(library), cases=[LIF._replace(brief=True)]).startswith("measured at other sizes")
    assert library.made == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("op", "shape", "layers"),
    [("linear_lif", (6, 8, 40), 1), ("mlp_step", (6, 8, 30), 3), ("cnn_lif_step", (3, 2, 3, 14, 14), 6)],
)
def test_products_around_the_neurons_are_measured_alone_too(op, shape, layers, dtype):
    fake = Fake()
    rows = rows_of(fake, cases=[Case(op, shape, dtype)])
    assert [row for row in rows if row.median_ms is None] == []
    assert {row.provider for row in rows} == {runner.PRODUCTS, "fake"}
    assert fake.made == layers
    for row in rows:
        assert (row.bytes_moved, row.gb_per_s, row.share_of_copy) == (None, None, None)
        assert row.spike_rate is None if row.provider == runner.PRODUCTS else 0.05 <= row.spike_rate <= 0.2


@pytest.mark.parametrize(("case", "density", "outputs"), [(DENSE, 0.1, 400 * 7), (CONVOLUTION, 0.25, 3 * 5 * 7 * 6)])
def test_products_with_spikes_are_compared_with_the_plain_one(case, density, outputs):
    rows = rows_of(FakeMultiplier("fine", note="on a rainy day"), cases=[case])
    assert [row.mode for row in rows] == ["forward", "backward", "both"] * (len(rows) // 3)
    for row in rows:
        assert (row.provider, row.case, row.note, row.gb_per_s) == ("fine", case.name, "on a rainy day", None)
        assert row.spike_rate == pytest.approx(density, abs=0.03)
        assert row.ns_per_neuron_step == pytest.approx(row.median_ms * 1e6 / outputs)
    off = note_of(FakeMultiplier(change=lambda run, x: 1.001 * run(x)), cases=[case])
    assert off.startswith("disagrees with the reference: outputs are off by 0.001")
    gradient = note_of(FakeMultiplier(change=lambda run, x: 1.001 * run(x) - 0.001 * run(x).detach()), cases=[case])
    assert re.match(
        r"disagrees with the reference: outputs .* gradients of the weights by 0.001 of their norm", gradient
    )


def test_a_provider_without_a_product_is_left_out():
    for fake in (Fake(), Compiled(Fake())):
        assert note_of(fake, cases=[DENSE._replace(brief=True)]) == NO_PRODUCT


def test_the_estimate_grows_with_the_work():
    cases = [LIF, Case("lif", (100, 3, 50))]
    eager, compiled = Fake(), Compiled(Fake())

    def seconds(cases, providers):
        return runner.estimated_seconds(cases, providers, CPU, PLAN._replace(seconds=0.1, first=60))

    assert seconds(cases, [eager]) > 2 * seconds(cases[:1], [eager]) > 0
    assert seconds(cases[:1], [compiled]) > 5 + seconds(cases[:1], [eager])
    assert seconds(cases[1:], [compiled]) > 30
    assert seconds([case._replace(brief=True) for case in cases], [compiled]) == 0
    assert seconds([Case("lif", (500, 3, 50))], [compiled]) == 0
    assert seconds([Case("linear_lif", (500, 160000, 16384))], [eager]) == 0


def test_a_provider_without_the_layer_takes_no_time_in_the_estimate():
    class Lacking(Fake):
        def layer(self, wanted, *rest):
            if wanted.axon:
                raise Unsupported("no axon")
            return super().layer(wanted, *rest)

    def seconds(*cases):
        return runner.estimated_seconds(cases, [Lacking()], CPU, PLAN._replace(seconds=0.1))

    assert seconds(LIF._replace(op="lif_axon")) == 0
    assert seconds(LIF, LIF._replace(op="lif_axon")) == seconds(LIF) > 0
    assert seconds(LIF, DENSE) == seconds(LIF)
    assert 0 < runner.estimated_seconds([DENSE], [FakeMultiplier()], CPU, PLAN._replace(seconds=0.1)) < 1


def test_products_take_little_of_the_time_of_the_whole_suite():
    products = [case for case in SUITES["full"] if OPS[case.op].kind == "product"]
    four = [FakeMultiplier() for _ in range(4)]  # ours for three instruction sets, and torch
    assert len(products) == 16
    assert runner.estimated_seconds(products, four, CPU, Plan(turns=5, seconds=0.4)) < 90


def test_suites_have_known_operations_and_each_case_once():
    for cases in SUITES.values():
        assert len({(case.op, case.shape, case.dtype) for case in cases}) == len(cases)
        assert {case.op for case in cases} <= set(OPS)
        assert {case.dtype for case in cases} <= set(DTYPES)
    assert {case.op for case in SUITES["full"]} == {case.op for case in SUITES["gpu"]} == set(OPS)
    assert not [case for name in ("quick", "full") for case in SUITES[name] if case.dtype == "tf32"]
