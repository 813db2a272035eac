"""The public functions: check the arguments, choose the backend, call it."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from . import _checks, _direct, _dispatch, reference
from ._layer import FILTER_SIDES, FILTERS, NO_MEMBRANE, POTENTIALS, READOUTS, RESET_GRADS, RESETS, STATES, Layer
from ._ops import autograd
from ._recurrence import Recurrence
from .filters import IIR
from .state import LIFState, state_dtype
from .surrogates import SURROGATES

# -- what a call returns, from the outputs of its layer --------------------------------------------------------------

LIFResult = tuple[Any, LIFState | None]  # the first is a tensor, or a pair of them: see lif()
IIRResult = tuple[Tensor, Tensor | None]


def _lif_packer(layer: Layer) -> Callable[[Sequence[Tensor]], LIFResult]:
    """Return the function that makes the result of :func:`lif` from the outputs of ``layer``."""
    names = layer.outputs()
    pair = "out" in names and "potential" in names
    if not layer.return_state:
        if pair:
            return lambda outputs: ((outputs[0], outputs[1]), None)
        return lambda outputs: (outputs[0], None)
    places = [names.index(name) if name in names else None for name in STATES]

    def pack(outputs: Sequence[Tensor]) -> LIFResult:
        after: list[Any] = [None if place is None else outputs[place] for place in places]
        return (outputs[0], outputs[1]) if pair else outputs[0], LIFState(*after)

    return pack


def _iir_packer(layer: Layer) -> Callable[[Sequence[Tensor]], IIRResult]:
    """Return the function that makes the result of :func:`iir` from the outputs of ``layer``."""
    return (lambda outputs: (outputs[0], outputs[1])) if layer.return_state else (lambda outputs: (outputs[0], None))


@_direct.remembered(_lif_packer)
def lif(
    current: Tensor,
    decay: float | Tensor,
    reset_decay: float | Tensor | None = None,
    threshold: float | Tensor = 1.0,
    *,
    sigma: float = 0.4,
    steps: int | None = None,
    axon: IIR | None = None,
    synapse: IIR | None = None,
    state: LIFState | None = None,
    reset: str = "filter",
    reset_potential: float | Tensor = 0.0,
    reset_grad: str = "full",
    surrogate: str = "gaussian",
    surrogate_scale: float = 1.0,
    tie_fires: bool = True,
    readout: str = "spikes",
    potential: str = "none",
    smooth: bool = False,
    return_state: bool = True,
    checkpoint_every: int | None = None,
    backend: str | None = None,
) -> tuple[Tensor, LIFState | None]:
    r"""Run a layer of leaky integrate-and-fire neurons over all time steps, in one kernel.

    Per neuron, from zero state or from ``state`` (Muramatsu & Yu 2021, eq. 1; a tie fires)::

        R[t] = reset_decay * R[t-1] + O[t-1]
        V[t] = decay * V[t-1] + current[t] - threshold * R[t]
        O[t] = 1 if V[t] >= threshold else 0

    Backward is backpropagation through time with the surrogate ``exp(-(V - threshold)^2 / (2 sigma^2)) /
    (sqrt(2 pi) sigma)`` for dO/dV. It recomputes V from the current, so training keeps the current and nothing else,
    whatever filters are attached and whatever is learnt. Common layers::

        lif(x, 0.0, d, axon=IIR.dual_exponential(4, 1))     # SNN-IIR (Fang et al. 2020): d = exp(-1 / 4)
        lif(x, 0.9, d, axon=IIR.dual_exponential(4, 1))     # the paper, eq. 1 with every part
        lif(x, 0.9, None, reset="subtract", synapse=IIR.exponential(5))     # current-based LIF

    Args:
        current: ``[T, B, *features]``, or ``[B, *features]`` with ``steps`` (constant in time, read once);
            float64, float32, bfloat16 or float16. Dimensionless, in units of the threshold. Any strides.
        decay: membrane decay per step, ``exp(-1 / tau)`` with ``tau`` in steps; 0 for a neuron without a membrane
            filter. It is a float, or a tensor that broadcasts against ``*features``. The tensor has the dtype of the
            current or of the state, and may require a gradient. The same holds for the next two.
        reset_decay: decay of the reset variable per step; 0 subtracts the threshold once, in the step after the spike.
            None for every other ``reset`` than ``"filter"``.
        threshold: the firing threshold.
        sigma: width of the surrogate, in units of the current; above 0.
        steps: T, where the current is constant in time.
        axon: an :class:`hnn_kernels.IIR` that filters the spike train (the paper's eq. 1d). ``out`` is then the
            filtered train F, and ``readout`` must be ``"spikes"``.
        synapse: an :class:`hnn_kernels.IIR` that filters the current before the membrane.
        state: the state that a call over the preceding steps returned; None starts from zero. Its tensors are
            ``[B, *features]`` in float32 (float64 for a float64 current); see :class:`hnn_kernels.LIFState`.
        reset: ``"filter"`` is the equations above. The others have no R: ``"subtract"`` takes the threshold off at once
            (``V - threshold * O`` decays into the next step), ``"zero"`` sets V to ``reset_potential``
            (``V * (1 - O) + reset_potential * O``), ``"none"`` leaves it.
        reset_potential: where ``reset="zero"`` sets V to: zero by default. A float or a tensor, as ``decay``. It must
            be 0 with another ``reset``.
        reset_grad: ``"full"`` is the exact chain rule; ``"one_step"`` drops the path R[t] -> R[t+1] (the paper's
            eq. 3 with 4b; only with ``reset="filter"``); ``"detach"`` drops the path from O[t] into the reset.
        surrogate: a name in :data:`hnn_kernels.SURROGATES`. ``"periodic_exponential"`` has peaks at the multiples of
            the threshold, which must be above 0, and no gradient goes through that distance.
        surrogate_scale: a factor of the surrogate's derivative; above 0. In smooth mode it is one of the spikes too.
        tie_fires: False lets a neuron fire only above the threshold, ``V[t] > threshold``.
        readout: ``"spikes"`` for the train, ``"count"`` for its sum over time, which is accumulated in the state's
            dtype and never writes the train. A count is exact: more steps than the current's dtype counts to are
            refused (2^53 in float64, 2^24 in float32, 2048 in float16, 256 in bfloat16). With ``smooth``, whose sums
            are no whole numbers, they are refused only where the sum need not be finite (65504 in float16). ``"none"``
            for neither, where the potential is all that is asked for.
        potential: what else is read: the membrane potential V[t] of the equations, before its reset. ``"none"`` for
            nothing, ``"train"`` for all steps, or without a train ``"last"``, ``"max"`` or ``"mean"`` over time. It has
            a gradient; that of a maximum goes to the first step that has it. Training keeps the current and, for a
            maximum, a value per neuron.
        smooth: replace the step by the surrogate's integral, ``erfc((threshold - V) / (sqrt(2) sigma)) / 2`` for the
            Gaussian, so that forward and backward are a function and its true derivative (for
            ``torch.autograd.gradcheck``).
        return_state: False if no later call continues this one. The state is then not written, which at T steps saves
            one part in T of the bytes that forward moves, and more if they come from a cache.
        checkpoint_every: keep the state of every K-th step for backward, which then computes forward again from there
            and not from the first step. It costs the memory of a state per K steps, and the result does not change. It
            is worth it on a GPU where T is long. None keeps only the current.
        backend: ``"reference"``, ``"cpu"``, ``"triton"`` or ``"cuda"``; None takes the best one for the device and the
            layer (:func:`hnn_kernels.explain` tells which and why).

    Returns:
        ``(out, state)``: ``out`` is ``[T, B, *features]`` (``[B, *features]`` for a count) in the dtype of the current.
        With a potential it is the pair ``(spikes, potential)``, of the same shapes and dtype, or the potential alone
        with ``readout="none"``. ``state`` continues the layer in time: two calls over [0, t) and [t, T) equal one call
        over [0, T). It is None with ``return_state=False``.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: a shape, device, value or name that is not allowed.
        RuntimeError: a backend that is not usable here; a gradient of the gradient or a derivative in forward mode,
            which ``backend="reference"`` has.
        MemoryError: a train of a constant current that is larger than the memory of the device.
    """
    if steps is not None:
        steps = _checks.steps_count("steps", steps)
    _checks.current(current, steps)
    _checks.option("reset", reset, RESETS)
    _checks.option("reset_grad", reset_grad, RESET_GRADS)
    _checks.option("surrogate", surrogate, SURROGATES)
    _checks.option("readout", readout, READOUTS)
    _checks.option("potential", potential, POTENTIALS)
    smooth = _checks.flag("smooth", smooth)
    tie_fires = _checks.flag("tie_fires", tie_fires)
    return_state = _checks.flag("return_state", return_state)
    compiling = torch.compiler.is_compiling()
    varying = compiling and (_checks.varies(sigma) or _checks.varies(surrogate_scale))
    sigma = _checks.number("sigma", sigma, positive=True)
    surrogate_scale = _checks.number("surrogate_scale", surrogate_scale, positive=True)
    if checkpoint_every is not None:
        checkpoint_every = _checks.positive_int("checkpoint_every", checkpoint_every)
    if reset != "filter":
        if reset_decay is not None:
            raise ValueError(f"reset_decay must be None with reset={reset!r}, which has no reset variable")
        if reset_grad == "one_step":
            raise ValueError(f"reset_grad must be 'full' or 'detach' with reset={reset!r}; got 'one_step'")
        reset_decay = 0.0
    elif reset_decay is None:
        raise TypeError("reset_decay must be a number or a tensor with reset='filter', the default; got None")
    if reset != "zero" and not _is_zero(reset_potential):
        raise ValueError(f"reset_potential must be 0 with reset={reset!r}, which sets no V; 'zero' does")
    if axon is not None and readout != "spikes":
        raise ValueError(f"readout must be 'spikes' with an axon, which filters the spike train; got {readout!r}")
    if readout == "none" and potential == "none":
        raise ValueError("readout and potential must not both be 'none': nothing would be returned")
    if SURROGATES[surrogate].periodic and not isinstance(threshold, Tensor):
        _checks.number(f"threshold with surrogate={surrogate!r}", threshold, positive=True)

    dtype, device = state_dtype(current.dtype), current.device
    shape = current.shape[1:] if steps is None else current.shape
    length = current.shape[0] if steps is None else steps
    if readout == "count":
        _checks.countable(length, current.dtype, smooth)
    if potential in ("last", "max", "mean"):
        _checks.readable(potential, length, dtype)
    if steps is not None and (readout == "spikes" or potential == "train"):
        _checks.fits(steps, current)
    # A layer's tensors, and the floats that take their place, by the names of _layer.py.
    given: dict[str, Any] = {"width": sigma, "scale": surrogate_scale}
    if varying:
        both = (_checks.as_tensor(value, torch.float64, "cpu") for value in (sigma, surrogate_scale))
        given = {"varying_surrogate": torch.stack(tuple(both))}
    for name, number, value in (
        ("decay", "decay_value", decay),
        ("reset_decay", "reset_decay_value", reset_decay),
        ("threshold", "threshold_value", threshold),
        ("reset_potential", "reset_potential_value", reset_potential),
    ):
        if isinstance(value, Tensor):
            _checks.coefficient(name, value, shape[1:], (current.dtype, dtype), device)
            given[name] = value.to(dtype)
        elif compiling and _checks.varies(value):
            given[name] = _checks.as_tensor(_checks.number(name, value), dtype, device)
        else:
            given[number] = _checks.number(name, value)
    if state is not None:
        state = _state(state, synapse is not None, axon is not None)
        for name in ("v", "r"):
            given[name] = value = getattr(state, name)
            _checks.state(f"state.{name}", value, shape, dtype, device)
    for part, called, iir_filter in (
        ("synapse", ("synapse.", "state.synapse"), synapse),
        ("axon", ("axon.", "state.axon"), axon),
    ):
        if iir_filter is None:
            continue
        if not isinstance(iir_filter, tuple) or len(iir_filter) != 2:
            raise TypeError(f"{part} must be an IIR(feedback, feedforward) or None; got {type(iir_filter).__name__}")
        history = None if state is None else getattr(state, part)
        given |= _filter(part, iir_filter, history, called, shape, current)
    if checkpoint_every is not None and not _differentiable(current, given):
        checkpoint_every = None
    layer = Layer(
        current, **given, steps=steps, surrogate=SURROGATES[surrogate].number, reset=RESETS[reset],
        reset_grad=RESET_GRADS[reset_grad], readout=READOUTS[readout], potential=POTENTIALS[potential], smooth=smooth,
        tie_fires=tie_fires, return_state=return_state, checkpoint_every=checkpoint_every or 0,
    )  # fmt: skip
    return _lif_packer(layer)(_call(layer, backend))


@_direct.remembered(_iir_packer)
def iir(
    x: Tensor,
    feedback: Tensor | Sequence[float | Tensor],
    feedforward: Tensor | Sequence[float | Tensor],
    *,
    state: Tensor | None = None,
    return_state: bool = True,
    backend: str | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Run a linear filter of any order over all time steps, in one kernel (Muramatsu & Yu 2021, eq. 1d)::

        y[t] = sum_{q=0..Q} feedforward[q] * x[t-q] + sum_{p=1..P} feedback[p-1] * y[t-p]

    Backward is exact, and recomputes y from x: training keeps x and nothing else.

    Args:
        x: ``[T, B, *features]``; float64, float32, bfloat16 or float16. Any real values, any strides.
        feedback: ``[P, ...]``, as in :class:`hnn_kernels.IIR`.
        feedforward: ``[Q + 1, ...]``, as in :class:`hnn_kernels.IIR`.
        state: the state that a call over the preceding steps returned; None starts from zero.
        return_state, backend: as for :func:`lif`.

    Returns:
        ``(y, state)``: ``y`` has the shape and dtype of ``x``. ``state`` is ``[P + Q, B, *features]`` in the state
        dtype (float64 for a float64 ``x``, else float32): y[t-1], ..., y[t-P], x[t-1], ..., x[t-Q]. It is None with
        ``return_state=False``.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: a shape, device, value or name that is not allowed.
        RuntimeError: a backend that is not usable here, or a gradient of the gradient.
    """
    _checks.train("x", x)
    return_state = _checks.flag("return_state", return_state)
    given = _filter("synapse", (feedback, feedforward), state, ("", "state"), x.shape[1:], x)
    layer = Layer(x, **given, reset=NO_MEMBRANE, return_state=return_state)
    return _iir_packer(layer)(_call(layer, backend))


def _call(layer: Layer, backend: str | Recurrence | None) -> Sequence[Tensor]:
    """Run a call; return its outputs in the order of ``layer.outputs()``."""
    if isinstance(backend, Recurrence):
        return backend.run(layer, _call)
    device = layer.current.device
    chosen = _dispatch.choose(device, backend, layer)
    if chosen != "reference":
        outputs = autograd.apply(layer, chosen)
        if not torch.compiler.is_compiling():
            _direct.note(chosen, layer, outputs)
        return outputs
    _dispatch.warn_of_the_reference(device, backend, stacklevel=5)  # the call of the caller of lif or iir
    return reference.layer(layer)


def _is_zero(value: Any) -> bool:
    """Tell if a coefficient is the number 0, of which nothing can be learnt."""
    return not isinstance(value, Tensor) and value == 0


def _differentiable(current: Tensor, given: dict) -> bool:
    """Return True if a gradient of the call may be asked for."""
    if not torch.is_grad_enabled():
        return False
    return current.requires_grad or any(isinstance(t, Tensor) and t.requires_grad for t in given.values())


def _state(state: LIFState, synapse: bool, axon: bool) -> LIFState:
    """Return ``state``, checked to have just the parts that the call needs."""
    if not isinstance(state, tuple) or not 2 <= len(state) <= 4:
        raise TypeError(f"state must be a LIFState that an earlier call returned; got {type(state).__name__}")
    state = LIFState(*state)
    for name, part, has in (("synapse", state.synapse, synapse), ("axon", state.axon, axon)):
        if (part is not None) != has:
            wanted = f"a tensor, since the call has a {name}" if has else f"None, since the call has no {name}"
            raise ValueError(f"state.{name} must be {wanted}")
    return state


# Of each filter: a side, its fields of a Layer, and how many coefficients it has at least.
_SIDES = {
    part: tuple(
        (side, f"{part}_{side}", f"{part}_{side}_values", least)
        for side, least in zip(FILTER_SIDES, (0, 1), strict=True)
    )
    for part in FILTERS
}


def _filter(
    part: str,
    coefficients: Sequence,
    state: Tensor | None,
    called: tuple[str, str],
    shape: Sequence[int],
    like: Tensor,
) -> dict:
    """Return a filter's fields of a :class:`Layer`.

    ``called`` holds the prefix of its coefficients and the name of its state, for messages.
    """
    given: dict[str, Any] = {}
    depth = -1
    for value, (side, tensor, values, least) in zip(coefficients, _SIDES[part], strict=True):
        floats = _checks.plain_floats(value)
        if floats is None:
            value, floats = _coefficients_of(called[0] + side, value, shape, like)
        taps = len(value)
        if taps < least:
            raise ValueError(f"{called[0]}{side} must have at least one coefficient; got none")
        if isinstance(value, Tensor):
            given[tensor] = value
        else:
            given[values] = floats
        depth += taps
    if state is not None:
        _checks.state(called[1], state, (depth, *shape), state_dtype(like.dtype), like.device)
        given[f"{part}_state"] = state
    return given


def _coefficients_of(name: str, part: Any, shape: Sequence[int], like: Tensor) -> tuple[Any, list[float]]:
    """Return the coefficients as a tensor of the state dtype and no floats, or as floats twice."""
    dtype = state_dtype(like.dtype)
    if not isinstance(part, Tensor):
        if isinstance(part, str) or not isinstance(part, Sequence):
            raise TypeError(f"{name} must be a tensor or a sequence of coefficients; got {type(part).__name__}")
        compiling = torch.compiler.is_compiling()
        if not any(isinstance(c, Tensor) or (compiling and _checks.varies(c)) for c in part):
            floats = [_checks.number(f"{name}[{i}]", c) for i, c in enumerate(part)]
            return floats, floats
        part = _stack(name, part, shape, like)
    _checks.coefficient(name, part, shape[1:], (like.dtype, dtype), like.device, order=True)
    return part.to(dtype), []


def _stack(name: str, part: Sequence[float | Tensor], shape: Sequence[int], like: Tensor) -> Tensor:
    """Stack coefficients, some of which are tensors, to one tensor."""
    dtype = state_dtype(like.dtype)
    tensors = []
    for i, c in enumerate(part):
        if isinstance(c, Tensor):
            _checks.coefficient(f"{name}[{i}]", c, shape[1:], (like.dtype, dtype), like.device)
            tensors.append(c.to(dtype))
        elif torch.compiler.is_compiling() and _checks.varies(c):
            tensors.append(_checks.as_tensor(_checks.number(f"{name}[{i}]", c), dtype, like.device))
        else:
            tensors.append(torch.tensor(_checks.number(f"{name}[{i}]", c), dtype=dtype, device=like.device))
    return torch.stack(torch.broadcast_tensors(*tensors))
