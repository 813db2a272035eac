"""Forward and backward of the LIF layer on a GPU, against the bandwidth of a copy.

    python -m benchmarks.lif_gpu [--repeats 20] [--csv FILE]

Variants are interleaved; each timing covers one call between two CUDA events, over inputs that rotate through more
memory than the L2 cache holds. A figure is a median. The floor is the bytes that must move over the copy bandwidth.
"""

import argparse
import datetime
import itertools
import statistics
from collections.abc import Callable
from pathlib import Path

import torch

import hnn_kernels
from benchmarks.lif import providers_for
from benchmarks.records import append
from hnn_models.provenance import commit

LARGE = (25, 32, 32 * 28 * 28)
CASES = {
    "lif": ((25, 64, 500), (25, 64, 4096), (100, 32, 4096), LARGE, (500, 16, 4096), (1000, 8, 1024)),
    "lif_axon": ((25, 64, 500), (100, 32, 4096), LARGE),
    "lif_axon_learnt": ((25, 64, 500), (100, 32, 4096), LARGE),
}
DTYPES = (torch.float32, torch.bfloat16)
EAGER_LIMIT = 100  # steps; the plain loop beyond takes seconds per call
ROTATED_BYTES = 256 << 20  # several times the L2 cache of any current GPU


def event_ms(run: Callable[[], object]) -> float:
    """Milliseconds on the device for one call."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def variants_for(op: str, shape: tuple[int, ...], dtype: torch.dtype) -> dict[tuple[str, str], Callable[[], object]]:
    """``(provider, mode)`` to a function that does it once, on the next of several inputs."""
    elements = shape[0] * shape[1] * shape[2]
    copies = max(1, min(8, ROTATED_BYTES // (elements * dtype.itemsize)))
    currents = [torch.randn(shape, device="cuda").add_(0.5).to(dtype).requires_grad_() for _ in range(copies)]
    grads = [torch.randn(shape, device="cuda").to(dtype) for _ in range(copies)]
    target = torch.empty_like(grads[0])
    usable = tuple(name for name in ("cuda", "triton") if "cuda" in hnn_kernels.backends()[name].devices)
    providers, learnt = providers_for(op, shape[-1], usable, device="cuda")
    if shape[0] > EAGER_LIMIT:
        del providers["eager"]
    turns = itertools.count()
    result: dict[tuple[str, str], Callable[[], object]] = {}
    for name, run in providers.items():

        def forward(run=run):
            with torch.no_grad():
                run(currents[next(turns) % copies])

        def both(run=run):
            i = next(turns) % copies
            torch.autograd.grad(run(currents[i]), (currents[i], *learnt), grads[i])

        result[name, "forward"] = forward
        result[name, "forward+backward"] = both
    result["copy", "copy"] = lambda: target.copy_(grads[next(turns) % copies])
    return result


def main() -> None:
    """Print a table, and append it to a CSV file where one is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--csv", type=Path, help="append the rows to this file")
    arguments = parser.parse_args()
    device = torch.cuda.get_device_name()
    import triton

    print(f"{device}, torch {torch.__version__}, triton {triton.__version__}")
    rows = []
    cases = [(op, shape) for op, shapes in CASES.items() for shape in shapes]
    for (op, shape), dtype in itertools.product(cases, DTYPES):
        variants = variants_for(op, shape, dtype)
        ms: dict[tuple[str, str], list[float]] = {key: [] for key in variants}
        first = {key: event_ms(run) for key, run in variants.items()}
        for turn, (key, run) in itertools.product(range(-3, arguments.repeats), variants.items()):
            value = event_ms(run)
            if turn >= 0:
                ms[key].append(value)
        elements = shape[0] * shape[1] * shape[2]
        copy = statistics.median(ms["copy", "copy"])
        bandwidth = 2 * elements * dtype.itemsize / copy / 1e6
        print(f"{op} {shape} {dtype}: copy {copy:.4f} ms, {bandwidth:.0f} GB/s", flush=True)
        for (provider, mode), values in ms.items():
            low, middle, high = statistics.quantiles(values, n=4)
            trains = {"forward": 2, "forward+backward": 5, "copy": 2}[mode]
            over = middle / (copy * trains / 2)
            print(f"  {provider:8} {mode:17} {middle:9.4f} ms  {over:6.2f} x floor")
            rows.append({
                "op": op, "case": "x".join(map(str, shape)), "provider": provider, "mode": mode,
                "dtype": str(dtype).removeprefix("torch."), "ms_q25": f"{low:.5f}", "ms_median": f"{middle:.5f}",
                "ms_q75": f"{high:.5f}", "ms_first_call": f"{first[provider, mode]:.3f}",
                "over_floor": f"{over:.3f}", "copy_gb_per_s": f"{bandwidth:.1f}", "device": device,
                "torch": torch.__version__, "triton": triton.__version__, "cuda": torch.version.cuda,
                "version": hnn_kernels.__version__, "commit": commit(), "date": datetime.date.today().isoformat(),
            })  # fmt: skip
        del variants
        torch.cuda.empty_cache()
    if arguments.csv:
        append(arguments.csv, rows)


if __name__ == "__main__":
    main()
