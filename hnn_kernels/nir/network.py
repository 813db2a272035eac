"""The module of a NIR graph, which runs its nodes one after the other, each over all time steps."""

import functools
import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import _checks
from ..nn import IIR, LIF

_NEURONS = (LIF, IIR)


class Scale(nn.Module):
    """``y = scale * x``, with a fixed factor: a float, or a tensor that broadcasts against the features."""

    scale: float | Tensor

    def __init__(self, scale: float | Tensor) -> None:
        super().__init__()
        if isinstance(scale, Tensor):
            self.register_buffer("scale", scale)
        else:
            self.scale = scale

    def forward(self, input: Tensor) -> Tensor:
        return self.scale * input


class SumPool2d(nn.AvgPool2d):
    """The sum over each window of an image: average pooling with a divisor of 1."""

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        super().__init__(kernel_size, stride, padding, divisor_override=1)


class Rest(nn.Module):
    """Neurons whose potential is returned, at rest at ``v_leak`` and not at 0: their output plus ``v_leak``."""

    v_leak: float | Tensor

    def __init__(self, neurons: LIF | IIR, v_leak: float | Tensor) -> None:
        super().__init__()
        self.neurons = neurons
        if isinstance(v_leak, Tensor):
            self.register_buffer("v_leak", v_leak)
        else:
            self.v_leak = v_leak

    def forward(self, input: Tensor, *, state: Any = None, return_state: bool = False) -> Any:
        if not return_state:
            return self.neurons(input, state=state) + self.v_leak
        out, after = self.neurons(input, state=state, return_state=True)
        return out + self.v_leak, after


class Step(NamedTuple):
    """One node of a graph: its name there, the key of its module (None for a plain sum), and where its input is from.

    ``sources`` are names of nodes. The input is the sum of their outputs.
    """

    name: str
    key: str | None
    sources: tuple[str, ...]


class Network(nn.Module):
    """A NIR graph as a module (:func:`hnn_kernels.nir.load`).

    It keeps no state: a call starts at rest unless it is given a state. Weights are parameters, and the neurons'
    coefficients are fixed.

    Args:
        modules: a module for each node with one, by a key that may be a module's name.
        order: the nodes, each behind its sources. The first is the input, and the output of the last is returned.
        input_shape: the features' shape; None where the graph has none.

    Attributes:
        layers: the modules, an ``nn.ModuleDict``.
        order, input_shape: as given.

    Shape:
        ``[T, B, *input_shape]`` to ``[T, B, *output_shape]``.
    """

    def __init__(
        self, modules: Mapping[str, nn.Module], order: Sequence[Step], input_shape: tuple[int, ...] | None
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(modules)
        self.order = tuple(order)
        self.input_shape = input_shape

    def layer(self, name: str) -> nn.Module:
        """Return the module of the node that has this name in the graph.

        Raises:
            KeyError: there is no such node, or it has no module.
        """
        for step in self.order:
            if step.name == name and step.key is not None:
                return self.layers[step.key]
        named = [step.name for step in self.order if step.key is not None]
        raise KeyError(f"name must be one of {named}; got {name!r}")

    def forward(self, input: Tensor, *, state: Mapping[str, Any] | None = None, return_state: bool = False) -> Any:
        """Return the output train ``[T, B, *output_shape]`` of ``input`` ``[T, B, *input_shape]``.

        Args:
            input: the train that goes into the graph.
            state: the state that a call over the preceding steps returned; None starts at rest.
            return_state: also return the state with which a later call continues: a dictionary from the name of a node
                to the state of its neurons.

        Raises:
            TypeError, ValueError: ``input`` is not a floating train of that shape, or ``state`` is not of this network.
        """
        _checks.train("input", input)
        if self.input_shape is not None and tuple(input.shape[2:]) != self.input_shape:
            raise ValueError(f"input must be [T, B, {_text(self.input_shape)}]; got shape {tuple(input.shape)}")
        holders = [step.name for step in self.order if step.key is not None and has_state(self.layers[step.key])]
        if state is not None and (not isinstance(state, Mapping) or set(state) != set(holders)):
            given = sorted(state) if isinstance(state, Mapping) else type(state).__name__
            raise ValueError(f"state must have the states of the nodes {holders}; got {given}")
        after: dict[str, Any] = {}
        outputs: dict[str, Tensor] = {}
        for name, key, sources in self.order:
            value = functools.reduce(operator.add, (outputs[source] for source in sources)) if sources else input
            module: Any = None if key is None else self.layers[key]
            if name in holders and return_state:
                value, after[name] = module(value, state=state and state[name], return_state=True)
            elif name in holders:
                value = module(value, state=state and state[name])
            elif module is not None:
                value = module(value)
            outputs[name] = value
        return (value, after) if return_state else value


def has_state(module: nn.Module) -> bool:
    """True for a module that takes and returns a state."""
    return isinstance(module, (*_NEURONS, Rest))


def module_key(name: str, taken: Sequence[str] | Mapping[str, Any]) -> str:
    """Return a name for a module that is not among ``taken``: a node's name may have dots, or be one of nn.Module's."""
    key = name.replace(".", "_") or "_"
    while key in taken or hasattr(nn.ModuleDict, key) or key in _RESERVED:
        key += "_"
    return key


_RESERVED = frozenset(vars(nn.Module()))


def shape_behind(module: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the features behind a module that takes ``[B, *features]``.

    Raises:
        ValueError: it does not take features of this shape.
    """
    like = next(iter(module.parameters()), torch.empty(0))
    try:
        with torch.no_grad():
            return tuple(module(like.new_zeros(1, *shape)).shape[1:])
    except RuntimeError as error:
        raise ValueError(f"it does not take features of shape {shape}: {error}") from error


def _text(shape: Sequence[int]) -> str:
    return ", ".join(map(str, shape))


def as_coefficient(values: Any) -> float | Tensor:
    """Return values of neurons as :func:`hnn_kernels.lif` takes them: one float if all are equal, else a tensor."""
    first = values.flat[0]
    if (values == first).all():
        return float(first)
    return torch.tensor(values, dtype=torch.get_default_dtype())
