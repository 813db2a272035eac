"""The run over all cases: build, check and time each provider's work, and make the rows of the record."""

import gc
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from ..core import graphs, memory, timing
from ..core.cases import Case
from ..core.examples import ExampleStep, concerned
from ..core.fairness import DisagreementError
from ..core.layer import Provider, Unsupported, layer_of, multiplier
from ..core.networks import Step
from ..core.operations import MODES, OPS
from ..core.products import SpikeProduct
from ..core.timing import Laps, OverTimeError, Plan, Variant
from ..core.workloads import Work, Workload, least_seconds
from ..providers.helpers import Compiled
from ..providers.loops import Loop
from ..records.rows import Row, Run
from ..records.standings import PRODUCTS

COPY = "copy"
# The work of each kind of operation.
WORKLOADS: Mapping[str, Callable[[Case, torch.device], Workload]] = {
    "neuron": Workload, "linear": Workload, "step": Step, "product": SpikeProduct,
    "example": ExampleStep,
}  # fmt: skip
Watch = Callable[[str], object]  # called with the name of the next step, for the progress bar


class Ready(NamedTuple):
    """A variant that may be timed, with the columns that are known before its turns."""

    version: str
    variant: Variant
    first: Laps
    peak_bytes: int
    tape_bytes: int
    replays: graphs.Captured | None = None
    spike_rate: float | None = None
    note: str = ""


def run(
    cases: Sequence[Case], providers: Sequence[Provider], device: torch.device, plan: Plan, watch: Watch
) -> Iterator[tuple[Case, list[Row]]]:
    """Yield each case with its rows as soon as it is measured.

    An exception of a provider becomes the note of its row. Only an interrupt ends the run.

    Args:
        cases: the cases, in order.
        providers: the providers.
        device: the device to measure on.
        plan: the times to spend.
        watch: called with the name of each provider of a case before it is checked, and before the turns.
    """
    shared = Run(device)
    slow: dict[tuple[str, str], int] = {}
    for case in cases:
        yield case, Measurement(case, providers, device, plan, shared, watch, slow).rows()
        # Otherwise the compilations for this case would count as recompilations in the next one.
        if "torch._dynamo" in sys.modules:
            torch._dynamo.reset()
        _free(device)


