"""Synthetic rows of a benchmark record."""

import itertools
import math

from benchmarks.records.rows import Row

COPY = 12.0  # GB/s
BYTES = {"forward": 8, "backward": 12, "both": 20}
# Each provider's nanoseconds per neuron-step, and its milliseconds per call besides.
PROVIDERS = {
    "cpu": (1.9, 0.05), "reference": (50, 8), "loop x[t]": (30, 10), "loop": (14, 4), "loop compiled": (4.5, 0.3),
    "snntorch": (40, 12), "spikingjelly torch": (22, 7), "norse": (35, 9), "sinabs": (25, 6),
}  # fmt: skip


def row(provider="cpu", median=1.0, *, spread=0.05, **changes) -> Row:
    """A row whose quartiles are ``spread`` below and above its median. With ``median=None`` it has no figures."""
    case, mode = changes.get("case", "25x64x500"), changes.get("mode", "both")
    steps = math.prod(map(int, case.split("x")))
    moved = steps * BYTES[mode]
    empty = Row(
        run="2026-11-22T10:00:00", op="lif", case=case, dtype="float32", mode=mode, buffers="reused", provider=provider,
        version="1.2", q25_ms=None, median_ms=None, q75_ms=None, ns_per_neuron_step=None, bytes_moved=moved,
        gb_per_s=None, share_of_copy=None, first_call_ms=None, peak_bytes=None, tape_bytes=None, spike_rate=None,
        note="", device="A processor", threads=2, torch="2.15.0", triton="", cuda="", commit="abcdef1",
        date="2026-11-22",
    )  # fmt: skip
    if median is None:
        return empty._replace(**changes)
    speed = moved / median / 1e6
    measured = empty._replace(
        q25_ms=median * (1 - spread), median_ms=median, q75_ms=median * (1 + spread), gb_per_s=speed,
        ns_per_neuron_step=median * 1e6 / steps, share_of_copy=speed / COPY, peak_bytes=moved, tape_bytes=4 * steps,
        spike_rate=0.2,
    )  # fmt: skip
    return measured._replace(**changes)


def run(cases, ops=("lif",), modes=("both",), **changes) -> list[Row]:
    """The rows of a run of all providers, without noise. One provider is not installed."""
    rows = []
    for op, case, mode in itertools.product(ops, cases, modes):
        millions = math.prod(map(int, case.split("x"))) / 1e6
        for provider, (ns, ms) in PROVIDERS.items():
            median = (ns * millions + ms) * BYTES[mode] / BYTES["both"]
            rows.append(row(provider, median, op=op, case=case, mode=mode, **changes))
        rows.append(row("gone", None, op=op, case=case, mode=mode, note="gone is not installed", **changes))
    return rows
