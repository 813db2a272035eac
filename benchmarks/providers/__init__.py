"""Who is measured. A provider makes layers of neurons; the operations around them are the same for all."""

import importlib.metadata
import types
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

import hnn_kernels

from ..core.cases import Dynamics


class Unsupported(Exception):  # noqa: N818  it is no error of anyone's
    """A provider cannot do a case; the message says why, and becomes the row's note."""


class Layer(NamedTuple):
    """A layer of neurons over all steps.

    Attributes:
        run: the current ``[T, B, *features]`` to the spike train, or to the filtered one with an axon; time-major
            whatever the library's own order is (turning the axes is part of what is measured), in the dtype that the
            library gives it. It starts from zero state at every call.
        dynamics: what it computes, checked against the reference before anything is timed.
        learnt: tensors that it trains beside its input, made by the provider.
        exact: whether it computes in the reference's order of operations, without contraction into FMA, so that spikes
            must agree bit for bit; otherwise a few in ten thousand may fall on the other side of the threshold.
        note: what else a reader must know.
    """

    run: Callable[[Tensor], Tensor]
    dynamics: Dynamics
    learnt: tuple[Tensor, ...] = ()
    exact: bool = False
    note: str = ""


class Provider(Protocol):
    """A library, or one implementation of it."""

    name: str

    def version(self) -> str:
        """Of what is installed."""
        ...

    def layer(self, wanted: Dynamics, features: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Layer:
        """A layer of ``features`` neurons as near to ``wanted`` as the library has it, at its best.

        Raises:
            Unsupported: not installed, not for this device or dtype, or without such dynamics.
        """
        ...


def installed(package: str) -> str:
    """The version of ``package``.

    Raises:
        Unsupported: it is not installed.
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise Unsupported(f"{package} is not installed") from None


def axon_filter(
    wanted: Dynamics, features: tuple[int, ...], device: torch.device
) -> tuple[hnn_kernels.IIR | None, tuple[Tensor, ...]]:
    """The axon of ``wanted``, and what of it is learnt: feedback ``[2, *features]``, feedforward ``[1, *features]``."""
    if not wanted.axon:
        return None, ()
    fixed = hnn_kernels.IIR.dual_exponential(4, 1)
    if not wanted.learnt:
        return fixed, ()
    learnt = tuple(
        torch.tensor(c, device=device).reshape(-1, *[1] * len(features)).repeat(1, *features).requires_grad_()
        for c in fixed
    )
    return hnn_kernels.IIR(*learnt), learnt


TIE = "a potential at the threshold does not fire"


def no_axon(library: str, wanted: Dynamics) -> None:
    """Raise for an axon.

    Raises:
        Unsupported: ``wanted`` has an axon, and the library none.
    """
    if wanted.axon:
        raise Unsupported(f"{library} has no dual-exponential filter of the spikes")


def compiled(run: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """``run`` under ``torch.compile``, its own graph for every layer.

    torch.compile counts recompilations per code object and gives up at the eighth, which a network's layers of several
    sizes come to: every layer gets a code object of its own.
    """
    own = types.FunctionType(run.__code__.replace(), run.__globals__, run.__name__, None, run.__closure__)
    return torch.compile(own, fullgraph=True, dynamic=False)


class Compiled:
    """Another provider's layers under ``torch.compile``."""

    def __init__(self, base: Provider) -> None:
        self.base, self.name = base, f"{base.name} compiled"

    def version(self) -> str:
        return self.base.version()

    def layer(self, wanted: Dynamics, features: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Layer:
        layer = self.base.layer(wanted, features, device, dtype)
        return layer._replace(run=compiled(layer.run), exact=False)


def providers() -> Iterable[Provider]:
    """All of them, ours first. A peer is imported when its first layer is made."""
    from .loops import Loop, by_index, by_unbind
    from .norse import Norse
    from .others import OTHERS
    from .own import Own
    from .sinabs import Exodus, Sinabs
    from .snntorch import SnnTorch
    from .spikingjelly import FlexSN, SpikingJelly
    from .tether import Tether

    eager = Loop("loop", by_unbind)
    return (
        *(Own(backend) for backend in ("cpu", "cuda", "triton", "reference")),
        eager, Compiled(eager), Loop("loop x[t]", by_index),
        SnnTorch(), Compiled(SnnTorch()),
        *(SpikingJelly(implementation) for implementation in ("torch", "triton", "cuda")),
        Compiled(SpikingJelly("torch")), FlexSN(), Compiled(FlexSN()),
        Norse(), Compiled(Norse()),
        Sinabs(), Exodus(), Tether(),
        *OTHERS,
    )  # fmt: skip
