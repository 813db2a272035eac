"""The timing loop. Variants take turns, so that a change of the machine's speed affects all of them.

A variant is a function of ``lap``, which it may call between its parts, such as forward and backward. On a GPU the laps
are read from events, after a synchronisation.
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
    """The time to spend on a measurement.

    Attributes:
        turns: the number of turns of each variant.
        seconds: the time for all turns of a variant together. A turn makes one call at least, even if that is longer.
        most: the most calls in a turn.
        limit: the time limit of one call, in seconds. A slower variant is not measured.
        first: the time limit of the first call, with compilation, in seconds.
    """

    turns: int = 7
    seconds: float = 0.5
    most: int = 20
    limit: float = 2.0
    first: float = 60.0


class OverTimeError(BaseException):
    """A call took longer than its limit. It is no ``Exception``, so that no library's handler catches it."""


# A turn begins with untimed calls, for WARM_UP_SECONDS and one at least, because the variant before has filled the
# caches with its own data. (After an eager loop, a variant of under a millisecond needs some ten calls.) A variant
# whose calls take SLOW_SECONDS or more is not warmed up: within such a call the effect is small.
WARM_UP_SECONDS, SLOW_SECONDS = 0.02, 0.2


class CPUClock:
    """The process's clock."""

    def now(self) -> float:
        """The time now, in seconds."""
        return time.perf_counter()

    def laps(self, moments: list[float]) -> Laps:
        """The seconds between neighbouring ``moments``."""
        return tuple(b - a for a, b in itertools.pairwise(moments))


class CUDAClock:
    """Events in the stream. They count the device's work, and its waiting while a call launches more work."""

    def now(self) -> torch.cuda.Event:
        """An event at the end of the stream."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def laps(self, moments: list[torch.cuda.Event]) -> Laps:
        """The seconds between neighbouring ``moments``, after the device has reached the last."""
        moments[-1].synchronize()
        return tuple(a.elapsed_time(b) / 1e3 for a, b in itertools.pairwise(moments))


Clock = CPUClock | CUDAClock


def clock_of(device: torch.device) -> Clock:
    """The clock for ``device``."""
    return CUDAClock() if device.type == "cuda" else CPUClock()


def once(variant: Variant, clock: Clock) -> Laps:
    """The seconds of each part of one call."""
    moments = [clock.now()]
    variant(lambda: moments.append(clock.now()))
    moments.append(clock.now())
    return clock.laps(moments)


@contextmanager
def time_limit(seconds: float, why: str) -> Iterator[None]:
    """Interrupt the body after ``seconds``, between two Python instructions.

    On a system without such an alarm, and outside the main thread, nothing is interrupted.

    Raises:
        OverTimeError: the time is over. Its message is ``why``.
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
    """Time the variants in turns.

    Args:
        variants: the variants by name.
        plan: the numbers of turns and calls.
        clock: the clock of the device.
        before: called before every timed call.

    Returns:
        The laps of every timed call, and the exceptions of the variants that failed, which have no laps.
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
            failed[name] = error.with_traceback(None)  # the traceback's frames hold tensors
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
    """The quartiles of two calls or more, in milliseconds, as columns of a row."""
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return {"q25_ms": low * 1e3, "median_ms": median * 1e3, "q75_ms": high * 1e3}