class Measurement:
    """A case on a device, by all providers.

    ``slow`` holds, for an operation and a provider, the fewest steps whose first call took too long. With as many steps
    or more the provider is not tried again.
    """

    def __init__(
        self,
        case: Case,
        providers: Sequence[Provider],
        device: torch.device,
        plan: Plan,
        shared: Run,
        watch: Watch,
        slow: dict[tuple[str, str], int],
    ) -> None:
        self.case, self.op, self.device = case, OPS[case.op], device
        self.providers = [provider for provider in providers if concerned(provider, self.op)]
        self.plan, self.watch, self.slow = plan._replace(seconds=self.op.effort * plan.seconds), watch, slow
        self.clock = timing.clock_of(device)
        self.row = partial(shared.row, case)

    def rows(self) -> list[Row]:
        """The rows: one per buffers, provider and mode, and one for a provider without figures."""
        try:
            least = least_seconds(self.case, self.device)
            if least > self.plan.limit:
                raise OverTimeError(f"{_over(self.plan)}: its matrix products alone take about {least:.0f} s here")
            workload = WORKLOADS[self.op.kind](self.case, self.device)
        except (Exception, OverTimeError) as error:
            why = reason(error)
            return [self.row(provider.name, note=why) for provider in self.providers]
        with workload.precision():
            return self._measure(workload)

    def _measure(self, workload: Workload) -> list[Row]:
        ready: dict[str, Ready] = {}
        refused: dict[str, str] = {}
        if self.op.has_floor:
            self.watch(PRODUCTS)
            try:
                ready[PRODUCTS] = self._prepare(workload.products(), PRODUCTS, torch.__version__)
            except (Exception, OverTimeError) as error:
                why = reason(error)
                return [self.row(name, note=why) for name in (PRODUCTS, *(p.name for p in self.providers))]
        for provider in self.providers:
            self.watch(provider.name)
            try:
                version = provider.version()
                if why := _not_tried(provider, self.case, self.plan):
                    raise Unsupported(why)
                if self.case.shape[0] >= self.slow.get((self.op.name, provider.name), sys.maxsize):
                    raise OverTimeError(f"{_over_first(self.plan)}, with as many steps or fewer")
                work = workload.of(provider)
                ready[provider.name] = self._checked(work, self._prepare(work, provider.name, version))
            except (Exception, OverTimeError) as error:
                refused[provider.name] = reason(error)
                work = None
                _free(self.device)

        self.watch("turns")
        variants = {name: one.variant for name, one in ready.items()}
        if self.op.elements_forward:
            variants[COPY] = workload.copy()
        rows: list[Row] = []
        kinds: list[tuple[str, dict[str, Variant], Callable[[], object]]] = [
            (buffers, variants, before) for buffers, before in memory.buffers(self.device).items()
        ]
        replays: dict[str, graphs.Captured] = {name: one.replays for name, one in ready.items() if one.replays}
        if replays:
            if COPY in variants:
                calls = max(one.calls for one in replays.values())
                replays[COPY] = graphs.Replay(variants[COPY], calls)
            kinds.append((memory.GRAPH, dict(replays), lambda: None))
        for buffers, timed, before in kinds:
            laps, failed = timing.interleave(timed, self.plan, self.clock, before)
            for name, error in failed.items():
                del timed[name]
                refused[name] = reason(error)
            if buffers == memory.GRAPH:
                laps = {name: [replays[name].each(call) for call in calls] for name, calls in laps.items()}
            copy = timing.figures(map(sum, laps.pop(COPY)))["median_ms"] if COPY in laps else None
            for name, calls in laps.items():
                rows += self._figures(workload, name, ready[name], buffers, calls, copy)
        return rows + [self.row(name, note=why) for name, why in refused.items()]

    def _prepare(self, work: Work, name: str, version: str) -> Ready:
        variant, plan = work.variant(), self.plan
        try:
            with timing.time_limit(plan.first, _over_first(plan)):
                first = timing.once(variant, self.clock)
                seconds = sum(timing.once(variant, self.clock))
                if seconds > plan.limit:  # the second call may have compiled again
                    seconds = sum(timing.once(variant, self.clock))
        except OverTimeError:
            self.slow[self.op.name, name] = self.case.shape[0]
            raise
        if seconds > plan.limit:
            raise OverTimeError(f"{_over(plan)}: it takes {seconds:.1f} s")
        peak, tape = memory.peak_bytes(work, self.device), memory.tape_bytes(work, self.device)
        ready = Ready(version, variant, first, peak, tape)
        # A step's optimizer keeps numbers on the host, which a graph would not see.
        if self.device.type != "cuda" or self.op.kind in ("step", "example"):
            return ready
        try:
            return ready._replace(replays=graphs.Replays(work, graphs.calls_of(len(work.items), seconds)))
        except Exception as error:  # a library may do what cannot be captured; its eager times stand alone then
            return ready._replace(note=f"no graph: {reason(error)}")

    def _checked(self, work: Work, ready: Ready) -> Ready:
        agreements = list(work.check())
        notes = (ready.note, *(note for one in agreements for note in one.notes))
        note = "; ".join(dict.fromkeys(filter(None, notes)))
        rates = [one.spike_rate for one in agreements if one.spike_rate is not None]
        return ready._replace(spike_rate=sum(rates) / len(rates) if rates else None, note=note)

    def _figures(
        self, workload: Workload, name: str, ready: Ready, buffers: str, calls: list[Laps], copy: float | None
    ) -> Iterator[Row]:
        forward, backward = self.op.elements_forward, self.op.elements_backward
        for mode, part, elements in zip(
            MODES, (slice(0, 1), slice(1, 2), slice(0, 2)), (forward, backward, forward + backward), strict=True
        ):
            figures: dict[str, float | None] = timing.figures(sum(call[part]) for call in calls)
            median = figures["median_ms"]
            figures |= {"ns_per_neuron_step": median * 1e6 / workload.neuron_steps, "spike_rate": ready.spike_rate}
            figures["first_call_ms"] = sum(ready.first[part]) * 1e3
            if mode == MODES[-1]:
                figures |= {"peak_bytes": ready.peak_bytes, "tape_bytes": ready.tape_bytes}
            if copy is not None:
                moved = elements * workload.neuron_steps * workload.dtype.itemsize
                figures |= {"bytes_moved": moved, "gb_per_s": moved / median / 1e6}
                figures["share_of_copy"] = elements / 2 * copy / median  # a copy moves two elements: a read and a write
            yield self.row(name, mode=mode, buffers=buffers, version=ready.version, note=ready.note, **figures)


