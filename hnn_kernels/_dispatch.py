"""The backends: the devices that each takes here, and the choice among them."""

import os
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ._ops import autograd, coding, layer, products

# The words that Triton takes for its own switches.
_ON, _OFF = ("1", "true", "yes", "on", "y"), ("0", "false", "no", "off", "n")


class Backend(NamedTuple):
    """A backend on this machine.

    Attributes:
        name: the name that calls ask for.
        devices: the device types that it takes; ``"any"`` stands for all of them. Operators have a fake kernel, which
            gives a tensor on ``"meta"`` its shape alone.
        reason: the reason why it cannot be used; empty if it can.
        automatic: the device types on which it may be chosen when no backend is asked for. An interpreter or a host
            shim is for proving a kernel, and has none.
    """

    name: str
    devices: tuple[str, ...]
    reason: str
    automatic: tuple[str, ...] = ()


def _cuda() -> Backend:
    from . import _extensions

    if _extensions.cuda is not None and torch.cuda.is_available():
        return Backend("cuda", ("cuda", "meta"), "", automatic=("cuda", "meta"))
    if _extensions.shim is not None:
        return Backend("cuda", ("cpu",), "")
    if _extensions.cuda is not None:
        return Backend("cuda", (), "the CUDA kernels are built, but torch finds no CUDA device")
    return Backend("cuda", (), f"the CUDA kernels are not there: {_extensions.cuda_error}")


def _cpu() -> Backend:
    from . import _extensions

    if _extensions.cpu is None:
        return Backend("cpu", (), f"the C++ kernels are not there: {_extensions.cpu_error}")
    return Backend("cpu", ("cpu", "meta"), "", automatic=("cpu", "meta"))


def _triton() -> Backend:
    from . import _triton

    if _triton.import_error is not None:
        return Backend("triton", (), f"triton cannot be imported: {_triton.import_error}")
    switch = os.environ.get("TRITON_INTERPRET", "").strip()
    if switch.lower() not in ("", *_ON, *_OFF):
        return Backend("triton", (), f"TRITON_INTERPRET must be 0 or 1; got {switch!r}")
    if _triton.interpreted:
        return Backend("triton", ("cpu", "cuda"), "")
    if not torch.cuda.is_available():
        return Backend("triton", (), "torch finds no CUDA device (TRITON_INTERPRET=1 runs the kernels on the CPU)")
    return Backend("triton", ("cuda", "meta"), "", automatic=("cuda", "meta"))


class Registration(NamedTuple):
    """An entry of the registry.

    Attributes:
        name: the name of the backend.
        probe: finds out which devices the backend takes here.
        kernels: True if the backend implements the operators.
    """

    name: str
    probe: Callable[[], Backend]
    kernels: bool = True


# The registry. The place of a backend is its rank: backend=None takes the first one that may be chosen on the device.
# On a GPU, CUDA comes before Triton by a count of bytes and instructions (docs/gpu.md: backward, Triton reads the
# current of 16 steps in 25 twice, CUDA only from 97 steps on). The measurement is outstanding. The reference is last,
# because it is no kernel; explain() says so where it is all there is.
REGISTRY = (
    Registration("cuda", _cuda),
    Registration("cpu", _cpu),
    Registration("triton", _triton),
    Registration("reference", lambda: Backend("reference", ("any",), "", automatic=("any",)), kernels=False),
)
KERNEL_BACKENDS = tuple(entry.name for entry in REGISTRY if entry.kernels)
# The operators come before those that implement them, which the probes import.
for _name in KERNEL_BACKENDS:
    layer.define(_name)
    autograd.differentiate(_name)
    coding.define(_name)
for _name in products.KINDS:
    products.define(_name)
# Established at import: a call may be traced by torch.compile.
_BACKENDS = {entry.name: entry.probe() for entry in REGISTRY}


def backends() -> dict[str, Backend]:
    """Return every backend by name, best first: the device types it takes here, or the reason why it takes none."""
    return dict(_BACKENDS)


def _takes(devices: tuple[str, ...], device_type: str) -> bool:
    return device_type in devices or "any" in devices


def _why_not(backend: Backend, device_type: str) -> str:
    return backend.reason or f"it takes {' and '.join(backend.devices)} tensors, not {device_type}"


def choose(device_type: str, requested: str | None) -> str:
    """Choose the backend for tensors on ``device_type``: the one ``requested``, or the best usable one.

    Raises:
        ValueError: ``requested`` is not a backend, or does not take tensors on ``device_type``.
        RuntimeError: ``requested`` cannot be used on this machine.
    """
    if requested is None:
        for name, backend in _BACKENDS.items():
            if _takes(backend.automatic, device_type):
                return name
    if not isinstance(requested, str) or requested not in _BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(map(repr, _BACKENDS))} or None; got {requested!r}")
    backend = _BACKENDS[requested]
    if not _takes(backend.devices, device_type):
        usable = ", ".join(repr(b.name) for b in _BACKENDS.values() if _takes(b.devices, device_type))
        error = RuntimeError if backend.reason else ValueError
        raise error(
            f"backend={requested!r} cannot take this call: {_why_not(backend, device_type)}; "
            f"usable for {device_type} tensors: {usable}"
        )
    return requested


class Explanation(NamedTuple):
    """The backend that a call takes (``chosen``), and the reason against every other one (``others``)."""

    chosen: str
    others: dict[str, str]

    def __str__(self) -> str:
        lines = [f"{self.chosen}: chosen"]
        return "\n".join(lines + [f"{name}: {reason}" for name, reason in self.others.items()])


def explain(current: Tensor | torch.device | str, *, backend: str | None = None) -> Explanation:
    """Explain which backend a call on ``current`` (a tensor, or a device) takes, and why it takes none of the others.

    Raises:
        ValueError, RuntimeError: as the call itself would for this ``backend``.
    """
    device = current.device if isinstance(current, Tensor) else torch.device(current)
    chosen = choose(device.type, backend)
    others = {}
    for other in _BACKENDS.values():
        if other.name == chosen:
            continue
        if not _takes(other.devices, device.type):
            others[other.name] = _why_not(other, device.type)
        elif backend is not None:
            others[other.name] = f"usable, but backend={backend!r} was asked for"
        elif _takes(other.automatic, device.type):
            others[other.name] = f"usable, but {chosen} is faster"
        else:
            others[other.name] = "usable for proving kernels on the CPU; only taken when asked for by name"
    return Explanation(chosen, others)


class ReferenceWarning(UserWarning):
    """The reference, a slow loop in plain PyTorch, runs in place of kernels that were expected."""


_warned = False


def warn_of_the_reference(device_type: str, requested: str | None, stacklevel: int) -> None:
    """Warn once in a process if a call runs the reference without being asked to, and kernels were expected.

    ``stacklevel`` is the place of the caller's own code, counted as by :func:`warnings.warn` in this function.
    """
    global _warned
    if _warned or requested is not None or device_type not in ("cpu", "cuda") or torch.compiler.is_compiling():
        return
    from . import _extensions

    module, error = (getattr(_extensions, name) for name in (device_type, f"{device_type}_error"))
    reason = _extensions.missing(device_type, module, error)
    if not reason:
        return
    _warned = True
    warnings.warn(
        f"hnn_kernels runs its reference, a slow loop in plain PyTorch, on {device_type} tensors: {reason}. There is "
        "no warning with backend='reference', nor after "
        "warnings.filterwarnings('ignore', category=hnn_kernels.ReferenceWarning)",
        ReferenceWarning,
        stacklevel=stacklevel,
    )
