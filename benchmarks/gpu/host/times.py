"""The kernels' times beside a copy: in a graph, which is the device's time, and as eager calls."""

import warnings
from collections.abc import Sequence

import torch

from ...core.cases import SUITES, Case, suite
from ...core.memory import GRAPH
from ...core.timing import Plan
from ...providers import providers
from ...records import record
from ...records.rows import Row
from ...suite import runner
from . import facts

# The first times are few turns of each case, whose calls are a millisecond at most.
FIRST = Plan(turns=5, seconds=0.05, limit=0.5, first=20.0)
QUICK = Plan(turns=5, seconds=0.15, limit=0.5, first=20.0)
REHEARSAL = Plan(turns=2, seconds=0.02, limit=0.5, first=20.0)
MOST_WITHOUT = 3  # then the machine is broken
RECORDS = {"cuda": "bench_gpu.csv", "cpu": "bench_rehearsal.csv"}


def chosen(which: str, device: str) -> tuple[Sequence[Case], tuple[str, ...], Plan]:
    """The cases, the providers and the time for each."""
    if device == "cpu":
        few = [case for case in suite("cpu", quick=True) if case.op.startswith("lif")]
        return few[:1] if which == "first" else few[1:], ("cpu", "loop"), REHEARSAL
    if which == "first":
        return SUITES["gpu_first"], ("cuda", "triton"), FIRST
    return suite("cuda", quick=True), ("cuda", "triton", "loop"), QUICK


def words(rows: Sequence[Row]) -> str:
    """The times of one provider with one kind of buffers."""
    parts = []
    for row in rows:
        if row.mode in ("forward", "backward") and row.median_ms is not None:
            share = f" ({row.share_of_copy:.0%})" if row.share_of_copy is not None else ""
            parts.append(f"{row.mode} {row.median_ms:.4f} ms{share}")
    return ", ".join(parts)


def copy_speed(rows: Sequence[Row]) -> float | None:
    """The bandwidth of the copy in GB/s, bytes read and written; the shares are of it."""
    row = next((row for row in rows if row.share_of_copy and row.gb_per_s), None)
    return None if row is None else row.gb_per_s / row.share_of_copy


def main() -> int:
    """Measure case after case. The next call of the script leaves out those that have a time.

    Return ``TOLD`` if a case has none.
    """
    say, given = facts.given(__doc__, ("--cases", {"choices": ("first", "quick"), "required": True}))
    device = torch.device(say.device)
    cases, names, plan = chosen(given.cases, say.device)
    measured = [one for one in providers() if one.name in names]
    known = say.known()
    left = [case for case in cases if f"case {title(case)}" not in known]
    if len(left) < len(cases):
        say.say("cases", f"{len(cases) - len(left)} of {len(cases)} are in the record")
    without = 0
    with warnings.catch_warnings(action="ignore"):
        for case, rows in runner.run(left, measured, device, plan, lambda what: None):
            # A kernel may be compiled already, by a step before, so the first call tells nothing.
            rows = [row._replace(first_call_ms=None) for row in rows]
            record.append(say.out / RECORDS[say.device], rows)
            tell(say, case, rows)
            without += all(row.median_ms is None for row in rows)
            if without == MOST_WITHOUT:
                say.say("stopped", f"after {without} cases without a time")
                break
    return facts.TOLD if without else 0


def title(case: Case) -> str:
    """The case as it is called in the record."""
    return f"{case.op} {case.name} {case.dtype}"


def tell(say: facts.Facts, case: Case, rows: Sequence[Row]) -> None:
    """Say the times of a case: a line for the copy and for each provider, the device's own time first."""
    kinds = sorted({row.buffers for row in rows if row.buffers}, key=lambda kind: kind != GRAPH)
    here = {kind: [row for row in rows if row.buffers == kind] for kind in kinds}
    speeds = {kind: copy_speed(found) for kind, found in here.items()}
    if speeds:
        say.say(f"{title(case)}, copy", "; ".join(f"{kind}: {one:.0f} GB/s" for kind, one in speeds.items() if one))
    for name in dict.fromkeys(row.provider for row in rows):
        parts = [f"{kind}: {words([row for row in here[kind] if row.provider == name])}" for kind in kinds]
        notes = dict.fromkeys(row.note for row in rows if row.provider == name and row.note)
        say.say(f"{title(case)}, {name}", "; ".join([*(part for part in parts if part[-2:] != ": "), *notes]))
    if any(row.median_ms is not None for row in rows):
        say.say(f"case {title(case)}", "measured")


if __name__ == "__main__":
    facts.leave(main())
