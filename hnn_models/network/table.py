"""The table of a network, layer by layer: shapes, parameters, bytes."""

import math
from contextlib import ExitStack
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from hnn_kernels.nn import IIR

from .codings import KINDS, Coding
from .layers import SpikingLayer
from .tokens import Shape
from .weights import Look

if TYPE_CHECKING:
    from .network import HybridNetwork

FLOAT = 4  # bytes: state is float32 for every dtype but float64


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        name: the token, ``"input"``, or the coding and the kind of input.
        part: ``"artificial"``, ``"spiking"``, ``"coding"``, or ``""`` for the input.
        shape: of the output, of one image at one step.
        parameters: number of weights, biases and learnt coefficients.
        state: bytes of the state of one image in float32, with which the layer continues in time.
        modules: the modules that the line stands for.
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
    tokens = list(network.modules_by_token())
    own = {module for _, _, module in tokens}
    children = list(network.artificial)
    for token, shape, module in tokens:
        if network.code is not None and token.spiking and found[-1].part not in ("coding", "spiking"):
            found.append(_coding(network, network.code))
        modules = [module]
        if not token.spiking:  # with its activation
            modules += takewhile(lambda child: child not in own, children[children.index(module) + 1 :])
        layer = cast("SpikingLayer", module)
        state = _neuron_state(layer) * math.prod(shape) if token.spiking and token.weighted else 0
        found.append(_row(token.text, "spiking" if token.spiking else "artificial", shape, state, tuple(modules)))
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


def kept_for_backward(network: "HybridNetwork", device: torch.device | str = "cpu") -> list[int]:
    """Bytes that training keeps from forward to backward for one image, one number for each of :func:`rows`.

    They are measured, in the network's dtype: an image of noise goes through the network (two where batch norm in
    training needs more than one value), and every storage that
    autograd saves is counted once, at the row that saves it first. Parameters are not counted. A tensor between two
    layers is saved by the layer that multiplies it.

    A network on the device ``"meta"``, which has no weights, is measured without memory, as a network on ``device``.
    """
    table = rows(network)
    kept = [0] * len(table)
    place = {module: i for i, row in enumerate(table) for module in row.modules}
    inside: list[int] = []
    alive: list[Tensor] = []  # so that no storage is freed and its address given to another

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if inside and storage._cdata not in seen:
            seen.add(storage._cdata)
            alive.append(tensor)
            kept[inside[-1]] += storage.nbytes()
        return tensor

    def enter(index: int) -> Look:
        return Look(lambda _: inside.append(index))

    with ExitStack() as stack:
        buffers = {name: tensor.clone() for name, tensor in network.named_buffers()}  # batch norm changes its own
        state = {**dict(network.named_parameters()), **buffers}
        if any(tensor.is_meta for tensor in state.values()):
            stack.enter_context(FakeTensorMode())
            state = {name: _without_memory(tensor, device) for name, tensor in state.items()}
        seen = {tensor.untyped_storage()._cdata for tensor in state.values()}
        like = next(iter(state.values()), torch.empty(0))
        stack.enter_context(torch.random.fork_rng(devices=[like.device] if like.is_cuda else []))
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor))
        for module, index in place.items():
            stack.callback(module.register_forward_pre_hook(enter(index)).remove)
            stack.callback(module.register_forward_hook(Look(lambda _: inside.pop())).remove)
        images = 1 + any(token.norm for token in network.layers)
        image = torch.rand(images, *network.input_shape, dtype=like.dtype, device=like.device)
        torch.func.functional_call(network, state, (image,))
    return [number // images for number in kept]


def _without_memory(tensor: Tensor, device: torch.device | str) -> Tensor:
    made = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)
    return made.requires_grad_(tensor.requires_grad)


def _row(name: str, part: str, shape: Shape, state: int = 0, modules: tuple[nn.Module, ...] = ()) -> Row:
    parameters = {p for module in modules for p in module.parameters()}
    return Row(name, part, shape, sum(p.numel() for p in parameters), state, modules)


def _coding(network: "HybridNetwork", code: Coding) -> Row:
    channels, *sides = network.features_shape
    shape = (channels // len(KINDS[code.kind].outputs), *sides)
    numbers = 0 if code.axon is None else _order(code.axon) * (1 if code.constant else math.prod(shape))
    return _row(f"{code.kind}, {network.input}", "coding", shape, FLOAT * numbers, (code,))


def _neuron_state(layer: SpikingLayer) -> int:
    """Bytes of one neuron's state: V, R if the reset has it, and the past values that the filters need."""
    neurons = layer.neurons
    filters = sum(_order(f) for f in (neurons.axon, neurons.synapse) if f is not None)
    return FLOAT * (1 + (neurons.reset == "filter") + filters)


def _order(axon: IIR) -> int:
    return len(axon.feedback) + len(axon.feedforward) - 1
