"""Work as CUDA graphs. A replay costs the host next to nothing, so its time is the device's alone.

An eager call is timed with the host's part of it: the device waits while Python prepares the next launch, and after a
synchronisation it always does. So a layer of under a millisecond shows the host.
"""

import gc
from collections.abc import Callable

import torch

from .timing import Laps, Variant
from .workloads import Work

# A replay has at least LEAST_CALLS calls, so that its own launch, some microseconds, is shared. With more items each is
# taken once. What takes so long to launch that its calls would be over HOST_SECONDS has fewer.
LEAST_CALLS, HOST_SECONDS = 8, 0.5
_WARM_UP = 3  # calls on the stream of the capture, which torch's notes on graphs ask for


def calls_of(items: int, seconds: float) -> int:
    """The number of calls in a graph, for a number of items and the seconds of an eager call."""
    return max(1, min(max(items, LEAST_CALLS), int(HOST_SECONDS / max(seconds, 1e-9))))


def _capture(call: Callable[[], object], calls: int, pool: object = None) -> torch.cuda.CUDAGraph:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UP):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    gc.collect()  # a tensor that is freed during the capture would be an error
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool, stream=stream):
        for _ in range(calls):
            call()
    return graph


class Replays:
    """A work as a variant of the timing loop, captured when it is made.

    One graph has ``calls`` forward calls, the other as many of forward and backward. A call of the variant replays
    both. :meth:`each` makes the laps of one call of the work.

    Raises:
        RuntimeError: the work does what cannot be captured, such as waiting for the device.
    """

    def __init__(self, work: Work, calls: int) -> None:
        items = [work.items[i % len(work.items)] for i in range(calls + _WARM_UP)]
        turns = {name: iter(items) for name in ("forward", "both")}

        def both() -> None:
            x, target = next(turns["both"])
            work.backward(work.forward(x, target), x, target)

        self.calls = calls
        self._kept = work  # a replay reads its inputs and coefficients, which a graph does not keep
        self._forward = _capture(lambda: work.forward(*next(turns["forward"])), calls)
        # They never run at one time, so they share their memory.
        self._both = _capture(both, calls, self._forward.pool())

    def __call__(self, lap: Callable[[], None]) -> None:
        self._forward.replay()
        lap()
        self._both.replay()

    def each(self, laps: Laps) -> Laps:
        """The seconds of forward and of backward of one call."""
        forward, both = laps
        return forward / self.calls, (both - forward) / self.calls


class Replay:
    """A variant without laps, such as a copy, captured ``calls`` times."""

    def __init__(self, variant: Variant, calls: int) -> None:
        self.calls = calls
        self._kept = variant
        self._graph = _capture(lambda: variant(lambda: None), calls)

    def __call__(self, lap: Callable[[], None]) -> None:
        self._graph.replay()

    def each(self, laps: Laps) -> Laps:
        """The seconds of one call."""
        return tuple(seconds / self.calls for seconds in laps)


Captured = Replays | Replay
