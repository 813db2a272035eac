"""The one place that knows which backend runs where, and chooses one."""

import os
from typing import NamedTuple

import torch
from torch import Tensor

from . import _extensions

# Best first: the rule by which backend=None chooses, of the backends that take the device. On a GPU that is CUDA before
# Triton, from a count of bytes and instructions (docs/gpu.md: Triton reads the current of 16 steps in 25 twice
# backward, CUDA from 97 on); the measurement is outstanding. The reference is the truth, not a kernel: it is last, and
# explain() says when it is all there is.
_PREFERENCE = ("cuda", "cpu", "triton", "reference")


class Backend(NamedTuple):
    """A backend, the device types it takes, and, where that is none, why it cannot be used."""

    name: str
    devices: tuple[str, ...]
    reason: str


def _cpu() -> Backend:
    if _extensions.cpu is None:
        return Backend("cpu", (), f"the C++ kernels are not there: {_extensions.cpu_error}")
    return Backend("cpu", ("cpu",), "")


def _cuda() -> Backend:
    if _extensions.cuda is not None and torch.cuda.is_available():
        return Backend("cuda", ("cuda",), "")
    if _extensions.shim is not None:
        return Backend("cuda", ("cpu",), "")
    if _extensions.cuda is not None:
        return Backend("cuda", (), "the CUDA kernels are built, but torch finds no CUDA device")
    return Backend("cuda", (), f"the CUDA kernels are not there: {_extensions.cuda_error}")


def _triton() -> Backend:
    from . import _triton

    if _triton.import_error is not None:
        return Backend("triton", (), f"triton cannot be imported: {_triton.import_error}")
    if os.environ.get("TRITON_INTERPRET") == "1":
        return Backend("triton", ("cpu", "cuda"), "")
    if not torch.cuda.is_available():
        return Backend("triton", (), "torch finds no CUDA device (TRITON_INTERPRET=1 runs the kernels on the CPU)")
    return Backend("triton", ("cuda",), "")


_BACKENDS = {
    "reference": Backend("reference", ("any",), ""),
    "cpu": _cpu(),
    "triton": _triton(),
    "cuda": _cuda(),
}


def backends() -> dict[str, Backend]:
    """Every backend by name: the device types it takes here and, where there are none, why."""
    return dict(_BACKENDS)


def _runs_on(backend: Backend, device_type: str) -> bool:
    return device_type in backend.devices or "any" in backend.devices


def _why_not(backend: Backend, device_type: str) -> str:
    return backend.reason or f"it takes {' and '.join(backend.devices)} tensors, not {device_type}"


def _automatic(backend: Backend, device_type: str) -> bool:
    # An interpreter or a host shim is for proving a kernel, never a user's best choice.
    return _runs_on(backend, device_type) and (backend.name in (device_type, "reference") or device_type == "cuda")


def choose(device_type: str, requested: str | None) -> str:
    """The backend for tensors on ``device_type``: the one ``requested``, or the best usable one.

    Raises:
        ValueError: ``requested`` is not a backend, or does not take tensors on ``device_type``.
        RuntimeError: ``requested`` cannot be used on this machine.
    """
    if requested is None:
        for name in _PREFERENCE:
            if _automatic(_BACKENDS[name], device_type):
                return name
    if not isinstance(requested, str) or requested not in _BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(map(repr, _BACKENDS))} or None; got {requested!r}")
    backend = _BACKENDS[requested]
    if not _runs_on(backend, device_type):
        usable = ", ".join(repr(b.name) for b in _BACKENDS.values() if _runs_on(b, device_type))
        error = RuntimeError if backend.reason else ValueError
        raise error(
            f"backend={requested!r} cannot take this call: {_why_not(backend, device_type)}; "
            f"usable for {device_type} tensors: {usable}"
        )
    return requested


class Explanation(NamedTuple):
    """Which backend a call takes (``chosen``), and for every other one why it does not (``others``)."""

    chosen: str
    others: dict[str, str]

    def __str__(self) -> str:
        lines = [f"{self.chosen}: chosen"]
        return "\n".join(lines + [f"{name}: {reason}" for name, reason in self.others.items()])


def explain(current: Tensor | torch.device | str, *, backend: str | None = None) -> Explanation:
    """Which backend a call on ``current`` (a tensor, or a device) takes, and why the others are not taken.

    Raises:
        ValueError, RuntimeError: as the call itself would for this ``backend``.
    """
    device = current.device if isinstance(current, Tensor) else torch.device(current)
    chosen = choose(device.type, backend)
    others = {}
    for other in _BACKENDS.values():
        if other.name == chosen:
            continue
        if not _runs_on(other, device.type):
            others[other.name] = _why_not(other, device.type)
        elif backend is not None:
            others[other.name] = f"usable, but backend={backend!r} was asked for"
        elif _automatic(other, device.type):
            others[other.name] = f"usable, but {chosen} is faster"
        else:
            others[other.name] = "usable for proving kernels on the CPU; only taken when asked for by name"
    return Explanation(chosen, others)
