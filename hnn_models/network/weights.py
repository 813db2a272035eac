"""Weights as modules: when one call is enough for every time step, and when a call is a product with spikes."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules import module as torch_module
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

import hnn_kernels

from .flatten import Flatten

_AFFINE = (nn.Linear.forward, nn.Conv2d.forward)
_FLAT = (Flatten, nn.Flatten, nn.Unflatten, nn.Identity)
_LINEAR = (*(module.forward for module in _FLAT), nn.AvgPool2d.forward)
# These hooks of torch make the weight anew before each call, and leave input and output alone.
_WEIGHT_HOOKS = (BasePruningMethod, SpectralNorm, WeightNorm)


def affine(weights: nn.Module, before: Iterable[nn.Module] = ()) -> bool:
    """True if ``weights(before(x))`` is known to be ``W x + b`` with ``b = weights.bias``.

    Known are the forward passes of ``nn.Linear`` and ``nn.Conv2d``, also of modules that are pruned, parametrised,
    weight-normalised or spectrally normalised, behind modules that flatten or average. Any other module, a hook that
    can change input or output, or a weight that is a tensor of another kind (quantised, distributed) may be anything.
    """
    return (
        not (torch_module._global_forward_hooks or torch_module._global_forward_pre_hooks)
        and _has_forward(weights, _AFFINE)
        and not any(hasattr(tensor, "__tensor_flatten__") for tensor in weights.parameters())
        and all(_has_forward(module, _LINEAR) for module in before)
    )


def _has_forward(module: nn.Module, known: tuple[object, ...]) -> bool:
    return (
        "forward" not in vars(module)
        and any(type(module).forward is forward for forward in known)
        and not module._forward_hooks
        and all(isinstance(hook, _WEIGHT_HOOKS) for hook in module._forward_pre_hooks.values())
    )


class Look:
    """A hook before or behind a module that looks at its first input, and changes nothing.

    It may see the current before its filter, where the filter and the weights have changed places.

    Args:
        look: a function of the input.
    """

    def __init__(self, look: Callable[[Tensor], Any]) -> None:
        self._look = look

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], *_: Any) -> None:
        self._look(inputs[0])


def bare(module: nn.Module, types: Sequence[type]) -> bool:
    """True if a call of ``module`` does what one of ``types`` does and nothing else: no hook is there but a Look."""
    return (
        type(module) in types
        and "forward" not in vars(module)
        and all(isinstance(hook, Look) for hook in module._forward_hooks.values())
        and all(isinstance(hook, Look) for hook in module._forward_pre_hooks.values())
        and not (module._backward_hooks or module._backward_pre_hooks)
        and not (torch_module._global_forward_hooks or torch_module._global_forward_pre_hooks)
    )


def spike_product(weights: nn.Module, before: Iterable[nn.Module] = (), *, linear: bool = False) -> bool:
    """True if ``weights(before(x))``, where ``x`` holds spikes, is a product with spikes that can gain by them.

    Modules in front may flatten, or take the largest value of a window, which is a spike too. With ``linear`` they may
    flatten only, so that they can change places with a filter over time.
    """
    return (
        bare(weights, (nn.Linear, nn.Conv2d))
        and getattr(weights, "padding_mode", "zeros") == "zeros"
        and all(type(tensor) in (Tensor, nn.Parameter, FakeTensor) for tensor in weights.parameters())
        and hnn_kernels.spikes_can_gain(cast("Tensor", weights.weight))
        and all(bare(module, _FLAT if linear else (*_FLAT, nn.MaxPool2d)) for module in before)
    )


@torch.no_grad()
def refresh(module: nn.Module) -> None:
    """Make a weight that a hook of torch makes before each call: after a step of the optimizer it is an old one."""
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, _WEIGHT_HOOKS):
            hook(module, ())
