"""The public face of a defined neuron: a layer that checks its arguments, chooses a backend and calls it."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _checks, _direct, _dispatch, _triton
from .._recurrence import Recurrence
from ..state import state_dtype
from . import cpu as cpu  # it defines its operators
from . import loop, operator
from .call import NEURONS, Call
from .trace import Step, signature, trace

if _triton.import_error is None:
    from . import gpu as gpu

Result = tuple[Any, tuple[Tensor, ...] | None]


class Neuron:
    """A layer of neurons that are defined by one step: what :func:`neuron` makes of a function.

    Attributes:
        key: names the step; two neurons of one step have the same key.
        states: the names of the states, in their order.
        coefficients: the names of the coefficients, each with its default, or None.
    """

    def __init__(self, function: Callable, states: Sequence[str]):
        self.function = function
        self.parameters = signature(function, states, _OPTIONS)
        self.states, self.coefficients = self.parameters.states, self.parameters.coefficients
        self.step: Step = trace(function, self.parameters)
        self.key = f"{function.__name__}-{self.step.digest()}"
        functools.update_wrapper(self, function)
        self._call = _direct.remembered(self._packer, stacklevel=2)(self._checked_call)
        NEURONS[self.key] = self

    def __repr__(self) -> str:
        return f"<hnn_kernels.neuron {self.key}>"

    def __reduce__(self) -> str:
        # Pickled by its name, as a function is; a copy is itself.
        return self.function.__qualname__

    def __call__(
        self,
        x: Tensor,
        *,
        state: Sequence[Tensor] | None = None,
        steps: int | None = None,
        smooth: bool = False,
        return_state: bool = True,
        checkpoint_every: int | None = None,
        backend: str | None = None,
        **coefficients: float | Tensor,
    ) -> Result:
        """Run the layer over all time steps, in one kernel.

        Args:
            x: ``[T, B, *features]``, or ``[B, *features]`` with ``steps`` (constant in time, read once); float64,
                float32, bfloat16 or float16. Any strides.
            state: the states that a call over the preceding steps returned, in their order; None starts from zeros.
                Each is ``[B, *features]`` in float32 (float64 for a float64 input).
            steps: T, where the input is constant in time.
            smooth: replace each spike by the surrogate's integral, so that forward and backward are a function and its
                true derivative.
            return_state: False if no later call continues this one.
            checkpoint_every: keep the states of every K-th step for backward, which then computes forward again from
                there and not from the first step.
            backend: ``"cpu"``, ``"triton"`` or ``"reference"``; None takes the kernel for the device.
            coefficients: the step's coefficients by name. Each is a float, or a tensor that broadcasts against
                ``*features``, in the dtype of the input or of the state, and may require a gradient.

        Returns:
            ``(out, state)``. ``out`` is ``[T, B, *features]`` in the dtype of the input, or a tuple of those where the
            step returns several outputs. ``state`` is a tuple; None with ``return_state=False``.

        Raises:
            TypeError: an argument of the wrong type or dtype; a coefficient that is missing or not known.
            ValueError: a shape, device, value or name that is not allowed.
            RuntimeError: a backend that is not usable here, a compiler that is missing or fails, a gradient of the
                gradient.
        """
        return self._call(x, state, steps, smooth, return_state, checkpoint_every, backend, **coefficients)

    def with_defaults(self, coefficients: Mapping[str, Any]) -> dict[str, Any]:
        """Return all coefficients in their order, with the defaults of those that are not given.

        Raises:
            TypeError: a coefficient that is not known, or one that is missing.
        """
        unknown = [name for name in coefficients if name not in self.coefficients]
        if unknown:
            raise TypeError(f"{self.function.__name__} has the coefficients {tuple(self.coefficients)}; got {unknown}")
        found = self.coefficients | dict(coefficients)
        for name, value in found.items():
            if value is None:
                raise TypeError(f"{self.function.__name__} needs its coefficient {name}: a float or a tensor")
        return found

    def _checked_call(self, x, state, steps, smooth, return_state, checkpoint_every, backend, **coefficients) -> Result:
        call = self._checked(x, state, steps, smooth, return_state, checkpoint_every, coefficients)
        return self._packer(call)(self._run(call, backend))

    def _packer(self, call: Call) -> Callable[[Sequence[Tensor]], Result]:
        """Return the function that makes the result of a call from its outputs."""
        count, end = len(self.step.outputs), len(self.step.outputs) + len(self.states)
        return_state = call.return_state  # the function is kept, and must keep no tensor

        def pack(outputs: Sequence[Tensor]) -> Result:
            trains = outputs[0] if count == 1 else tuple(outputs[:count])
            return trains, tuple(outputs[count:end]) if return_state else None

        return pack

    def _run(self, call: Call, backend: Any) -> Sequence[Tensor]:
        if isinstance(backend, Recurrence):
            return backend.run(call, self._run)
        chosen = _choose(call.x.device, backend)
        if chosen == "reference":
            _dispatch.warn_of_the_reference(call.x.device, backend, stacklevel=6)  # the caller of __call__
        return run(call, chosen)

    def _checked(self, x, state, steps, smooth, return_state, checkpoint_every, coefficients) -> Call:
        if steps is not None:
            steps = _checks.steps_count("steps", steps)
        _checks.current(x, steps)
        dtype, device = state_dtype(x.dtype), x.device
        shape = x.shape[1:] if steps is None else x.shape
        if steps is not None:
            _checks.fits(steps, x)
        smooth = _checks.flag("smooth", smooth)
        return_state = _checks.flag("return_state", return_state)
        if checkpoint_every is not None:
            checkpoint_every = _checks.positive_int("checkpoint_every", checkpoint_every)
        tensors: list[Tensor | None] = []
        values: list[float] = []
        for name, value in self.with_defaults(coefficients).items():
            tensor = None
            if isinstance(value, Tensor):
                _checks.coefficient(name, value, shape[1:], (x.dtype, dtype), device)
                tensor = value.to(dtype)
            elif torch.compiler.is_compiling() and _checks.varies(value):
                tensor = _checks.as_tensor(_checks.number(name, value), dtype, device)
            tensors.append(tensor)
            values.append(0.0 if tensor is not None else _checks.number(name, value))
        given: Sequence[Tensor | None] = [None] * len(self.states) if state is None else state
        if not isinstance(given, tuple | list) or len(given) != len(self.states):
            raise TypeError(f"state must be a tuple of the states {self.states}, or None; got {_kind(given)}")
        for name, one in zip(self.states, given, strict=True):
            if state is not None:
                _checks.state(f"state[{name!r}]", one, shape, dtype, device)
        learns = torch.is_grad_enabled() and any(
            isinstance(t, Tensor) and t.requires_grad for t in (x, *tensors, *given)
        )
        every = (checkpoint_every or 0) if learns else 0
        return Call(x, tensors, values, list(given), steps, self.key, smooth, return_state, every)


_OPTIONS = tuple(name for name in inspect.signature(Neuron.__call__).parameters if name != "coefficients")


def _kind(given: Any) -> str:
    return f"{len(given)} of them" if isinstance(given, tuple | list) else type(given).__name__


def run(call: Call, backend: str) -> Sequence[Tensor]:
    """Run a call on a backend that was chosen, differentiable where gradients are enabled."""
    if backend != "reference":
        return operator.apply(call, backend)
    neuron = NEURONS[call.neuron]
    return loop.run(neuron.function, neuron.parameters, call)


def _choose(device: torch.device, backend: str | None) -> str:
    """Choose the backend of a call.

    Raises:
        ValueError, RuntimeError: the backend is not known, or cannot be used here.
    """
    # The CUDA module has no kernel of a neuron that it does not know. Without Triton, the error says what is missing.
    on_gpu = device.type == "cuda" and backend is None
    chosen = _dispatch.choose(device, "triton" if on_gpu else backend)
    if chosen in ("reference", *operator.forward_ops):
        return chosen
    raise RuntimeError(
        f"backend={chosen!r} has no kernel of a neuron by definition; it has backend='cpu' for the CPU, 'triton' for "
        "GPUs, and 'reference', its step as a plain PyTorch loop, for any device"
    )


def neuron(states: Sequence[str]) -> Callable[[Callable], Neuron]:
    """Turn a function of one step into a layer that runs all steps in one kernel, forward and backward::

        @hnn_kernels.neuron(states=("v", "a"))
        def adaptive(x, v, a, *, decay, beta, rho):
            v = decay * v + x
            spike = hnn_kernels.fire(v - (1 + beta * a), surrogate="arctan")
            return spike, (v - spike, rho * a + spike)

        spikes, state = adaptive(x, decay=0.9, beta=0.2, rho=torch.tensor(0.95, requires_grad=True))

    The function takes the input of a step, the states before it, and coefficients behind a ``*``, which may have
    numbers as defaults. It returns ``(output, states after the step)``, or a tuple of outputs in the first place. It
    computes with the operators + - * / **, comparisons, ``&``, ``|``, ``~``, with torch's elementwise functions (such
    as ``torch.where``, ``exp``, ``tanh``, ``clamp``, ``maximum``, ``detach``), and with :func:`hnn_kernels.fire`.

    It is called once, here, with symbols in the place of tensors. From these its adjoint is derived. On the CPU the
    kernel is compiled at the first call, with the machine's C++ compiler, and kept on disk (see ``HNN_CACHE_DIR``).
    ``backend="reference"`` calls the function itself, step by step.

    Args:
        states: the names of the states: those of the function's parameters behind the first.

    Returns:
        A decorator, which makes a :class:`Neuron` of a function.

    Raises:
        TypeError: the function's parameters or results are not as above, or it cannot be traced; the message has the
            line of the source.
        ValueError: a name that is not allowed.
    """
    if isinstance(states, str) or not all(isinstance(name, str) for name in states):
        raise TypeError(f"states must be a sequence of names, such as ('v',); got {states!r}")
    return lambda function: Neuron(function, tuple(states))
