"""Networks inside torch's wrappers."""

from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel

from .network import HybridNetwork
from .state import is_compiled

_MODULE = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)


def unwrapped(network: nn.Module) -> HybridNetwork:
    """The network itself: ``network``, or the one inside the wrappers around it.

    The wrappers are those of :func:`torch.compile`, ``DataParallel``, ``DistributedDataParallel`` and
    ``AveragedModel``. The network inside shares its parameters with them; for ``AveragedModel`` these are the averages.

    Raises:
        TypeError: ``network`` is neither.
    """
    inner: Any = network
    while not isinstance(inner, HybridNetwork):
        if is_compiled(inner):
            inner = inner._orig_mod
        elif isinstance(inner, _MODULE):
            inner = inner.module
        else:
            raise TypeError(
                "network must be a HybridNetwork, or one inside torch.compile, DataParallel, DistributedDataParallel "
                f"or AveragedModel; got {type(network).__name__}"
            )
    return inner


def compiled_in(network: nn.Module) -> nn.Module | None:
    """The module that :func:`torch.compile` made, of ``network`` and the wrappers around the network; None if none."""
    inner: Any = network
    while not isinstance(inner, HybridNetwork):
        if is_compiled(inner):
            return inner
        inner = inner.module
    return None