def reason(error: BaseException) -> str:
    """The reason why there is no figure, in one line."""
    words = next(iter(str(error).strip().splitlines()), "")
    if isinstance(error, Unsupported | OverTimeError):
        return words
    if isinstance(error, DisagreementError):
        return f"disagrees with the reference: {words}"
    # The CPU's allocator raises a plain RuntimeError.
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
        return "out of memory"
    return f"{type(error).__name__}: {words}"


def estimated_seconds(cases: Sequence[Case], providers: Sequence[Provider], device: torch.device, plan: Plan) -> float:
    """An estimate of the seconds that :func:`run` takes.

    The checks and untimed calls of a provider take about as long as its turns. On a CPU those of eager loops take
    longer, some thirty calls of 10 ns per neuron-step. A provider without such a layer or product takes no time.
    """
    each = (1 + len(memory.buffers(device))) * plan.seconds
    extra = 3e-7 if device.type == "cpu" else 0.0
    total = 0.0
    able: dict[tuple[str, str], list[Provider]] = {}
    for case in cases:
        if least_seconds(case, device) > plan.limit:
            continue
        if (case.op, case.dtype) not in able:
            able[case.op, case.dtype] = [one for one in providers if _can(one, case, device)]
        measured = [one for one in able[case.op, case.dtype] if not _not_tried(one, case, plan)]
        total += (OPS[case.op].effort * each + extra * case.neuron_steps) * len(measured)
        total += min(_compile_seconds(case), plan.first) * sum(isinstance(one, Compiled) for one in measured)
    return total


def _compile_seconds(case: Case) -> float:
    """The seconds to compile a loop over time on two cores of a server: per layer 5, and a third for each step."""
    return OPS[case.op].layers * (5 + case.shape[0] / 3)


def _can(provider: Provider, case: Case, device: torch.device) -> bool:
    try:
        provider.version()
        if OPS[case.op].kind == "example":
            return concerned(provider, OPS[case.op])
        if OPS[case.op].kind == "product":
            multiplier(provider).product(nn.Linear(1, 1, device=device), device)
        else:
            layer_of(provider, OPS[case.op].dynamics, (1,), device, case.torch_dtype)
    except Exception:  # its row will have the reason
        return False
    return True


def _not_tried(provider: Provider, case: Case, plan: Plan) -> str:
    """The reason why this provider skips the case; empty if it does not."""
    if not isinstance(provider, Compiled) or OPS[case.op].kind == "product":  # it compiles no product
        return ""
    if case.brief and not isinstance(provider.base, Loop):
        return "measured at other sizes: compiling it takes a minute for each"
    if (seconds := _compile_seconds(case)) > 2 * plan.first:
        return f"{_over_first(plan)}: with so many steps it takes about {seconds:.0f} s to compile"
    return ""


def _over_first(plan: Plan) -> str:
    return f"over the time limit of {plan.first:g} s for the first call"


def _over(plan: Plan) -> str:
    return f"over the time limit of {plan.limit:g} s per call"


def _free(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
