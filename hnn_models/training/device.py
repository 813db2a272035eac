"""The device to compute on, and its name."""

import platform
from pathlib import Path

import torch

from .launch import launch


def resolve_device(name: str) -> torch.device:
    """The device called ``name``: ``"cpu"``, ``"cuda"``, or ``"auto"`` for CUDA if there is a CUDA device.

    Raises:
        ValueError: any other name, ``"cuda"`` without a CUDA device, or half a launch of several processes
            (:func:`hnn_models.training.launch.launch`).
    """
    here = launch()
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device must be 'auto', 'cpu' or 'cuda'; got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda' cannot be used: torch finds no CUDA device")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", here.local_rank)


def as_device(device: torch.device | str) -> torch.device:
    """``device`` itself, or the device with that name.

    Args:
        device: a device of torch, a name that :func:`resolve_device` takes, or one with an index such as ``"cuda:1"``.

    Raises:
        ValueError: a device that is not a CPU or a CUDA device, or that does not exist.
        TypeError: neither a device nor a name.
    """
    if isinstance(device, str):
        if ":" not in device:
            return resolve_device(device)
        try:
            device = torch.device(device)
        except RuntimeError:
            raise ValueError(f"device must be 'auto', 'cpu', 'cuda' or 'cuda:INDEX'; got {device!r}") from None
    if not isinstance(device, torch.device):
        raise TypeError(f"device must be a torch.device or its name; got {device!r} of type {type(device).__name__}")
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be a CPU or a CUDA device; got {str(device)!r}")
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if (device.index or 0) >= count:
        raise ValueError(f"device {str(device)!r} cannot be used: torch finds {count} {device.type.upper()} devices")
    return device


def has_bfloat16_units(device: torch.device) -> bool:
    """True unless it is known that ``device`` computes products of bfloat16 without instructions for them.

    Then they run at a tenth of float32's speed. Known are x86 processors and GPUs.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    found = torch.cpu.get_capabilities()
    if found.get("architecture") != "x86_64":
        return True
    return any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "avx10_1"))


# Those of hnn_models.training.protocol.PRECISIONS that are fast on some device: with units for bfloat16, and without.
FAST_PRECISIONS = ("bf16-mixed", "32-true")


def fast_precision(device: torch.device) -> str:
    """The one of :data:`FAST_PRECISIONS` that trains fast on ``device``."""
    return FAST_PRECISIONS[0 if has_bfloat16_units(device) else 1]


def device_name(device: torch.device) -> str:
    """The name of the GPU, or that of the processor as Linux reports it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
