"""CUDA graphs of training: a pass or a whole step is captured once, and replayed for a launch's cost on the host.

The layers of this package launch on the current stream, take all memory from torch and wait for nothing, and their
codings draw their seed on the device. So a model of them can be captured as it is.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves

_DEVICE = "cuda"  # the type of device that has graphs
_WARM_UP = 3  # passes before a capture, which torch's notes on graphs ask for


def _autocast() -> torch.dtype | None:
    """Return the dtype of the autocast that is in force; None if none is."""
    return torch.get_autocast_dtype(_DEVICE) if torch.is_autocast_enabled(_DEVICE) else None


class _Pass(nn.Module):
    """A module's forward pass under the autocast that is in force where this is made, without its cache of casts.

    A cast that is cached before a capture would not be in the graph.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self._autocast = _autocast()

    def forward(self, *inputs: Tensor) -> Any:
        dtype = self._autocast
        with torch.autocast(_DEVICE, dtype=dtype, enabled=dtype is not None, cache_enabled=False):
            return self.module(*inputs)


def _check(module: nn.Module, inputs: tuple[Tensor, ...]) -> torch.device:
    """Return the GPU of all inputs, parameters and buffers."""
    device = None
    for i, value in enumerate(inputs):
        if not isinstance(value, Tensor):
            raise TypeError(f"inputs[{i}] must be a tensor; got {type(value).__name__}")
        device = device or value.device
    if device is None:
        raise ValueError("inputs must have at least one tensor; got none")
    named = {f"inputs[{i}]": value for i, value in enumerate(inputs)}
    for name, tensor in {**named, **dict(module.named_parameters()), **dict(module.named_buffers())}.items():
        if tensor.device.type != _DEVICE or tensor.device != device:
            raise ValueError(f"a CUDA graph needs all tensors on one CUDA device; {name} is on {tensor.device}")
    return device


def _inputs_signature(inputs: tuple[Tensor, ...]) -> tuple:
    """All of a call's inputs and surroundings that a graph has as constants."""
    tensors = ((x.shape, x.dtype, x.device, x.requires_grad) if isinstance(x, Tensor) else x for x in inputs)
    return _autocast(), *tensors


def _addresses(module: nn.Module) -> tuple:
    """The places of the parameters and buffers, and what of them is learnt."""
    return (
        *((p.data_ptr(), p.requires_grad) for p in module.parameters()),
        *(b.data_ptr() for b in module.buffers()),
    )  # fmt: skip


def _static(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Memory for the inputs that a graph reads. What a collection would free during the capture is freed now."""
    gc.collect()
    return tuple(x.detach().clone().requires_grad_(x.requires_grad) for x in inputs)


@contextmanager
def _undone(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Leave the module's buffers and torch's generators as they were."""
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    with torch.random.fork_rng(devices=[device]):
        yield
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)


