"""The suite's measurements: turns, quartiles, time limits, memory, and the common spike rate."""

import subprocess
import sys
import time

import pytest
import torch

from benchmarks.core import fairness, memory, timing
from benchmarks.core.cases import SUITES, Case
from benchmarks.core.networks import Step
from benchmarks.core.operations import Dynamics
from benchmarks.core.products import SpikeProduct
from benchmarks.core.timing import CPUClock, OverTimeError, Plan
from benchmarks.core.workloads import Work, Workload, rotated
from benchmarks.providers import own, plain
from hnn_kernels import _extensions
from support.fake_providers import CPU, PLAN, Fake, raising
from support.paths import ROOT

MIB = 1 << 20


class Clock(CPUClock):
    """A clock that each reading moves by a second. Variants move it further."""

    def __init__(self):
        self.seconds = 0.0

    def now(self):
        self.seconds += 1
        return self.seconds


def test_variants_take_turns_of_as_many_calls_as_their_share_of_time_allows(monkeypatch):
    clock, calls = Clock(), []

    def variant(name, seconds):
        def call(lap):
            calls.append(name)
            clock.seconds += seconds
            lap()
            clock.seconds += 2 * seconds

        return call

    monkeypatch.setattr(timing, "SLOW_SECONDS", 20.0)
    variants = {"slow": variant("slow", 10), "fast": variant("fast", 1), "faster": variant("faster", 0)}
    laps, failed = timing.interleave(variants, Plan(turns=2, seconds=20.0, most=3), clock, lambda: calls.append("-"))
    # Each turn begins with an untimed call, except for the slow variant. Then come as many calls as fit into 10
    # seconds, three at most.
    turn = ["-", "fast", *["-", "fast"] * 2, "-", "faster", *["-", "faster"] * 3]
    assert calls == ["-", "slow", "-", "slow", *turn, "-", "slow", *turn]
    assert failed == {}
    assert laps == {"slow": [(11, 21)] * 2, "fast": [(2, 3)] * 4, "faster": [(1, 1)] * 6}


def test_a_variant_that_fails_leaves_the_others_alone():
    fail = raising(RuntimeError("no"))
    laps, failed = timing.interleave({"bad": lambda lap: fail(None, None), "fine": lambda lap: None}, PLAN, Clock())
    assert list(laps) == ["fine"]
    assert len(laps["fine"]) == PLAN.turns
    assert str(failed["bad"]) == "no"
    assert failed["bad"].__traceback__ is None


def test_figures_are_the_quartiles_of_the_calls():
    assert timing.figures([4.0, 1.0, 2.0, 3.0, 5.0]) == {"q25_ms": 2e3, "median_ms": 3e3, "q75_ms": 4e3}


def test_a_time_limit_interrupts_code_that_catches_every_exception():
    def deaf():
        with timing.time_limit(0.1, "enough"):
            try:
                time.sleep(5)
            except Exception:
                time.sleep(5)

    start = time.perf_counter()
    with pytest.raises(OverTimeError, match="enough"):
        deaf()
    assert time.perf_counter() - start < 4
    with timing.time_limit(0.05, "enough"):
        pass
    time.sleep(0.1)  # the alarm is off


