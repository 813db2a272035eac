"""Shared parts of the providers."""

import importlib.metadata
import types
from collections.abc import Callable

import torch
from torch import Tensor

from ..core.layer import Definer, Layer, Provider, Recurring, Unsupported
from ..core.operations import Dynamics

TIE = "a potential at the threshold does not fire"  # a note


class Peer:
    """The base of a provider whose library is another project.

    Attributes:
        package: the library's name on PyPI. The extra ``peers`` in pyproject.toml has it too.
    """

    package: str

    def version(self) -> str:
        """The installed version.

        Raises:
            Unsupported: the package is not installed.
        """
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            raise Unsupported(f"{self.package} is not installed") from None


def no_axon(library: str, wanted: Dynamics) -> None:
    """Refuse an axon for a ``library`` that has none.

    Raises:
        Unsupported: ``wanted`` has an axon.
    """
    if wanted.axon:
        raise Unsupported(f"{library} has no dual-exponential filter of the spikes")


def compiled(run: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """``run`` under ``torch.compile``, with a code object of its own.

    torch.compile counts recompilations per code object and gives up at the eighth. The layers of a network, which have
    several sizes, would reach that number together.
    """
    own = types.FunctionType(run.__code__.replace(), run.__globals__, run.__name__, None, run.__closure__)
    return torch.compile(own, fullgraph=True, dynamic=False)


class Compiled:
    """The layers of another provider under ``torch.compile``."""

    def __init__(self, base: Provider) -> None:
        self.base, self.name = base, f"{base.name} compiled"
        self.defines = isinstance(base, Definer) and base.defines
        self.recurs = isinstance(base, Recurring) and base.recurs

    def version(self) -> str:
        return self.base.version()

    def layer(self, wanted: Dynamics, features: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Layer:
        layer = self.base.layer(wanted, features, device, dtype)
        return layer._replace(run=compiled(layer.run), exact=False)
