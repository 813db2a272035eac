"""Forward + backward of the LIF layer on the CPU against the plain loop, eager and compiled.

    python -m benchmarks.lif [--op lif ...] [--repeats 15] [--no-compile] [--csv FILE]

``lif`` is the layer alone; ``lif_axon`` has the paper's dual-exponential axon with fixed coefficients behind it, and
``lif_axon_learnt`` one with learnt coefficients per neuron.

All variants run in one process, in turns, and are compared by medians, because a shared machine's speed drifts by more
than they differ. The floor is the bytes that must move (current read and spikes written forward; current and
gradient read and gradient written backward: 20 bytes per neuron-step in float32) over the bandwidth of a copy of the
same tensor, measured in the same run. Every case runs twice: with *reused* buffers (the allocator keeps what is freed,
as in the steady state of training) and with *fresh* ones (free memory is given back before every call, so that every
tensor is paid for in page faults, as tensors over 32 MiB are by default).
"""

import argparse
import ctypes
import datetime
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

import hnn_kernels
from benchmarks.baselines import loop, loop_with_axon
from benchmarks.records import append
from hnn_models.memory import keep_what_is_freed
from hnn_models.provenance import commit, device_name

OPS = ("lif", "lif_axon", "lif_axon_learnt")
SHAPES = ((25, 64, 500), (25, 64, 4096), (100, 32, 4096))
DECAY, RESET_DECAY, THRESHOLD, SIGMA = 0.7, 0.7, 1.0, 0.4
WARM_UP_SECONDS, CALLS_PER_TURN = 0.02, 5
BYTES_PER_NEURON_STEP = 20  # float32: x, s | x, grad s, grad x


def give_back() -> None:
    """Return all free memory to the system, so that the next call writes to fresh pages."""
    ctypes.CDLL(None).malloc_trim(0)


def interleave(
    variants: dict[str, Callable[[], object]], repeats: int, before: Callable[[], None] = lambda: None
) -> dict[str, list[float]]:
    """Seconds of each variant, in turns of ``CALLS_PER_TURN`` timed calls, each after ``before``.

    A turn begins with untimed calls, for ``WARM_UP_SECONDS`` and at least one, which pay for what the variant before
    left in the caches: after the eager loop that takes any variant of under a millisecond some ten calls.
    """
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for run in variants.values():
        run()
    for _, (name, run) in itertools.product(range(repeats), variants.items()):
        warm = time.perf_counter() + WARM_UP_SECONDS
        run()
        while time.perf_counter() < warm:
            run()
        for _ in range(CALLS_PER_TURN):
            before()
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def providers_for(
    op: str, features: int, backends: tuple[str, ...], compiled: bool = False, device: str = "cpu"
) -> tuple[dict[str, Callable], tuple[torch.Tensor, ...]]:
    """``op`` as a function of the current from each provider, and the coefficients that it learns."""
    numbers = (DECAY, RESET_DECAY, THRESHOLD)
    axon, learnt = None, ()
    if op != "lif":
        axon = hnn_kernels.IIR.dual_exponential(4, 1)
    if op == "lif_axon_learnt":
        learnt = tuple(torch.tensor(c, device=device)[:, None].repeat(1, features).requires_grad_() for c in axon)
        axon = hnn_kernels.IIR(*learnt)
    plain, arguments = (loop, (SIGMA,)) if axon is None else (loop_with_axon, (SIGMA, *axon))
    providers: dict[str, Callable] = {
        name: lambda x, name=name: hnn_kernels.lif(x, *numbers, sigma=SIGMA, axon=axon, backend=name)[0]
        for name in backends
    }
    providers["eager"] = lambda x: plain(x, *numbers, *arguments)
    if compiled:
        fused = torch.compile(plain, dynamic=False)
        providers["compiled"] = lambda x: fused(x, *numbers, *arguments)
    return providers, learnt


