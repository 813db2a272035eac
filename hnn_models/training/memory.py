"""What the command line asks of the C library's allocator."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # mallopt(3) of glibc


def keep_what_is_freed() -> bool:
    """Have glibc serve every tensor on the CPU from its heap, and give nothing back, until the process ends.

    Left alone, it asks the system for every tensor over some MiB and gives it back when it is freed, so a training step
    pays for its trains in page faults, one per 4 KiB.

    Returns:
        Whether the C library is one that can be asked (glibc).
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and all([mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, -1)])
