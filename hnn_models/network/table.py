"""What a network is made of, layer by layer: shapes, parameters, bytes."""

import math
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from hnn_kernels.nn import IIR

from .layers import SpikingLayer
from .notation import Shape

if TYPE_CHECKING:
    from .network import HybridNetwork

FLOAT = 4  # bytes: state is float32 for every dtype but float64


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        name: the layer's token, ``"input"``, or what codes at the border.
        part: ``"artificial"``, ``"spiking"``, ``"coding"``, or ``""`` for the input.
        shape: of the output, of one image at one step.
        parameters: number of weights, biases and learnt coefficients.
        state: bytes of one image's state in float32, which continues the layer in time.
        modules: what the line stands for.
    """

    name: str
    part: str
    shape: Shape
    parameters: int
    state: int
    modules: tuple[nn.Module, ...]


def rows(network: "HybridNetwork") -> list[Row]:
    """The table of ``network``, input side first."""
    found = [_row("input", "", network.input_shape)]
    pools = (module for module in network.modules() if isinstance(module, nn.MaxPool2d))
    children = list(network.artificial)
    for layer, shape, module in network.modules_by_layer():
        if layer.spiking and found[-1].part not in ("coding", "spiking"):
            found.append(_coding(network))
        if layer.kind == "pool":
            modules = (next(pools),)
        elif layer.spiking:
            modules = (module,)
        else:
            modules = tuple(children[children.index(module) :][:2])  # with its activation
        state = _neuron_state(module) * math.prod(shape) if isinstance(module, SpikingLayer) else 0
        found.append(_row(layer.token, "spiking" if layer.spiking else "artificial", shape, state, modules))
    return found


def text(network: "HybridNetwork") -> str:
    """The table as plain text."""
    table = rows(network)
    lines = [
        ("layer", "part", "shape", "parameters", "state (B)"),
        *((row.name, row.part, show(row.shape), f"{row.parameters:,}", f"{row.state:,}") for row in table),
        ("total", "", "", f"{sum(row.parameters for row in table):,}", f"{sum(row.state for row in table):,}"),
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = (
        "  ".join(
            cell.rjust(width) if i > 2 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
    return "\n".join([f"HybridNetwork({network.extra_repr()})", *aligned])


def show(shape: Shape) -> str:
    """``(32, 30, 30)`` as ``32x30x30``."""
    return "x".join(map(str, shape))


def kept_for_backward(network: "HybridNetwork") -> list[int]:
    """Bytes that training keeps from forward to backward for one image in the network's dtype, by :func:`rows`.

    Measured: one image of noise goes through the network, and every storage that autograd saves is counted once, where
    it is first saved; parameters are not. A tensor between two layers is saved by the one that multiplies it.
    """
    table = rows(network)
    kept = [0] * len(table)
    place = {module: i for i, row in enumerate(table) for module in row.modules}
    inside: list[int] = []
    parameter = next(network.parameters())
    seen = {p.untyped_storage().data_ptr() for p in network.parameters()}
    alive: list[Tensor] = []  # a storage that is freed could come again as another

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if inside and storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            alive.append(tensor)
            kept[inside[-1]] += storage.nbytes()
        return tensor

    def enter(index: int) -> Callable:
        return lambda *_: inside.append(index)

    def leave(*_: object) -> None:
        inside.pop()

    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[parameter.device] if parameter.is_cuda else []))
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor))
        for module, index in place.items():
            stack.callback(module.register_forward_pre_hook(enter(index)).remove)
            stack.callback(module.register_forward_hook(leave).remove)
        network(torch.rand(1, *network.input_shape, dtype=parameter.dtype, device=parameter.device))
    return kept


def _row(name: str, part: str, shape: Shape, state: int = 0, modules: tuple[nn.Module, ...] = ()) -> Row:
    parameters = {p for module in modules for p in module.parameters()}
    return Row(name, part, shape, sum(p.numel() for p in parameters), state, modules)


def _coding(network: "HybridNetwork") -> Row:
    code = network.code
    shape = network.features_shape
    if code.kind == "gaussian":
        shape = (shape[0] // 2, *shape[1:])
    numbers = 0 if code.axon is None else _order(code.axon) * (1 if code.constant else math.prod(shape))
    return _row(f"{code.kind}, {network.input}", "coding", shape, FLOAT * numbers, (code,))


def _neuron_state(layer: SpikingLayer) -> int:
    """Bytes of one neuron's state: V, R where there is one, and the filters' memories."""
    neurons = layer.neurons
    filters = sum(_order(f) for f in (neurons.axon, neurons.synapse) if f is not None)
    return FLOAT * (1 + (neurons.reset == "filter") + filters)


def _order(axon: IIR) -> int:
    return len(axon.feedback) + len(axon.feedforward) - 1
