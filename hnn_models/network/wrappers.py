"""Networks inside torch's wrappers, and the names that the wrappers give to their parameters."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from .network import HybridNetwork, bare_name
from .weights import refresh

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


def is_compiled(network: nn.Module) -> bool:
    """True if ``network`` is what :func:`torch.compile` made of a module."""
    return isinstance(getattr(network, "_orig_mod", None), nn.Module)


def compiled_in(network: nn.Module) -> nn.Module | None:
    """The module that :func:`torch.compile` made, of ``network`` and the wrappers around the network; None if none."""
    inner: Any = network
    while not isinstance(inner, HybridNetwork):
        if is_compiled(inner):
            return inner
        inner = inner.module
    return None


def plain_state(network: HybridNetwork, *, keep_dtypes: bool = True) -> dict[str, Tensor]:
    """The state of the plain network with the same weights: :attr:`HybridNetwork.config` rebuilds that one.

    Pruning, parametrisations, weight and spectral normalisation make weights from other tensors; the state has the
    weights that they make. A bias that was taken away is zero. Hooks are no state.

    Args:
        network: the network.
        keep_dtypes: False to refuse a network of other dtypes than the plain one has when it is made.

    Raises:
        ValueError: the network has modules or tensors that :attr:`HybridNetwork.config` does not describe.
    """
    with torch.device("meta"):
        plain = HybridNetwork.of(network.settings)
    modules = dict(plain.named_modules())
    leaves = tuple(f"{name}." for name, module in modules.items() if not list(module.children()))
    problem = "network cannot be rebuilt from its arguments, so it cannot have checkpoints"
    expected = plain.state_dict()
    for name in [*dict(network.named_modules()), *network.state_dict()]:
        name = bare_name(f"{name}.").removesuffix(".")
        if name not in modules and name not in expected and not name.startswith(leaves):
            raise ValueError(f"{problem}: its arguments have no {name}")
    for name, module in modules.items():
        own = _inside(network, name)
        if own is None or "forward" in vars(own) or type(own).forward is not type(module).forward:
            raise ValueError(f"{problem}: its {name or 'class'} is {_type(own)}, not {_type(module)}")
    found: dict[str, Tensor] = {}
    modes = {module: module.training for module in network.modules()}
    network.eval()  # so that spectral normalisation does not go on with its iteration
    try:
        with torch.no_grad():
            for name, like in expected.items():
                path, _, last = name.rpartition(".")
                owner: Any = _inside(network, path)
                refresh(owner)
                value = getattr(owner, last)
                if value is None and last == "bias":
                    value = owner.weight.new_zeros(like.shape)
                known = isinstance(value, Tensor) and value.shape == like.shape
                if not known or not (keep_dtypes or value.dtype == like.dtype):
                    raise ValueError(f"{problem}: its {name} is {_shape(value)}, not {_shape(like)}")
                found[name] = value.detach()
    finally:
        for module, mode in modes.items():
            module.training = mode
    return found


def _inside(network: nn.Module, path: str) -> nn.Module | None:
    """The module at ``path``, without the wrappers of :func:`torch.compile`; None if there is none."""
    module: Any = network
    for name in filter(None, path.split(".")):
        module = getattr(module, name, None)
    while module is not None and is_compiled(module):
        module = module._orig_mod
    return module


def _type(module: nn.Module | None) -> str:
    return "missing" if module is None else type(module).__name__


def _shape(value: object) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
