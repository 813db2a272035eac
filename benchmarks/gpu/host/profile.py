"""A profiler's counters of eight kernels: the shares of memory and of issue, and what warps wait for.

The kernels are forward and backward, plain and with an axon that is learnt, in float32 and bfloat16.
"""

import csv
import io
import sys
from collections.abc import Iterable

from . import facts
from .programs import found, run, taken

SHAPE = (25, 64, 16384)
_STALLS = ("long_scoreboard", "short_scoreboard", "wait", "lg_throttle", "mio_throttle", "math_pipe_throttle",
           "not_selected", "barrier")  # fmt: skip
# The counter's name, and what it is called here.
COUNTERS = {
    "gpu__time_duration.sum": "time",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed": "DRAM",
    "dram__bytes.sum": "bytes",
    "lts__t_sector_hit_rate.pct": "L2 hits",
    "smsp__issue_active.avg.pct_of_peak_sustained_active": "issue",
    "smsp__inst_executed.sum": "instructions",
    "sm__warps_active.avg.pct_of_peak_sustained_active": "warps",
    "launch__registers_per_thread": "registers",
} | {f"smsp__average_warps_issue_stalled_{one}_per_issue_active.ratio": f"stall {one}" for one in _STALLS}
# What every version of the profiler has, should it not know one of the counters.
SECTIONS = ("SpeedOfLight", "LaunchStats", "Occupancy", "SchedulerStats", "WarpStateStats")


def kernels() -> None:
    """Run the eight kernels, once before the profiler looks."""
    import torch

    import hnn_kernels

    name = next(name for name in ("cuda", "triton") if "cuda" in hnn_kernels.backends()[name].devices)
    fixed = hnn_kernels.IIR.dual_exponential(4, 1)
    learnt = [torch.tensor(c, device="cuda")[:, None].repeat(1, SHAPE[-1]).requires_grad_() for c in fixed]
    calls = []
    for dtype in (torch.float32, torch.bfloat16):
        current = torch.randn(SHAPE, device="cuda").to(dtype).requires_grad_()
        for axon in (None, hnn_kernels.IIR(*learnt)):
            leaves = [current, *(learnt if axon else ())]
            calls.append((current, axon, leaves, torch.randn_like(current)))

    def all_of_them() -> None:
        for current, axon, leaves, grad in calls:
            out, _ = hnn_kernels.lif(current, 0.7, 0.7, axon=axon, return_state=False, backend=name)
            torch.autograd.grad(out, leaves, grad)
        torch.cuda.synchronize()

    all_of_them()
    torch.cuda.profiler.start()
    all_of_them()
    torch.cuda.profiler.stop()


def table(text: str) -> list[tuple[str, dict[str, str]]]:
    """The kernels in the profiler's CSV, in order, each with its counters; lines before the header are skipped."""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if '"Metric Name"' in line), len(lines))
    found: dict[str, tuple[str, dict[str, str]]] = {}
    for row in csv.DictReader(io.StringIO("\n".join(lines[start:]))):
        if row.get("Metric Name"):
            counters = found.setdefault(row["ID"], (row["Kernel Name"], {}))[1]
            counters[row["Metric Name"]] = f"{row['Metric Value']} {row.get('Metric Unit') or ''}".strip()
    return list(found.values())


def _profile(say: facts.Facts, choice: Iterable[str]) -> list[tuple[str, dict[str, str]]]:
    report = say.out / "gpu_host_profile.csv"
    command = [
        found("ncu") or "ncu", "--clock-control", "none", "--profile-from-start", "off", "--csv", "--target-processes",
        "all", "--kernel-name", "regex:forward|backward", "--log-file", str(report), *choice,
    ]  # fmt: skip
    code = run([*command, sys.executable, "-m", "benchmarks.gpu.host.profile", "--kernels"])
    text = taken(report)
    kernels_found = table(text)
    if not kernels_found:
        say.say("profiler", f"exit code {code}; {'; '.join(text.strip().splitlines()[-3:])}")
    return kernels_found


def main() -> int:
    """Say each kernel's counters; return ``TOLD`` if the profiler has none."""
    say, _ = facts.given(__doc__)
    measured = _profile(say, ("--metrics", ",".join(COUNTERS)))
    if not measured:
        measured = _profile(say, [word for one in SECTIONS for word in ("--section", one)])
    for number, (name, counters) in enumerate(measured, 1):
        told = ", ".join(f"{COUNTERS.get(key, key)} {value}" for key, value in counters.items())
        say.say(f"kernel {number}, {name[:60]}", told)
    return 0 if measured else facts.TOLD


if __name__ == "__main__":
    if "--kernels" in sys.argv:
        kernels()
    else:
        raise SystemExit(main())
