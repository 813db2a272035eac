"""GPUs that are not there, for the choice among backends."""

from types import SimpleNamespace

import torch

from hnn_kernels import _dispatch, _extensions


def pretend(monkeypatch, *capabilities: tuple[int, int]) -> list[int]:
    """Let torch find GPUs of these compute capabilities, none of which was asked yet; return the list of questions."""
    asked = []

    def capability(index):
        asked.append(index)
        return capabilities[index]

    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(capabilities))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", capability)
    monkeypatch.setattr(_dispatch, "_GPUS", {})
    return asked


def compile_for(monkeypatch, architectures: str) -> None:
    """Let the CUDA kernels be there, compiled for these architectures, and Triton's with all that they need."""
    module = SimpleNamespace(build_info=lambda: {"architectures": architectures})
    monkeypatch.setattr(_extensions, "cuda", module)
    monkeypatch.setattr(_extensions, "shim", None)
    found = {entry.name: entry.probe() for entry in _dispatch.REGISTRY}
    found["triton"] = _dispatch.Backend("triton", ("cuda", "meta"), "", automatic=("cuda", "meta"))
    monkeypatch.setattr(_dispatch, "_BACKENDS", found)
    monkeypatch.setattr("hnn_kernels._triton.interpreted", False)
