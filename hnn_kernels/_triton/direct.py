"""The plans of direct calls (``hnn_kernels/_direct.py``) that Triton's kernels run.

Triton's ``kernel[grid](...)`` binds the arguments by name, asks each for its type and alignment, and looks for the
kernel that was compiled for these: most of the host's time. A call's key determines all of that. So a plan keeps the
compiled kernel, and hands Triton's own launcher the addresses in the place of the tensors.
"""

import math
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor
from triton import knobs

from .._layer import FILTER_COEFFICIENTS, TENSORS, Layer
from .launch import Call, Outputs, Tensors, backward_call, forward_call, learnt_of, per_neuron, summed_axes

# A tensor of a call, and the place of one of the call's tensors that it is allocated like; -1 for none.
Model = tuple[Tensor, int]

_address = Tensor.data_ptr


def _unwatched() -> bool:
    """Tell if no hook wants to hear of launches, and nothing changes how kernels are compiled, as a profiler does."""
    runtime = knobs.runtime
    enter, leave = runtime.launch_enter_hook, runtime.launch_exit_hook
    return not (
        getattr(enter, "calls", enter)  # a chain of hooks, or one that was put in its place
        or getattr(leave, "calls", leave)
        or runtime.add_stages_inspection_hook is not None
        or knobs.compilation.instrumentation_mode
    )


def _allocator(tensor: Tensor, like: int) -> Callable[[Sequence[Tensor]], Tensor]:
    """Return the function that allocates a tensor as ``tensor`` is, from the tensors of a call. It keeps no tensor."""
    if like >= 0:
        return lambda tensors: torch.empty_like(tensors[like])
    size, stride, dtype, device = tensor.shape, tensor.stride(), tensor.dtype, tensor.device
    return lambda tensors: torch.empty_strided(size, stride, dtype=dtype, device=device)


class _Launch:
    """A launch whose tensors are others in each call.

    Args:
        call: the launch.
        tensors: the tensors that its arguments are made of.
        index: the number of the device.
    """

    def __init__(self, call: Call, tensors: Sequence[Tensor], index: int) -> None:
        self._index, self._kernel, self._grid, self._options = index, call.kernel, call.grid, call.options
        with torch.cuda.device(index):
            compiled = call.kernel.warmup(*call.arguments, grid=call.grid, **call.options)
            self._run = compiled.run  # loads it, if no call has
        self._compiled = compiled  # keeps the function loaded
        self._function, self._metadata = compiled.function, compiled.packed_metadata
        places = {id(tensor): place for place, tensor in enumerate(tensors)}
        # What is no tensor stands behind the tensors.
        constants: list[Any] = []

        def place(value: Any) -> int:
            if isinstance(value, Tensor):
                return places[id(value)]
            constants.append(value)
            return len(tensors) + len(constants) - 1

        def getter(argument: Any) -> Callable[[Sequence], Any]:
            if isinstance(argument, tuple) and any(isinstance(value, Tensor) for value in argument):
                taken = [place(value) for value in argument]  # always several
                return itemgetter(*taken)
            return itemgetter(place(argument))

        self._getters = tuple(getter(argument) for argument in call.arguments)
        self._kinds = tuple(type(argument) for argument in call.arguments)
        self._constants = tuple(constants)

    def __call__(self, *tensors: Tensor) -> None:
        previous = torch._C._cuda_exchangeDevice(self._index)
        try:
            if not _unwatched():
                self._usual(tensors)
                return
            values = (*map(_address, tensors), *self._constants)
            self._run(
                self._grid[0], 1, 1, torch._C._cuda_getCurrentRawStream(self._index), self._function, self._metadata,
                None, None, None, *[get(values) for get in self._getters],
            )  # fmt: skip
        finally:
            torch._C._cuda_maybeExchangeDevice(previous)

    def _usual(self, tensors: Sequence[Tensor]) -> None:
        values = (*tensors, *self._constants)
        # A tuple with names, whose elements the kernel takes by name.
        arguments = [
            kind(*get(values)) if issubclass(kind, tuple) and hasattr(kind, "_fields") else get(values)
            for kind, get in zip(self._kinds, self._getters, strict=True)
        ]
        self._kernel[self._grid](*arguments, **self._options)


