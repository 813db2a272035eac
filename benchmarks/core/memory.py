"""The memory of a call: its peak, the tape that forward keeps for backward, and the allocator's part in timing."""

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from hnn_kernels import keep_what_is_freed

from .workloads import Work

# Otherwise the profiler logs each start and stop.
os.environ["KINETO_LOG_LEVEL"] = os.environ.get("KINETO_LOG_LEVEL") or "99"


class Watched:
    """The bytes of tensors inside :func:`watched`: ``peak`` at one time, and ``left`` at the end."""

    peak = left = 0


@contextmanager
def watched(device: torch.device) -> Iterator[Watched]:
    """Watch torch's allocator on ``device``.

    On the CPU the allocator's reports to the profiler are added up. They contain every tensor and every temporary of an
    operator, but no memory that libraries take elsewhere. Memory from before the first watch is not counted.
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
    """The most bytes that a call holds at one time, above those before it."""
    x, target = work.items[0]
    with watched(device) as found:
        work.backward(work.forward(x, target), x, target)
    return found.peak


def tape_bytes(work: Work, device: torch.device) -> int:
    """The bytes that are kept from forward for backward, with the input if backward needs it.

    The input is a copy that only the graph can hold, unless it is data, and of the output only its node in the graph is
    kept. So the bytes that are left are those that backward needs, wherever a library keeps them.
    """
    x, target = work.items[0]
    with watched(device) as found:
        node = _node(work, x, target)
    del node
    return found.left


def _node(work: Work, x: Tensor, target: Tensor) -> object:
    out = work.forward(x if work.data else x.clone(), target)
    # That of a view holds the output's own. In torch 2.11 the node of a Function does not live by its Python object.
    return out.unsqueeze(0).grad_fn


GRAPH = "graph"  # rotated buffers, in a CUDA graph that is replayed (graphs.py)


def buffers(device: torch.device) -> dict[str, Callable[[], object]]:
    """The kinds of buffers to measure with, each with a function to call before each timed call.

    On a CPU there are two. With *reused* buffers the allocator keeps freed memory, as in the steady state of training.
    With *fresh* buffers freed memory goes back to the system before each call, so that every tensor costs page faults,
    as tensors over 32 MiB do by default. A C library without these settings gives *system* buffers. On a GPU the
    allocator always keeps freed memory, and inputs are *rotated* past the cache.
    """
    if device.type == "cuda":
        return {"rotated": lambda: None}
    if not keep_what_is_freed():
        return {"system": lambda: None}
    return {"reused": lambda: None, "fresh": lambda: ctypes.CDLL(None).malloc_trim(0)}


def raise_when_full() -> None:
    """Limit this process's memory to what is free (on Linux), so that a larger allocation raises an error.

    Without the limit the system ends the process.
    """
    if not sys.platform.startswith("linux"):
        return
    import resource

    free = _kilobytes("/proc/meminfo", "MemAvailable")
    taken = _kilobytes("/proc/self/status", "VmData")
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (int(1024 * (taken + 0.9 * free)), most))


def _kilobytes(path: str, name: str) -> int:
    return next(int(line.split()[1]) for line in Path(path).read_text().splitlines() if line.startswith(f"{name}:"))
