"""The one timing loop: variants take turns, so that a change of the machine's pace meets all of them.

A variant is a function of ``lap``, which it may call between its parts: forward, then backward. On a GPU the laps are
read from events, after a synchronisation.
"""

import itertools
import signal
import statistics
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import torch

Variant = Callable[[Callable[[], None]], object]
Laps = tuple[float, ...]  # seconds
Name = TypeVar("Name", bound=Hashable)


class Plan(NamedTuple):
    """How long is measured.

    Attributes:
        turns: of every variant, and
        seconds: what all of them together may take of it, but for one call in each turn.
        most: calls in a turn.
        limit: seconds for one call; who is slower is not measured.
        first: seconds for the first call, with compilation.
    """

    turns: int = 7
    seconds: float = 0.5
    most: int = 20
    limit: float = 2.0
    first: float = 60.0


class OverTimeError(BaseException):
    """A call took longer than it may. No library's ``except Exception`` catches it."""


# What the variant before left in the caches is paid for by calls that are not timed, for so long and at least one:
# after an eager loop that takes any variant of under a millisecond some ten calls. A slow one pays within its call.
WARM_UP_SECONDS, SLOW_SECONDS = 0.02, 0.2


class CPUClock:
    """The time of day."""

    def now(self) -> float:
        """This moment, in seconds."""
        return time.perf_counter()

    def laps(self, moments: list[float]) -> Laps:
        """Seconds between them."""
        return tuple(b - a for a, b in itertools.pairwise(moments))


class CUDAClock:
    """Events in the stream: what passes on the device, and while it waits for what a call has yet to launch."""

    def now(self) -> torch.cuda.Event:
        """This moment of the stream."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def laps(self, moments: list[torch.cuda.Event]) -> Laps:
        """Seconds between them, once the device has come to the last."""
        moments[-1].synchronize()
        return tuple(a.elapsed_time(b) / 1e3 for a, b in itertools.pairwise(moments))


Clock = CPUClock | CUDAClock


def clock_of(device: torch.device) -> Clock:
    """The clock to measure on ``device``."""
    return CUDAClock() if device.type == "cuda" else CPUClock()


def once(variant: Variant, clock: Clock) -> Laps:
    """Seconds of the parts of one call."""
    moments = [clock.now()]
    variant(lambda: moments.append(clock.now()))
    moments.append(clock.now())
    return clock.laps(moments)


@contextmanager
def time_limit(seconds: float, why: str) -> Iterator[None]:
    """Interrupt what runs inside once ``seconds`` are over, between two of its Python instructions.

    Where the system has no such alarm, or in another thread than the first, nothing is interrupted.

    Raises:
        OverTimeError: the time was over; its message is ``why``.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(*_: object) -> None:
        raise OverTimeError(why)

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def interleave(
    variants: Mapping[Name, Variant], plan: Plan, clock: Clock, before: Callable[[], object] = lambda: None
) -> tuple[dict[Name, list[Laps]], dict[Name, Exception]]:
    """The laps of every timed call, each made after ``before``, and why a variant that failed has none.

    A turn begins with calls that are not timed, see ``WARM_UP_SECONDS``.
    """
    laps: dict[Name, list[Laps]] = {name: [] for name in variants}
    failed: dict[Name, Exception] = {}
    for _, name in itertools.product(range(plan.turns), variants):
        if name in failed:
            continue
        try:
            if not laps[name] or sum(laps[name][-1]) < SLOW_SECONDS:
                _warm_up(variants[name], clock, before)
            laps[name] += _turn(variants[name], plan, clock, before)
        except Exception as error:
            failed[name] = error.with_traceback(None)  # whose frames hold tensors
            del laps[name]
    return laps, failed


def _warm_up(variant: Variant, clock: Clock, before: Callable[[], object]) -> None:
    before()
    warm = sum(once(variant, clock))
    while warm < WARM_UP_SECONDS:
        warm += sum(once(variant, clock))


def _turn(variant: Variant, plan: Plan, clock: Clock, before: Callable[[], object]) -> list[Laps]:
    measured: list[Laps] = []
    spent = 0.0
    while not measured or (len(measured) < plan.most and spent < plan.seconds / plan.turns):
        before()
        measured.append(once(variant, clock))
        spent += sum(measured[-1])
    return measured


def figures(seconds: Iterable[float]) -> dict[str, float]:
    """The columns of a row that two calls or more give: quartiles in milliseconds."""
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return {"q25_ms": low * 1e3, "median_ms": median * 1e3, "q75_ms": high * 1e3}
