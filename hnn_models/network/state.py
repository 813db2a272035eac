"""The state of a network: its parameters without the names and forms that torch's wrappers and tools give to them."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .weights import refresh

_WRAPPERS = re.compile(r"^(_orig_mod\.|module\.)+|(?<=\.)_orig_mod\.")

_FORMER = re.compile(r"^code\.")  # the coding, in files of earlier versions


def bare_name(name: str) -> str:
    """The name of a parameter without what wrappers put into it, and as it is called today."""
    return present_name(_WRAPPERS.sub("", name))


def present_name(name: str) -> str:
    """The name of a parameter of a network today, for the one that it has in a file of an earlier version."""
    return _FORMER.sub("coder.", name)


def take_former_names(_: nn.Module, state: dict[str, Any], prefix: str, *__: Any) -> None:
    """Rename what a file of an earlier version calls by another name."""
    for name in [name for name in state if name.startswith(prefix)]:
        state[prefix + present_name(name.removeprefix(prefix))] = state.pop(name)


def with_names_of(network: nn.Module, state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state of a network that may be wrapped, under the names that ``network`` has for it."""
    own = {bare_name(name): name for name in network.state_dict()}
    if state.keys() <= set(own.values()):
        return state
    found = {own.get(bare_name(name), name): value for name, value in state.items()}
    if "n_averaged" not in own:
        found.pop("n_averaged", None)
    return found


def is_compiled(network: nn.Module) -> bool:
    """True if ``network`` is what :func:`torch.compile` made of a module."""
    return isinstance(getattr(network, "_orig_mod", None), nn.Module)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluate inside: each module has its own mode again afterwards."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def plain_state(network: nn.Module, plain: nn.Module, keep_dtypes: bool) -> dict[str, Tensor]:
    """The state of ``plain`` with the weights of ``network``.

    Pruning, parametrisations, weight and spectral normalisation make weights from other tensors; the state has the
    weights that they make. A bias that was taken away is zero. Hooks are no state.

    Args:
        network: the network.
        plain: the network that the arguments of ``network`` rebuild, on any device.
        keep_dtypes: False to refuse a network of other dtypes than the plain one has when it is made.

    Raises:
        ValueError: ``network`` has modules or tensors that ``plain`` lacks.
    """
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
    with evaluating(network), torch.no_grad():  # so that spectral normalisation does not go on with its iteration
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
