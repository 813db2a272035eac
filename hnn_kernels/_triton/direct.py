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

from .._layer import TENSORS, Layer
from .call import Call
from .launch import Outputs, Tensors, backward_call, forward_call, learnt_of
from .sums import Sums

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
        views: parts of the tensors that stand in the arguments, too, each with the place of its tensor.
    """

    def __init__(
        self, call: Call, tensors: Sequence[Tensor], index: int, views: Sequence[tuple[Tensor, int]] = ()
    ) -> None:
        self._index, self._kernel, self._grid, self._options = index, call.kernel, call.grid, call.options
        with torch.cuda.device(index):
            compiled = call.kernel.warmup(*call.arguments, grid=call.grid, **call.options)
            self._run = compiled.run  # loads it, if no call has
        self._compiled = compiled  # keeps the function loaded
        self._function, self._metadata = compiled.function, compiled.packed_metadata
        # The views stand behind the tensors, and what is no tensor behind them.
        self._views = tuple((place, view.shape, view.stride(), view.storage_offset()) for view, place in views)
        self._offsets = tuple((place, view.storage_offset() * view.element_size()) for view, place in views)
        tensors = (*tensors, *(view for view, _ in views))
        places = {id(tensor): place for place, tensor in enumerate(tensors)}
        constants: list[Any] = []

        def place(value: Any) -> int:
            if isinstance(value, Tensor):
                return places[id(value)]
            constants.append(value)
            return len(tensors) + len(constants) - 1

        def getter(argument: Any) -> Callable[[Sequence], Any]:
            if isinstance(argument, tuple) and any(isinstance(value, Tensor) for value in argument):
                taken = [place(value) for value in argument]
                one = taken[0]
                return itemgetter(*taken) if len(taken) > 1 else lambda values: (values[one],)
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
            if self._offsets:
                views = [values[place] + offset for place, offset in self._offsets]
                values = (*values[: len(tensors)], *views, *self._constants)
            self._run(
                self._grid[0], 1, 1, torch._C._cuda_getCurrentRawStream(self._index), self._function, self._metadata,
                None, None, None, *[get(values) for get in self._getters],
            )  # fmt: skip
        finally:
            torch._C._cuda_maybeExchangeDevice(previous)

    def _usual(self, tensors: Sequence[Tensor]) -> None:
        views = [tensors[place].as_strided(size, stride, first) for place, size, stride, first in self._views]
        values = (*tensors, *views, *self._constants)
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

    def __call__(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
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
        self._none: list[Tensor | None] = [None] * count
        self._allocators: list[Callable[[Sequence[Tensor]], Tensor]] = []
        self._places: list[int] = []
        self._launches: list[_Launch] = []
        written: list[Tensor] = []  # in the order of the allocators

        def made(tensor: Tensor, like: int = -1) -> None:
            written.append(tensor)
            self._allocators.append(_allocator(tensor, like))

        gradients = {name: model[0].detach() if model else None for name, model in zip(TENSORS, models, strict=True)}
        for gradient, model, place in zip(gradients.values(), models, outgoing, strict=True):
            if gradient is not None and model is not None:
                self._places.append(place)
                made(gradient, model[1])
        learnt = learnt_of(gradients)
        sums = Sums.of(layer, learnt) if learnt else None
        views: list[tuple[Tensor, int]] = []
        if sums is not None:
            parts = (*sums.views.values(), *(part for part in sums.parts if part is not sums.partials))
            views = [(view, len(tensors) + len(written)) for view in parts]
            for tensor in (sums.partials, *sums.scratch):
                made(tensor)
        calls = []
        if math.prod(layer.shape):
            given = Outputs(*(None if place < 0 else tensors[place] for place in incoming))
            per_neuron = gradients | (sums.views if sums is not None else {})
            call, workspace = backward_call(given, layer, Tensors(**per_neuron), set(learnt))
            calls.append(call)
            if workspace is not None:
                made(workspace)
        if sums is not None:
            calls += sums.calls
        index = layer.current.get_device()
        self._launches = [_Launch(call, (*tensors, *written), index, views) for call in calls]

    def __call__(self, tensors: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
        """Return the gradients at their places, None elsewhere."""
        made = [allocate(tensors) for allocate in self._allocators]
        for launch in self._launches:
            launch(*tensors, *made)
        result = self._none.copy()
        for place, gradient in zip(self._places, made, strict=False):  # scratch comes last
            result[place] = gradient
        return tuple(result)


# The functions of a compiled module (csrc/direct.inl), with the same arguments. A tensor that is in two places has a
# stand-in for each.


def plan_forward(
    tensors: Sequence[Tensor], places: Sequence[int], models: Sequence[Model | None], *layer: Any
) -> _Forward:
    """Return what makes the outputs of a call from its tensors."""
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
    """Return what makes the gradients of a call."""
    tensors = [tensor.detach() for tensor in tensors]
    return _Backward(tensors, _layer(tensors, places, layer[len(TENSORS) :]), incoming, models, outgoing, count)
