"""The memory that is left, compared with what is asked for before anything is allocated."""

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from .errors import TooLargeError

_ALWAYS_THERE = 2**28  # bytes; the system is not asked for fewer
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/proc/self/cgroup")
_CONTROLLERS = Path("/sys/fs/cgroup")


def require(
    what: str, count: int, shape: Sequence[int], dtype: torch.dtype, device: torch.device | str = "cpu"
) -> None:
    """Refuse ``what``, ``count`` tensors of ``shape``, where they do not fit into the memory of ``device``.

    Raises:
        TooLargeError: they do not. The message names both numbers.
    """
    needed = count * math.prod(shape) * dtype.itemsize
    left = _too_little(needed, torch.device(device))
    if left is not None:
        name = str(dtype).removeprefix("torch.")
        raise TooLargeError(
            f"{what} do not fit into memory: {count} x {tuple(shape)} in {name} are {_gigabytes(needed)}, and "
            f"{_gigabytes(left)} are available"
        )


def require_bytes(purpose: str, needed: int, device: torch.device) -> None:
    """Refuse ``purpose``, which needs at least so many bytes on ``device``, where they are not available.

    Raises:
        MemoryError: they are not. The message names both numbers.
    """
    if needed < _ALWAYS_THERE:
        return
    left = _too_little(needed, device)
    if left is not None:
        raise MemoryError(
            f"{purpose} needs at least {_gigabytes(needed)} of memory, and {_gigabytes(left)} are available on "
            f"{device.type}"
        )


def available(device: torch.device) -> int | None:
    """Bytes that can still be allocated on ``device``; None where the system does not tell.

    On Linux these are the available memory and the free swap, or what a control group or ``ulimit -v`` leaves of them.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + reserved
    if device.type != "cpu":
        return None
    bounds = [bound for bound in (_system(), *_control_groups(), _address_space()) if bound is not None]
    return max(min(bounds), 0) if bounds else None


def _too_little(needed: int, device: torch.device) -> int | None:
    """The bytes that are available, if they are fewer than ``needed``; else None."""
    left = available(device)
    return left if left is not None and left < needed else None


def _system() -> int | None:
    try:
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        return 1024 * sum(int(lines[name].split()[0]) for name in ("MemAvailable", "SwapFree"))
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        return None


def _control_groups() -> Iterator[int]:
    """The bytes that are left in each group that this process belongs to, in both versions of the interface."""
    try:
        lines = _CGROUP.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = _CONTROLLERS, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root = _CONTROLLERS / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        group = root / path.strip("/")
        # In a container the path may be one of the host's; the container's own group is then the root.
        for folder in {group, *group.parents} if group.exists() else {root}:
            if folder.is_relative_to(root) and (left := _left(folder, *names)) is not None:
                yield left


def _left(folder: Path, limit: str, usage: str, cached: str) -> int | None:
    try:
        bound = int((folder / limit).read_text())
        used = int((folder / usage).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return bound - used + int(stat[cached])  # cached files give way
    except (OSError, KeyError, ValueError):  # no such controller here, or the limit "max"
        return None


def _address_space() -> int | None:
    """The bytes that ``ulimit -v`` leaves."""
    try:
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        if soft == resource.RLIM_INFINITY:
            return None
        return soft - int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (ImportError, OSError, ValueError):
        return None


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count:,} bytes"
