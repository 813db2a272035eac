"""The memory of freed tensors: a setting to keep it, and a warning where a loop pays for getting it anew."""

import ctypes
import sys
import threading
import time
import warnings

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # mallopt(3) of glibc
# The same settings for a process that is to be started.
TUNABLES = "GLIBC_TUNABLES=glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=18446744073709551615"


def keep_what_is_freed() -> bool:
    """Have glibc keep the memory of freed CPU tensors until the process ends, and use it again.

    By default glibc asks the system for the memory of every tensor over some MiB, and gives it back when the tensor is
    freed. Each training step then pays for its spike trains in page faults, one per 4 KiB. Call it once, before the
    first step. The setting is the whole process's, and it stays. The process then never shrinks below its peak.

    Returns:
        True if the C library is glibc, and took the setting.
    """
    global _watch
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    kept = mallopt is not None and all([mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, -1)])
    if kept:
        _watch = None
    return kept


class PageFaultWarning(UserWarning):
    """A loop over large layers pays many page faults for memory that it has had before."""


# Bytes of a train from which on a layer is large: allocating it anew costs some 256 faults, more than its kernel.
LARGE = 1 << 20
# A fault costs 2 to 4 us, the zeroing of its page included. At this rate they take 5 to 10 percent of the time. That is
# the calling thread's time at work, so that a machine that is busy with something else does not hide them.
_MANY = 25_000  # faults per second
_CALLS = 64  # large calls of a count. The first count is not judged: memory that is touched first costs faults anyway.
_COUNTS = 8  # after so many the loop is left alone


class Watch:
    """The page faults of a process over its calls of large layers, until they are found to be many, or few enough."""

    def __init__(self) -> None:
        self.calls = self.counts = self.faults = 0
        self.since, self.thread = 0.0, 0

    def call(self) -> str:
        """Count a call. Return a text for a warning, once, where the faults since the last count are many."""
        global _watch
        self.calls += 1
        if self.calls % _CALLS:
            return ""
        faults, now, thread = _minor_faults(), time.thread_time(), threading.get_ident()
        rate = (faults - self.faults) / max(now - self.since, 1e-9)
        many = self.counts > 0 and thread == self.thread and rate > _MANY
        self.faults, self.since, self.thread = faults, now, thread
        self.counts += 1
        if many or self.counts > _COUNTS:
            _watch = None
        if not many:
            return ""
        return (
            f"this process has {rate:,.0f} page faults per second of work, which take a part of the time of every "
            "step: the memory of freed tensors goes back to the system, and comes anew. "
            "hnn_kernels.keep_what_is_freed(), called once, keeps it; so does the environment variable "
            f"{TUNABLES}. There is no warning after "
            "warnings.filterwarnings('ignore', category=hnn_kernels.PageFaultWarning)"
        )


def _minor_faults() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


# None where nothing is watched: elsewhere than on glibc, after a verdict, or because the memory is kept.
_watch: Watch | None = Watch() if sys.platform.startswith("linux") else None


def watch(stacklevel: int) -> None:
    """Count a call of a large layer, and warn once if a loop of such calls pays many page faults.

    ``stacklevel`` is the place of the caller's own code, counted as by :func:`warnings.warn` in this function.
    """
    text = _watch.call() if _watch is not None else ""
    if text:
        warnings.warn(text, PageFaultWarning, stacklevel=stacklevel)
