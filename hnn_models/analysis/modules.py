"""The cost of any module that contains layers of ``hnn_kernels``, counted from what its layers are called with.

Layers with weights are ``nn.Linear`` and ``nn.Conv2d``; an input of 0 and 1 alone is taken for spikes, each of which
adds the weights that it meets, and any other input is multiplied. What stands between the layers is not known, so an
axon is no part of the weights behind it, as it is for a :class:`hnn_models.HybridNetwork`
(:mod:`hnn_models.analysis.energy`): values behind an axon or an average pool are multiplied, those of zero left out.

Neurons are :class:`hnn_kernels.nn.LIF` and :class:`hnn_kernels.nn.Neuron`, also in a :class:`hnn_kernels.nn.Recurrent`;
filters are :class:`hnn_kernels.nn.IIR`. The arithmetic inside a neuron by definition is not counted. Other modules,
functions and biases cost nothing.
"""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from hnn_kernels.nn import IIR, LIF, Neuron, Recurrent

from ..network.activity import spikes_of
from ..network.network import HybridNetwork
from ..network.state import evaluating
from ..network.tokens import Shape, met_by_windows
from . import energy
from .costs import LayerCost, added, per_image


def profile_module(model: nn.Module, batches: Iterable[Any], *, batch_axis: int = 0) -> list[LayerCost]:
    """The cost per image of every layer of ``model``, in the order of their first calls; names are those of modules.

    A :class:`hnn_models.HybridNetwork` is counted by its architecture (:func:`hnn_models.analysis.energy.profile`).

    Args:
        model: the module.
        batches: its inputs, one tensor for each call, on its device.
        batch_axis: the axis of the inputs that counts images: 0, or 1 for inputs ``[T, B, ...]``.

    Raises:
        TypeError: ``model`` is not a module, or an input not a tensor.
        ValueError: there are no images; ``model`` has none of the layers; spikes of recurrent neurons that nobody sees,
            because they have an axon.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module; got {type(model).__name__}")
    if isinstance(model, HybridNetwork) and batch_axis == 0:
        return energy.profile(model, batches)
    counted = [(name, module, count) for name, module in model.named_modules() if (count := _counter(module))]
    if not counted:
        raise ValueError("model must have an nn.Linear, an nn.Conv2d or a layer of hnn_kernels.nn; it has none")
    found: dict[str, LayerCost] = {}
    images = 0
    with ExitStack() as stack, evaluating(model), torch.no_grad():
        for name, module, count in counted:
            stack.callback(_watch(module, name or type(module).__name__, count, found).remove)
        for batch in batches:
            if not isinstance(batch, Tensor):
                raise TypeError(f"batches must hold tensors; got {type(batch).__name__}")
            images += batch.shape[batch_axis]
            model(batch)
    if not images:
        raise ValueError("batches must hold at least one image; got none")
    return per_image(found.values(), images)


_Counter = Callable[[Any, tuple, dict, Any], dict[str, Any]]


def _watch(module: nn.Module, name: str, count: _Counter, found: dict[str, LayerCost]) -> Any:
    def see(called: nn.Module, inputs: tuple, options: dict, output: Any) -> None:
        if called is not module:  # a copy, which has the hooks too
            return
        numbers = dict.fromkeys(LayerCost._fields[2:], 0.0) | {"spikes": None}
        cost = LayerCost(name, **{**numbers, **count(module, inputs, options, output)})
        found[name] = added([found[name], cost]) if name in found else cost

    return module.register_forward_hook(see, with_kwargs=True)


def _counter(module: nn.Module) -> _Counter | None:
    """The function that counts calls of ``module``; None for one that is not counted."""
    return next((count for kind, count in _COUNTERS if isinstance(module, kind)), None)


def _weights(module: Any, inputs: tuple, options: dict, output: Tensor) -> dict[str, Any]:
    (values,) = inputs
    if isinstance(module, nn.Linear):
        shape: Shape = tuple(output.shape[-1:])
        macs = output.numel() * module.in_features

        def meets(values: Tensor) -> float:
            return values.sum(dtype=torch.float64).item() * module.out_features
    else:
        shape = tuple(output.shape[-3:])
        macs = output.numel() * module.weight[0].numel()

        def meets(values: Tensor) -> float:
            window = module.kernel_size, module.stride, module.padding, module.dilation
            return met_by_windows(values.view(-1, *values.shape[-3:]), *window) * module.out_channels / module.groups

    if ((values == 0) | (values == 1)).all():
        return {"shape": shape, "updates": output.numel(), "accumulates": meets(values)}
    artificial = {"values": output.numel(), "updates": output.numel()}
    return {"shape": shape, **artificial, "macs": macs, "nonzero": meets(values != 0)}


def _lif(module: LIF, inputs: tuple, options: dict, output: Any) -> dict[str, Any]:
    (current,) = inputs
    features = current.shape[1:] if options.get("steps") is not None else current.shape[2:]
    updates = _updates(inputs, options)
    spikes = _fired(module, current, options, output)
    per_update, numbers = energy.update_of(module)
    inner, states = per_update * updates, (1 + 2 * numbers) * updates + (spikes or 0)
    if module.axon is not None:
        coefficients, order = energy.taps(module.axon)
        inner, states = inner + coefficients * updates, states + 2 * order * updates
    return {
        "shape": tuple(features), "spikes": spikes, "updates": updates, "firing": 0 if spikes is None else updates,
        "inner_macs": inner, "inner_accumulates": 2 * updates, "states": states,
    }  # fmt: skip


def _fired(module: LIF, current: Tensor, options: dict, output: Any) -> float | None:
    """The number of spikes in a call; None for neurons that only show their potential."""
    if module.readout == "none":
        return None
    if module.axon is not None:
        if options.get("recurrence") is not None:
            raise ValueError(
                "model has recurrent neurons with an axon: nobody sees their spikes, so they are not counted"
            )
        output = spikes_of(module, current, options.get("steps"), options.get("state"))
    return _first(output).sum(dtype=torch.float64).item()


def _first(output: Any) -> Tensor:
    """The first output of neurons, their spikes, ahead of a potential and a state."""
    while isinstance(output, tuple):
        output = output[0]
    return output


def _updates(inputs: tuple, options: dict) -> int:
    """The updates of neurons in a call."""
    return inputs[0].numel() * (options.get("steps") or 1)


def _neuron(module: Neuron, inputs: tuple, options: dict, output: Any) -> dict[str, Any]:
    updates, output = _updates(inputs, options), _first(output)
    spikes = output.sum(dtype=torch.float64).item() if ((output == 0) | (output == 1)).all() else None
    return {
        "shape": tuple(output.shape[2:]), "spikes": spikes, "updates": updates,
        "firing": 0 if spikes is None else updates,
        "states": (1 + 2 * len(module.definition.states)) * updates + (spikes or 0),
    }  # fmt: skip


def _iir(module: IIR, inputs: tuple, options: dict, output: Any) -> dict[str, Any]:
    coefficients, order = energy.taps(module)
    numbers = inputs[0].numel()
    return {"shape": tuple(inputs[0].shape[2:]), "inner_macs": coefficients * numbers, "states": 2 * order * numbers}


def _recurrent(module: Recurrent, inputs: tuple, options: dict, output: Any) -> dict[str, Any]:
    """The products one to one; those of a module are counted where it is called."""
    products = 0 if isinstance(module.weight, nn.Module) else _updates(inputs, options)
    return {"shape": (), "inner_macs": products}


_COUNTERS: tuple[tuple[Any, _Counter], ...] = (
    (nn.Linear | nn.Conv2d, _weights),
    (LIF, _lif),
    (Neuron, _neuron),
    (IIR, _iir),
    (Recurrent, _recurrent),
)