def variants_for(op: str, shape: tuple[int, ...], compiled: bool) -> dict[str, Callable[[], object]]:
    """One training step of each provider on the same input, checked to agree before anything is timed."""
    generator = torch.Generator().manual_seed(0)
    current = torch.randn(shape, generator=generator).add_(0.5)
    grad = torch.randn(shape, generator=generator)
    providers, learnt = providers_for(op, shape[-1], ("cpu",), compiled)

    results = {}
    for name, run in providers.items():
        x = current.clone().requires_grad_()
        out = run(x)
        results[name] = (out.detach(), *torch.autograd.grad(out, (x, *learnt), grad))
    expected, *gradients = results["eager"]
    for name, (out, *found) in results.items():
        # torch.compile contracts into FMA, so a potential within an ulp of the threshold may fall on its other side,
        # and what follows in that neuron with it.
        exact = name != "compiled"
        differing = ((out - expected).abs() > 1e-5).float().mean().item()
        if differing > (0 if exact else 1e-4):
            raise SystemExit(f"{name} disagrees with the eager loop in {differing:.2e} of the outputs")
        for got, wanted in zip(found, gradients, strict=True):
            error = (got - wanted).norm() / wanted.norm()
            if error > (1e-5 if exact else 1e-2):
                raise SystemExit(f"{name} disagrees with the eager loop by {error:.2e} in a gradient")

    def step(run):
        x = current.clone().requires_grad_()

        def once():
            run(x).backward(grad)
            x.grad = None
            for coefficient in learnt:
                coefficient.grad = None

        return once

    variants = {name: step(run) for name, run in providers.items()}
    target = torch.empty_like(current)
    variants["copy in place"] = lambda: target.copy_(current)
    return variants


def record(case: dict[str, str], provider: str, seconds: list[float], neuron_steps: int) -> dict[str, object]:
    """A row of the CSV file; ``case`` has the op, the case and the buffers."""
    low, middle, high = statistics.quantiles(seconds, n=4)
    return {
        "op": case["op"], "case": case["case"], "provider": provider, "buffers": case["buffers"],
        "mode": "forward+backward", "dtype": "float32",
        "ms_q25": f"{low * 1e3:.4f}", "ms_median": f"{middle * 1e3:.4f}", "ms_q75": f"{high * 1e3:.4f}",
        "ns_per_neuron_step": f"{middle * 1e9 / neuron_steps:.4f}",
        "device": device_name(torch.device("cpu")), "threads": torch.get_num_threads(), "torch": torch.__version__,
        "version": hnn_kernels.__version__, "commit": commit(), "date": datetime.date.today().isoformat(),
    }  # fmt: skip


def main() -> None:
    """Print the table, and append it to a CSV file where one is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--op", choices=OPS, nargs="+", default=OPS)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--no-compile", action="store_true", help="leave the compiled loop out (it takes minutes)")
    parser.add_argument("--csv", type=Path, help="append the rows to this file")
    arguments = parser.parse_args()

    chosen = hnn_kernels.explain("cpu").chosen
    if chosen != "cpu":
        raise SystemExit(f"the C++ kernels are not there:\n{hnn_kernels.explain('cpu')}")
    device = device_name(torch.device("cpu"))
    print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}, float32, forward + backward")
    print(f"{'op':>16} {'[T, B, N]':>16} {'buffers':>8} {'cpu ms':>8} {'eager ms':>9} {'x':>6} "
          f"{'compiled ms':>12} {'x':>6} {'floor ms':>9} {'over floor':>11}")  # fmt: skip
    rows = []
    keep_what_is_freed()
    for op, shape in itertools.product(arguments.op, SHAPES):
        variants = variants_for(op, shape, not arguments.no_compile)
        for fresh in (False, True):
            seconds = interleave(variants, arguments.repeats, give_back if fresh else lambda: None)
            median = {name: statistics.median(s) for name, s in seconds.items()}
            neuron_steps = shape[0] * shape[1] * shape[2]
            floor = median["copy in place"] * BYTES_PER_NEURON_STEP / 8
            own = median["cpu"]
            compiled = median.get("compiled", float("nan"))
            print(f"{op:>16} {shape!s:>16} {'fresh' if fresh else 'reused':>8} {own * 1e3:8.2f} "
                  f"{median['eager'] * 1e3:9.2f} {median['eager'] / own:6.1f} {compiled * 1e3:12.2f} "
                  f"{compiled / own:6.1f} {floor * 1e3:9.2f} {own / floor:11.2f}", flush=True)  # fmt: skip
            case = {"op": op, "case": "x".join(map(str, shape)), "buffers": "fresh" if fresh else "reused"}
            rows += [record(case, name, values, neuron_steps) for name, values in seconds.items()]
    if arguments.csv:
        append(arguments.csv, rows)


if __name__ == "__main__":
    sys.exit(main())
