"""What a call allocates: its peak, and what forward keeps for backward. And the allocator's part in timing."""

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from hnn_models.training.memory import keep_what_is_freed

from .workloads import Work

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler tells of its own starting and stopping otherwise


class Watched:
    """Bytes that tensors took inside :func:`watched`: the most at a time, and what is left at the end."""

    peak = left = 0


@contextmanager
def watched(device: torch.device) -> Iterator[Watched]:
    """Watch torch's allocator on ``device``.

    On the CPU its own reports to the profiler are added up: they have every tensor and every temporary of an operator,
    but not what libraries take elsewhere. What was allocated before the first watch counts nowhere.
    """
    found = Watched()
    if device.type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        yield found
        torch.cuda.synchronize()
        found.left = torch.cuda.memory_allocated() - before
        found.peak = torch.cuda.max_memory_allocated() - before
        return
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as told:
        yield found
    events = (event for event in told.profiler.kineto_results.events() if event.name() == "[memory]")
    for event in sorted(events, key=lambda event: event.start_ns()):
        found.left += event.nbytes()
        found.peak = max(found.peak, found.left)


def peak_bytes(work: Work, device: torch.device) -> int:
    """The most that a call has allocated at a time, above what was there before it."""
    x, target = work.items[0]
    with watched(device) as found:
        work.backward(work.forward(x, target), x, target)
    return found.peak


def tape_bytes(work: Work, device: torch.device) -> int:
    """What is kept between forward and backward, the input with it where it is needed again.

    The input is a copy that nothing but the graph can hold, and of the output only its place in the graph is kept:
    what is then left is what backward needs, wherever a library keeps it.
    """
    x, target = work.items[0]
    with watched(device) as found:
        node = _node(work.forward, x, target)
    del node
    return found.left


def _node(forward: Callable[[Tensor, Tensor], Tensor], x: Tensor, target: Tensor) -> object:
    return forward(x.clone() if x.requires_grad else x, target).grad_fn


def buffers(device: torch.device) -> dict[str, Callable[[], object]]:
    """The ways to measure with, and what to do before each call.

    On a CPU: with *reused* buffers the allocator keeps what is freed, as in the steady state of training; for *fresh*
    ones free memory is given back before each call, so that every tensor is paid for in page faults, as tensors over
    32 MiB are by default. Where the C library cannot be asked, buffers are what the *system* gives. On a GPU the
    allocator always keeps what is freed, and inputs are *rotated* past the cache.
    """
    if device.type == "cuda":
        return {"rotated": lambda: None}
    if not keep_what_is_freed():
        return {"system": lambda: None}
    return {"reused": lambda: None, "fresh": lambda: ctypes.CDLL(None).malloc_trim(0)}


def raise_when_full() -> None:
    """Have an allocation beyond the memory that is free raise (on Linux) before the system ends the process."""
    if not sys.platform.startswith("linux"):
        return
    import resource

    free = _kilobytes("/proc/meminfo", "MemAvailable")
    taken = _kilobytes("/proc/self/status", "VmData")
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (int(1024 * (taken + 0.9 * free)), most))


def _kilobytes(path: str, name: str) -> int:
    return next(int(line.split()[1]) for line in Path(path).read_text().splitlines() if line.startswith(f"{name}:"))
