"""The backends: the devices that each takes here, and the choice among them.

Everything but the GPUs is established at import. A GPU is asked at the first call that needs it, and once: whoever asks
makes CUDA count its devices, after which a process cannot fork and CUDA_VISIBLE_DEVICES has no effect.
"""

import os
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ._architectures import Capability, serves
from ._layer import FILTERS, POTENTIALS, Layer
from ._ops import autograd, coding, density, layer, products

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
        refused: the GPUs of this machine that it does not take, each with the reason, as in ``"cuda:1: ..."``.
    """

    name: str
    devices: tuple[str, ...]
    reason: str
    automatic: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


# The device types of a backend that needs a GPU.
_ON_GPU = ("cuda", "meta")


def _number(capability: Capability) -> str:
    return ".".join(map(str, capability))


def _cuda() -> Backend:
    from . import _extensions

    host = ("cpu",) if _extensions.shim is not None else ()
    if _extensions.cuda is not None:
        return Backend("cuda", (*_ON_GPU, *host), "", automatic=_ON_GPU)
    return Backend("cuda", host, "" if host else f"the CUDA kernels are not there: {_extensions.cuda_error}")


def _cuda_refuses(capability: Capability | None) -> str:
    from . import _extensions

    if capability is None:
        return "the CUDA kernels are built, but torch finds no CUDA device"
    if _extensions.cuda is None:
        return f"the CUDA kernels are not there: {_extensions.cuda_error}"
    architectures = _extensions.cuda.build_info()["architectures"]
    if serves(architectures, capability):
        return ""
    number = _number(capability)
    return (
        f"the CUDA kernels are compiled for {architectures}, and this GPU has compute capability {number}; for it, set "
        f"TORCH_CUDA_ARCH_LIST={number} and {_extensions.BUILD_AGAIN}"
    )


def _cpu() -> Backend:
    from . import _extensions

    if _extensions.cpu is None:
        return Backend("cpu", (), f"the C++ kernels are not there: {_extensions.cpu_error}")
    density.build_info = _extensions.cpu.build_info
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
    if _triton.lacking:
        return Backend("triton", (), _triton.lacking)
    return Backend("triton", _ON_GPU, "", automatic=_ON_GPU)


def _triton_refuses(capability: Capability | None) -> str:
    from . import _triton

    if capability is None:
        return "torch finds no CUDA device (TRITON_INTERPRET=1 runs the kernels on the CPU)"
    if capability < (7, 0) and not _triton.interpreted:
        return f"Triton needs a GPU of compute capability 7.0 or above, and this one has {_number(capability)}"
    return ""


class Registration(NamedTuple):
    """An entry of the registry.

    Attributes:
        name: the name of the backend.
        probe: finds out which device types the backend takes, without asking a GPU.
        refuses: the reason against a GPU of a compute capability, or, for None, where there is no GPU; nothing if it
            takes the GPU. None for a backend that needs no GPU.
        kernels: True if the backend implements the operators.
    """

    name: str
    probe: Callable[[], Backend]
    refuses: Callable[[Capability | None], str] | None = None
    kernels: bool = True


# The registry. The place of a backend is its rank: backend=None takes the first one that may be chosen on the device.
# On a GPU, CUDA comes before Triton by a count of bytes and instructions (docs/gpu.md: backward, Triton reads the
# current of 16 steps in 25 twice, CUDA on an H100 only from 37 steps on), but for the layers of _left_to_triton(). The
# measurement is outstanding. The reference is last, because it is no kernel; explain() says so where it is all there
# is. The CPU's is first for tensors on "meta", which all take alike: it asks for no GPU.
REGISTRY = (
    Registration("cpu", _cpu),
    Registration("cuda", _cuda, _cuda_refuses),
    Registration("triton", _triton, _triton_refuses),
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
_REFUSES = {entry.name: entry.refuses for entry in REGISTRY if entry.refuses is not None}
# By the number of a GPU that was asked: the reason of each backend against it, empty if it takes the GPU.
_GPUS: dict[int, dict[str, str]] = {}


def _gpu(index: int) -> dict[str, str]:
    found = _GPUS.get(index)
    if found is None:
        capability = torch.cuda.get_device_capability(index)
        found = _GPUS[index] = {name: refuses(capability) for name, refuses in _REFUSES.items()}
    return found


def _refusal(name: str, device_type: str, index: int | None) -> str:
    """Tell why a backend does not take a device of a type that it does take; nothing if it does.

    A tensor on ``"meta"`` stands for one on any GPU. A device without an index is the current one.
    """
    if device_type not in _ON_GPU or name not in _REFUSES:
        return ""
    if index in _GPUS and device_type == "cuda":
        return _GPUS[index][name]
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        return _REFUSES[name](None)
    if device_type == "meta":
        refusals = [_gpu(i)[name] for i in range(count)]
        return refusals[0] if all(refusals) else ""
    if index is None:
        index = torch.cuda.current_device()
    if index >= count:
        return f"cuda:{index} is not there; the number of CUDA devices that torch finds is {count}"
    return _gpu(index)[name]


# torch.compile calls it while it traces, and takes its answer for a constant. This is what
# torch.compiler.assume_constant_result does, which would import the compiler for two seconds.
_refusal._dynamo_marked_constant = True  # type: ignore[attr-defined]


def backends() -> dict[str, Backend]:
    """Return every backend by name, best first: the device types it takes here, or the reason why it takes none.

    It asks all GPUs. A backend takes ``"cuda"`` if it takes any of them; ``refused`` has the others.
    """
    return {name: _found(backend) for name, backend in _BACKENDS.items()}


def _found(backend: Backend) -> Backend:
    """Return the backend with the GPUs that torch finds."""
    if "cuda" not in backend.devices:
        return backend
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    refusals = {f"cuda:{i}": _refusal(backend.name, "cuda", i) for i in range(count)}
    refused = tuple(f"{device}: {reason}" for device, reason in refusals.items() if reason)
    if len(refused) < count:
        return backend._replace(refused=refused)
    devices = tuple(device for device in backend.devices if device not in _ON_GPU)
    reason = "" if devices else "; ".join(refused) or _REFUSES[backend.name](None)
    return Backend(backend.name, devices, reason, refused=refused)


def _takes(name: str, types: tuple[str, ...], device: torch.device) -> bool:
    return "any" in types or (device.type in types and not _refusal(name, device.type, device.index))


def _why_not(backend: Backend, device: torch.device) -> str:
    if backend.reason or device.type not in backend.devices:
        return backend.reason or f"it takes {' and '.join(backend.devices)} tensors, not {device.type}"
    return _refusal(backend.name, device.type, device.index)


def _own_forms() -> dict[torch.dtype, tuple[tuple[int, ...], ...]]:
    """Return what of a layer has CUDA kernels of its own (``csrc/cuda/choose.h``): by dtype, :func:`_form` of each."""
    from . import _extensions

    found: dict[torch.dtype, tuple[tuple[int, ...], ...]] = {}
    for form in _extensions.cuda.own_forms() if _extensions.cuda is not None else ():
        name, *numbers = form.split()
        dtype = getattr(torch, name)
        found[dtype] = (*found.get(dtype, ()), tuple(map(int, numbers)))
    return found


# Established at import, as the backends are.
_OWN_FORMS = _own_forms()


def _form(layer: Layer) -> tuple[int, ...]:
    """Return what beside its dtype decides if a layer has CUDA kernels of its own.

    It is P and Q + 1 of each filter, and the read-out.
    """
    orders = [count for part in FILTERS for count in layer.taps(part)]
    return (*orders, int(layer.potential != POTENTIALS["none"]))


def _left_to_triton(layer: Layer, device: torch.device) -> bool:
    """Tell if Triton's kernels take a layer before CUDA's, where no backend was asked for.

    CUDA's have a form of their own for the usual filters. Two filters, other orders up to 2, and a filter beside a
    read-out of the potential take the general form; higher orders, smooth mode and float64 that for anything, whose
    filters are in memory. Triton's are compiled for the orders and execute fewer instructions than both. By the model
    they are slower in one case, backward in the general form, in float32 over a hundred steps on an H100 (docs/gpu.md).
    """
    if not layer.smooth and _form(layer) in _OWN_FORMS.get(layer.current.dtype, ()):
        return False
    return _takes("triton", _BACKENDS["triton"].automatic, device)


def choose(device: torch.device, requested: str | None, layer: Layer | None = None) -> str:
    """Choose the backend for tensors on ``device``: the one ``requested``, or the best usable one.

    ``layer`` is the call, where it is one of the built-in layer: the best one for it.

    Raises:
        ValueError: ``requested`` is not a backend, or does not take tensors on a device of this type.
        RuntimeError: ``requested`` cannot be used on this machine, or not on this GPU.
    """
    if requested is None:
        for name, backend in _BACKENDS.items():
            if not _takes(name, backend.automatic, device):
                continue
            if name == "cuda" and layer is not None and _left_to_triton(layer, device):
                return "triton"
            return name
    if not isinstance(requested, str) or requested not in _BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(map(repr, _BACKENDS))} or None; got {requested!r}")
    backend = _BACKENDS[requested]
    if not _takes(requested, backend.devices, device):
        usable = ", ".join(repr(name) for name, b in _BACKENDS.items() if _takes(name, b.devices, device))
        error = RuntimeError if backend.reason or device.type in backend.devices else ValueError
        raise error(
            f"backend={requested!r} cannot take this call: {_why_not(backend, device)}; "
            f"usable for {device.type} tensors: {usable}"
        )
    return requested


_USUALLY = ", except for the layers that have no CUDA kernel of their own"


class Explanation(NamedTuple):
    """The backend that a call takes (``chosen``), and the reason against every other one (``others``)."""

    chosen: str
    others: dict[str, str]

    def __str__(self) -> str:
        lines = [f"{self.chosen}: chosen"]
        return "\n".join(lines + [f"{name}: {reason}" for name, reason in self.others.items()])


def explain(current: Tensor | torch.device | str, *, backend: str | None = None) -> Explanation:
    """Explain which backend a call on ``current`` (a tensor, or a device) takes, and why it takes none of the others.

    On a GPU it is that of the layers for which the CUDA kernels have a form of their own; the others take Triton's.

    Raises:
        ValueError, RuntimeError: as the call itself would for this ``backend``.
    """
    device = current.device if isinstance(current, Tensor) else torch.device(current)
    chosen = choose(device, backend)
    others = {}
    for other in _BACKENDS.values():
        if other.name == chosen:
            continue
        if not _takes(other.name, other.devices, device):
            others[other.name] = _why_not(other, device)
        elif backend is not None:
            others[other.name] = f"usable, but backend={backend!r} was asked for"
        elif _takes(other.name, other.automatic, device):
            others[other.name] = (
                f"usable, but {chosen} is faster{_USUALLY if (chosen, other.name) == ('cuda', 'triton') else ''}"
            )
        else:
            others[other.name] = "usable for proving kernels on the CPU; only taken when asked for by name"
    return Explanation(chosen, others)


class ReferenceWarning(UserWarning):
    """The reference, a slow loop in plain PyTorch, runs in place of kernels that were expected."""


_warned = False


def _without_kernels(device: torch.device) -> str:
    """Tell why no kernel serves a device for which kernels were expected; nothing where none were."""
    from . import _extensions

    module, error = (getattr(_extensions, name) for name in (device.type, f"{device.type}_error"))
    reason = _extensions.missing(device.type, module, error)
    # On a GPU they always are, since Triton needs no build. A fake tensor may be on a GPU that is not there.
    if not reason and device.type == "cuda" and torch.cuda.is_available():
        reason = "; ".join(f"{name}: {_why_not(_BACKENDS[name], device)}" for name in _REFUSES)
    return reason


def warn_of_the_reference(device: torch.device, requested: str | None, stacklevel: int) -> None:
    """Warn once in a process if a call runs the reference without being asked to, and kernels were expected.

    ``stacklevel`` is the place of the caller's own code, counted as by :func:`warnings.warn` in this function.
    """
    global _warned
    if _warned or requested is not None or device.type not in ("cpu", "cuda") or torch.compiler.is_compiling():
        return
    reason = _without_kernels(device)
    if not reason:
        return
    _warned = True
    warnings.warn(
        f"hnn_kernels runs its reference, a slow loop in plain PyTorch, on {device.type} tensors: {reason}. There is "
        "no warning with backend='reference', nor after "
        "warnings.filterwarnings('ignore', category=hnn_kernels.ReferenceWarning)",
        ReferenceWarning,
        stacklevel=stacklevel,
    )