class Graphed:
    """A module whose training passes, forward and backward, are replays of CUDA graphs.

    It is called as the module is, and autograd, hooks of the results, gradient clipping, scaling, averaging and every
    optimizer work behind it as ever::

        graphed = Graphed(model)
        loss = nn.functional.cross_entropy(graphed(images), labels)
        loss.backward()

    The first call in training mode with a gradient captures (:func:`torch.cuda.make_graphed_callables`). A call whose
    inputs have the same shapes and dtypes replays; any other one, such as a smaller last batch or one of an evaluation,
    runs the module as it is. The capture draws no random number and changes no buffer as far as the calls after it can
    tell, and a replay draws new ones. If a parameter has moved, or is no longer learnt, the next call captures again.

    What the module reads from Python is a constant of the graph: an attribute, such as a threshold that is a float, or
    a branch by the values of a tensor. Hooks of modules inside run in the capture alone. Results and gradients are
    memory of the graph: the next pass overwrites them. So one backward pass belongs to each forward pass, and the
    gradients of the parameters have to be None before it (``optimizer.zero_grad(set_to_none=True)``, torch's default).

    Args:
        module: the module, with its parameters on a GPU. Its inputs and results are tensors.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._run: Callable | None = None
        self._signature: tuple = ()
        self._places: tuple = ()

    def __call__(self, *inputs: Tensor) -> Any:
        """Return the module's results.

        Raises:
            TypeError: an input is not a tensor.
            ValueError: a tensor is not on the GPU of the others.
            RuntimeError: the module does what cannot be captured, such as waiting for the device. In backward: a
                parameter has a gradient already.
        """
        if not (self.module.training and torch.is_grad_enabled()):
            return self.module(*inputs)
        signature, places = _inputs_signature(inputs), _addresses(self.module)
        if self._run is None or places != self._places:
            self._run = None  # gives its memory back first
            self._run = self._capture(inputs)
            self._signature, self._places = signature, places
        if signature != self._signature:
            return self.module(*inputs)
        results = self._run(*inputs)
        for result in tree_leaves(results):
            if isinstance(result, Tensor) and result.requires_grad:
                result.register_hook(self._refuse_gradients)
        return results

    def _refuse_gradients(self, _: Tensor) -> None:
        """Stop a backward pass that would add to its own gradients: autograd takes those of a graph without a copy."""
        for name, parameter in self.module.named_parameters():
            if parameter.grad is not None and parameter.requires_grad:
                raise RuntimeError(
                    "a graphed pass adds to no gradients: call zero_grad(set_to_none=True) before backward; "
                    f"{name} has one"
                )

    def _capture(self, inputs: tuple[Tensor, ...]) -> Callable:
        device = _check(self.module, inputs)
        one_pass = _Pass(self.module)
        with torch.cuda.device(device), _undone(self.module, device), torch.autocast(_DEVICE, enabled=False):
            return torch.cuda.make_graphed_callables(
                one_pass, _static(inputs), num_warmup_iters=_WARM_UP, allow_unused_input=True
            )


class TrainingStep:
    """A whole step of training as one CUDA graph: forward, loss, backward, and the optimizer's step.

    ::

        rate = torch.tensor(1e-3, device="cuda")  # a schedule writes into it: rate.fill_(1e-4)
        optimizer = torch.optim.AdamW(model_with_loss.parameters(), lr=rate, fused=True)
        step = TrainingStep(model_with_loss, optimizer)
        for images, labels in batches:
            loss = step(images, labels)

    The first three calls are usual steps, since a capture needs a warm-up. The fourth captures. From then on a call
    whose inputs have the shapes and dtypes of the fourth replays, and any other one is a usual step. What
    :class:`Graphed` says of constants, hooks and random numbers holds here, too. Nothing can come between backward and
    the optimizer's step, as clipping or scaling of gradients would; :class:`Graphed` leaves room for that.

    Args:
        module: returns the loss, a tensor of one element, from the inputs.
        optimizer: the optimizer of its parameters. One that has the option ``capturable`` needs it, or ``fused``. A
            learning rate that a schedule changes has to be a tensor: a float is a constant of the graph.

    Raises:
        ValueError: the optimizer is not capturable.
    """

    def __init__(self, module: nn.Module, optimizer: Optimizer) -> None:
        for i, group in enumerate(optimizer.param_groups):
            if not (group.get("capturable", True) or group.get("fused")):
                raise ValueError(
                    f"optimizer must be made with capturable=True or fused=True; both are off in param_groups[{i}]"
                )
        self.module, self.optimizer = module, optimizer
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[Tensor, ...] = ()
        self._loss = torch.empty(0)
        self._signature: tuple = ()
        self._places: tuple = ()
        self._constants: list[dict] = []
        self._stream: Any = None
        self._warm = 0

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Do a step; return its loss, without a gradient.

        Raises:
            TypeError: an input is not a tensor.
            ValueError: a tensor is not on the GPU of the others.
            RuntimeError: the step does what cannot be captured; or a parameter has moved, or an option of the optimizer
                has changed that is a constant of the graph.
        """
        if self._graph is None:
            device = _check(self.module, inputs)
            if self._warm < _WARM_UP:
                self._warm += 1
                return self._beside(device, inputs)
            self._capture(device, inputs)
        if _inputs_signature(inputs) != self._signature:
            return self._step(_Pass(self.module), inputs)
        self._refuse_changes()
        for static, given in zip(self._inputs, inputs, strict=True):
            static.detach().copy_(given)
        self._graph.replay()  # type: ignore[union-attr]
        return self._loss.clone()  # the next replay overwrites it

    def _step(self, one_pass: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        loss = one_pass(*inputs)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def _beside(self, device: torch.device, inputs: tuple[Tensor, ...]) -> Tensor:
        """Do a step on the stream of the capture, as torch's notes on graphs have it."""
        self._stream = self._stream or torch.cuda.Stream(device)
        current = torch.cuda.current_stream(device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            loss = self._step(_Pass(self.module), inputs)
        current.wait_stream(self._stream)
        return loss

    def _capture(self, device: torch.device, inputs: tuple[Tensor, ...]) -> None:
        self._inputs = _static(inputs)
        one_pass, graph = _Pass(self.module), torch.cuda.CUDAGraph()
        self.optimizer.zero_grad(set_to_none=True)  # a replay then writes gradients, and adds to none
        with (
            torch.cuda.device(device),
            torch.autocast(_DEVICE, enabled=False),
            torch.cuda.graph(graph, stream=self._stream),
        ):
            self._loss = self._step(one_pass, self._inputs)
        self._graph = graph
        self._signature, self._places = _inputs_signature(inputs), _addresses(self.module)
        self._constants = self._options()

    def _options(self) -> list[dict]:
        """The options of each group that are no tensors."""
        return [
            {name: value for name, value in group.items() if name != "params" and not isinstance(value, Tensor)}
            for group in self.optimizer.param_groups
        ]

    def _refuse_changes(self) -> None:
        if _addresses(self.module) != self._places:
            raise RuntimeError(
                "a parameter or buffer has moved or is no longer learnt since the step was captured: make a new "
                "TrainingStep"
            )
        for i, (now, then) in enumerate(zip(self._options(), self._constants, strict=True)):
            for name, value in now.items():
                if value != then.get(name):
                    raise RuntimeError(
                        f"{name} of param_groups[{i}] was {then.get(name)} when the step was captured, and is {value}: "
                        "what changes has to be a tensor, as in lr=torch.tensor(1e-3)"
                    )
