"""Settings of the C library's memory allocator."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # mallopt(3) of glibc


def keep_what_is_freed() -> bool:
    """Have glibc keep the memory of freed CPU tensors until the process ends, and use it again.

    By default glibc asks the system for the memory of every tensor over some MiB, and gives it back when the tensor is
    freed. Each training step then pays for its spike trains in page faults, one per 4 KiB.

    Returns:
        True if the C library is glibc, and took the setting.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and all([mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, -1)])
