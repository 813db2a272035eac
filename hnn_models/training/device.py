"""The device to compute on, and its name."""

import functools
import platform
import time
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


_SIZE = 512  # of the matrices that are multiplied for a measurement


@functools.cache
def product_ms() -> dict[torch.dtype, float]:
    """The time of a product of two matrices of 512 x 512 on this processor, in ms: in bfloat16 and in float32.

    It is measured once in a process, in a tenth of a second at most. What a processor says of itself does not tell: one
    without instructions for bfloat16 takes ten times as long as in float32, and one with them took 1.9 times as long.
    """
    matrices = {dtype: torch.ones(_SIZE, _SIZE, dtype=dtype) for dtype in (torch.bfloat16, torch.float32)}
    times: dict[torch.dtype, list[float]] = {dtype: [] for dtype in matrices}
    with torch.no_grad():
        for _ in range(4):  # of which the first is not counted: it prepares the product
            for dtype, matrix in matrices.items():
                begin = time.perf_counter()
                matrix @ matrix
                times[dtype].append(1e3 * (time.perf_counter() - begin))
    return {dtype: min(found[1:]) for dtype, found in times.items()}


def bfloat16_pays(device: torch.device) -> bool:
    """True if ``device`` multiplies matrices faster in bfloat16 than in float32.

    A GPU does so from compute capability 8.0 on. A processor is measured (:func:`product_ms`).
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    measured = product_ms()
    return measured[torch.bfloat16] < measured[torch.float32]


# Those of hnn_models.training.protocol.PRECISIONS that are fast on some device: where bfloat16 pays, and elsewhere.
FAST_PRECISIONS = ("bf16-mixed", "32-true")


def fast_precision(device: torch.device) -> str:
    """The one of :data:`FAST_PRECISIONS` that trains fast on ``device``."""
    return FAST_PRECISIONS[0 if bfloat16_pays(device) else 1]


def device_name(device: torch.device) -> str:
    """The name of the GPU, or that of the processor as Linux reports it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