def work(forward) -> Work:
    """The work of ``forward`` on a tensor of one MiB."""
    x = torch.randn(MIB // 4, requires_grad=True)
    return Work([(x, x.detach())], lambda x, _: forward(x), lambda out, x, g: torch.autograd.grad(out, x, g), list)


class KeepsOnTheSide(torch.autograd.Function):
    """A function that keeps two tensors where hooks of saved tensors do not see them."""

    @staticmethod
    def forward(ctx, x):
        ctx.one, ctx.two = x + 1, x + 2
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.one


@pytest.mark.parametrize(
    ("forward", "tape", "peak"),
    [
        (torch.neg, 0, 2),  # keeps nothing; output and gradient
        (torch.sin, 1, 3),  # its input; output, gradient, and its derivative
        (torch.exp, 1, 2),  # its output; that and the gradient
        (lambda x: x.exp().exp(), 2, 4),  # both outputs; these and two gradients
        (KeepsOnTheSide.apply, 2, 4),  # two; these, output and gradient
    ],
)
def test_tape_and_peak_are_the_allocated_bytes(forward, tape, peak):
    one = work(forward)
    assert memory.peak_bytes(one, CPU) == peak * MIB
    assert memory.tape_bytes(one, CPU) == tape * MIB


def test_the_tape_of_ours_has_the_current_and_that_of_a_step_no_gradients():
    case = Case("lif", (25, 4, 500))
    ours = Workload(case, CPU).work(lambda wanted, features: Fake().layer(wanted, features, CPU, torch.float32))
    assert memory.tape_bytes(ours, CPU) >= 4 * case.neuron_steps
    step = Step(Case("mlp_step", (4, 2, 30)), CPU)
    products = step.products()
    for _ in range(2):  # the second step finds nothing left of the first
        memory.peak_bytes(products, CPU)
        assert 0 < memory.tape_bytes(products, CPU) < 4 * sum(p.numel() for p in step.parameters.values())


@pytest.mark.skipif(_extensions.cpu is None, reason=f"the C++ kernels are not there: {_extensions.cpu_error}")
@pytest.mark.parametrize("shape", [(640, 256, 8), (4, 16, 12, 12, 8)], ids=["dense", "convolution"])
def test_the_tape_of_a_product_has_the_train_as_it_is_kept(shape):
    workload = SpikeProduct(Case("spike_products_10", shape), CPU)
    train = workload.items[0][0].nbytes
    assert memory.tape_bytes(workload.of(plain.Torch()), CPU) == train
    assert memory.tape_bytes(workload.of(own.Own("cpu")), CPU) == train // 32


FULL = """
import torch
from benchmarks.core import memory
from benchmarks.suite.runner import reason
told = memory._kilobytes
memory._kilobytes = lambda path, name: 200_000 if name == "MemAvailable" else told(path, name)
memory.raise_when_full()
torch.ones(100 << 20, dtype=torch.uint8)
try:
    torch.ones(400 << 20, dtype=torch.uint8)
except RuntimeError as error:
    print(reason(error))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is Linux's")
def test_an_allocation_beyond_free_memory_raises_instead_of_ending_the_process():
    done = subprocess.run([sys.executable, "-c", FULL], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "out of memory", done.stderr


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_inputs_are_scaled_to_the_common_spike_rate(scale):
    drive = scale * (torch.randn(20, 8, 100) + 0.5)
    for dynamics in (Dynamics(), Dynamics(axon=True), Dynamics(reset="zero", reset_decay=None)):
        gain = fairness.gain_for(drive, dynamics)
        assert fairness.spike_rate(gain * drive, dynamics) == pytest.approx(fairness.RATE, rel=0.1)
    with pytest.raises(ValueError, match="do not fire"):
        fairness.gain_for(-drive.abs(), Dynamics())


def test_a_part_is_cut_from_the_batch_and_never_empty(monkeypatch):
    tensor = torch.arange(2 * 10 * 3).view(2, 10, 3)
    monkeypatch.setattr(fairness, "CHECKED", 25)
    assert torch.equal(fairness.part(tensor), tensor[:, :4])
    monkeypatch.setattr(fairness, "CHECKED", 1)
    assert torch.equal(fairness.part(tensor), tensor[:, :1])


def test_a_spike_rate_out_of_range_is_noted():
    layer = Fake().layer(Dynamics(threshold=0.2), (50,), CPU, torch.float32)
    agreement = fairness.check(layer, torch.rand(6, 4, 50), layer.dynamics)
    assert agreement.notes == (f"spike rate {100 * agreement.spike_rate:.2g} % on the common input",)


def test_inputs_on_a_gpu_exceed_its_cache():
    blackwell = 126 << 20  # the largest L2 cache of a GPU yet
    for case in SUITES["gpu"]:
        size = 2 * case.neuron_steps
        assert rotated(size, torch.device("cuda")) * size > 2 * blackwell
        assert rotated(size, CPU) == 1


def test_a_copy_takes_the_inputs_in_turns():
    workload = Workload(Case("lif", (4, 3, 50)), CPU)
    other = torch.zeros_like(workload.items[0][0])
    workload.items.append((other, other))
    copy = workload.copy()
    first, second, third = (copy(lambda: None).clone() for _ in range(3))
    assert torch.equal(first, workload.items[0][0])
    assert not second.any()
    assert torch.equal(third, first)


def test_the_precision_of_products_is_that_of_the_case_and_is_restored():
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    for dtype, matmul, tf32, autocast in (
        ("float32", "highest", False, False), ("tf32", "high", True, False), ("bfloat16", "highest", False, True),
    ):  # fmt: skip
        with Workload(Case("linear_lif", (2, 2, 4), dtype), CPU).precision():
            assert torch.get_float32_matmul_precision() == matmul
            assert torch.backends.cudnn.allow_tf32 == tf32
            assert torch.is_autocast_enabled("cpu") == autocast
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before