def _layer(tensors: Sequence[Tensor], places: Sequence[int], settings: Sequence[Any]) -> Layer:
    return Layer(*(None if place < 0 else tensors[place] for place in places), *settings)


class _Forward:
    def __init__(self, tensors: Sequence[Tensor], layer: Layer, models: Sequence[Model | None]) -> None:
        made = [model[0].detach() if model else None for model in models]
        there = [tensor for tensor in made if tensor is not None]
        self._allocators = [_allocator(*model) for model in models if model]
        self._launch = None
        if math.prod(layer.shape):
            self._launch = _Launch(forward_call(layer, made), (*tensors, *there), layer.current.get_device())

    def run(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the outputs that the call has."""
        made = tuple([allocate(tensors) for allocate in self._allocators])
        if self._launch is not None:
            self._launch(*tensors, *made)
        return made


class _Backward:
    def __init__(
        self,
        tensors: Sequence[Tensor],
        layer: Layer,
        incoming: Sequence[int],
        models: Sequence[Model | None],
        outgoing: Sequence[int],
        count: int,
    ) -> None:
        needs = sum(1 << i for i, model in enumerate(models) if model)
        learnt = learnt_of(needs)
        self._none: list[Tensor | None] = [None] * count
        self._allocators: list[Callable[[Sequence[Tensor]], Tensor]] = []
        self._places: list[int] = []
        self._sums: list[tuple[int, list[int], torch.Size]] = []  # of the gradients per neuron
        gradients: list[Tensor | None] = []
        for name, model, place in zip(TENSORS, models, outgoing, strict=True):
            if model is None:
                gradients.append(None)
                continue
            gradient, like = model[0].detach(), model[1]
            if name in learnt:
                shape, like, gradient = gradient.shape, -1, per_neuron(layer, name)
                axes = summed_axes(gradient, shape, name in FILTER_COEFFICIENTS)
                self._sums.append((len(self._places), axes, shape))
            gradients.append(gradient)
            self._places.append(place)
            self._allocators.append(_allocator(gradient, like))
        self._launch = None
        if math.prod(layer.shape):
            given = Outputs(*(None if place < 0 else tensors[place] for place in incoming))
            call, workspace = backward_call(given, layer, Tensors(*gradients), learnt)
            written = [gradient for gradient in gradients if gradient is not None]
            if workspace is not None:
                written.append(workspace)
                self._allocators.append(_allocator(workspace, -1))
            self._launch = _Launch(call, (*tensors, *written), layer.current.get_device())

    def run(self, tensors: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
        """Return the gradients at their places, None elsewhere."""
        made = [allocate(tensors) for allocate in self._allocators]
        if self._launch is not None:
            self._launch(*tensors, *made)
        for i, axes, shape in self._sums:
            made[i] = made[i].sum(axes, keepdim=True).view(shape)
        result = self._none.copy()
        for place, gradient in zip(self._places, made, strict=False):  # the workspace comes last
            result[place] = gradient
        return tuple(result)


# The functions of a compiled module (csrc/direct.inl), with the same arguments. A tensor that is in two places has a
# stand-in for each.


def plan_forward(
    tensors: Sequence[Tensor], places: Sequence[int], models: Sequence[Model | None], *layer: Any
) -> _Forward:
    """Make the plan of a forward call."""
    tensors = [tensor.detach() for tensor in tensors]
    return _Forward(tensors, _layer(tensors, places, layer[len(TENSORS) :]), models)


def plan_backward(
    tensors: Sequence[Tensor],
    places: Sequence[int],
    incoming: Sequence[int],
    models: Sequence[Model | None],
    outgoing: Sequence[int],
    count: int,
    *layer: Any,
) -> _Backward:
    """Make the plan of a backward call."""
    tensors = [tensor.detach() for tensor in tensors]
    return _Backward(tensors, _layer(tensors, places, layer[len(TENSORS) :]), incoming, models, outgoing, count)
