"""The device to compute on, and its name."""

import os
import platform
from pathlib import Path

import torch


def resolve_device(name: str) -> torch.device:
    """The device called ``name``: ``"cpu"``, ``"cuda"``, or ``"auto"`` for CUDA if there is a CUDA device.

    Raises:
        ValueError: any other name, or ``"cuda"`` without a CUDA device.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device must be 'auto', 'cpu' or 'cuda'; got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda' cannot be used: torch finds no CUDA device")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))


def device_name(device: torch.device) -> str:
    """The name of the GPU, or that of the processor as Linux reports it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
