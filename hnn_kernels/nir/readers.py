"""From a node of NIR to a module: one function for each class, in :data:`READERS`."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from .. import filters
from ..nn import IIR, LIF, EachStep
from . import equations
from .draft import OURS
from .equations import Filter, Time, Values
from .network import Rest, Scale, SumPool2d, as_coefficient, shape_behind


class Reading(NamedTuple):
    """The way to read nodes: the steps, the reset of all neurons with its decay, and options of LIF.

    A ``reset`` of None is each node's own.
    """

    time: Time
    reset: str | None
    reset_decay: float | None
    options: dict[str, Any]


Shape = tuple[int, ...]
Reader = Callable[[Reading, Any, Shape], tuple[nn.Module, Shape]]


def read(reading: Reading, name: str, node: Any, shape: Shape) -> tuple[nn.Module, Shape]:
    """Return the module of a node, and the shape of the features behind it.

    Args:
        reading: how to read.
        name: the node's name, for errors.
        node: the node.
        shape: the features' shape in front of it.

    Raises:
        NotImplementedError: there is no module for this class.
        ValueError: the node's values are not allowed, or do not fit the features.
    """
    kind = type(node).__name__
    reader = READERS.get(kind)
    if reader is None:
        raise NotImplementedError(f"node {name!r} is a {kind}; allowed are {sorted(READERS)}, Input and Output")
    try:
        return reader(reading, node, shape)
    except ValueError as error:
        raise ValueError(f"node {name!r}, a {kind}: {error}") from error


# -- neurons and filters ---------------------------------------------------------------------------------------------


def _neuron(reading: Reading, node: Any, shape: Shape) -> tuple[nn.Module, Shape]:
    """IF, LIF and CubaLIF."""
    threshold, v_reset = _values(node, "v_threshold", shape), _values(node, "v_reset", shape)
    kind, ours = type(node).__name__, _metadata(node)
    rest: Values = v_reset if kind == "IF" else _values(node, "v_leak", shape)
    decay, gain = _membrane(node, reading.time, shape)
    options: dict[str, Any] = {"tie_fires": bool(ours.get("tie_fires", False))} | reading.options
    reset = reading.reset or _text(ours.get("reset", "zero"))
    if reset == "zero":
        options["reset_potential"] = as_coefficient(v_reset - rest)
    elif np.any(v_reset) or np.any(rest):
        raise ValueError(f"v_reset and v_leak must be 0 with reset={reset!r}: the threshold is taken off")
    elif reading.reset_decay is not None:
        options["reset_decay"] = reading.reset_decay
    elif reset == "filter":
        made = float(ours["dt"])
        if not np.isclose(made, reading.time.dt):
            raise ValueError(f"dt must be {made:g}, whose steps its reset filter counts; got {reading.time.dt:g}")
        options["reset_decay"] = as_coefficient(_spread("reset_decay", ours["reset_decay"], shape))
    elif reset != "subtract":
        raise ValueError(f"its reset must be 'zero', 'subtract' or 'filter'; got {reset!r}")
    synapse = None
    if kind == "CubaLIF":
        step = _synapse(node, reading.time, shape)
        synapse = filters.IIR((as_coefficient(step.decay),), (_gain(node, step.gain * gain),))
    else:
        factor = _gain(node, gain)
        if isinstance(factor, torch.Tensor) or factor != 1:
            synapse = filters.IIR((), (factor,))
    options = {"reset_decay": None} | options
    module = LIF(
        as_coefficient(decay), threshold=as_coefficient(threshold - rest), synapse=synapse, reset=reset, **options
    )
    return module, shape


def _potential(reading: Reading, node: Any, shape: Shape) -> tuple[nn.Module, Shape]:
    """I, LI and CubaLI."""
    decay, gain = _membrane(node, reading.time, shape)
    module: Any
    if type(node).__name__ == "CubaLI":
        step = _synapse(node, reading.time, shape)
        synapse = filters.IIR((as_coefficient(step.decay),), (_gain(node, step.gain * gain),))
        backend = reading.options.get("backend")
        module = LIF(
            as_coefficient(decay), synapse=synapse, reset="none", readout="none", potential="train", backend=backend
        )
    else:
        module = IIR((as_coefficient(decay),), (_gain(node, gain),), backend=reading.options.get("backend"))
    rest = _values(node, "v_leak", shape) if hasattr(node, "v_leak") else np.zeros(())
    return (Rest(module, as_coefficient(rest)) if np.any(rest) else module), shape


def _threshold(reading: Reading, node: Any, shape: Shape) -> tuple[nn.Module, Shape]:
    """A Threshold: neurons that keep nothing from step to step."""
    options = {"tie_fires": bool(_metadata(node).get("tie_fires", False))} | reading.options
    return LIF(0.0, None, as_coefficient(_values(node, "threshold", shape)), reset="none", **options), shape


def _delay(reading: Reading, node: Any, shape: Shape) -> tuple[nn.Module, Shape]:
    """A delay of whole steps: a filter that weighs one earlier input."""
    dt = reading.time.dt
    delay = _values(node, "delay", shape) / dt
    steps = np.rint(delay).astype(int)
    if (np.abs(delay - steps) > 1e-3).any() or (steps < 0).any():
        raise ValueError(f"delay must be a whole number of steps of dt = {dt:g}; got {delay.flat[0]:g} steps")
    taps = [as_coefficient((steps == number).astype(float)) for number in range(int(steps.max()) + 1)]
    return IIR((), taps, backend=reading.options.get("backend")), shape


def _scale(reading: Reading, node: Any, shape: Shape) -> tuple[nn.Module, Shape]:
    return Scale(as_coefficient(_values(node, "scale", shape))), shape


def _membrane(node: Any, time: Time, shape: Shape) -> Filter:
    r = _values(node, "r", shape)
    if type(node).__name__ in ("I", "IF"):
        return equations.from_integral(r, time)
    return equations.from_leak(_values(node, "tau" if hasattr(node, "tau") else "tau_mem", shape), r, time)


def _synapse(node: Any, time: Time, shape: Shape) -> Filter:
    return equations.from_leak(_values(node, "tau_syn", shape), _values(node, "w_in", shape), time)


def _gain(node: Any, gain: Values) -> Any:
    """Return the gain of an input, which is 1 where it was meant to be."""
    return 1.0 if equations.is_one(gain, _numpy(node.r).dtype) else as_coefficient(gain)


# -- weights, windows and shapes -------------------------------------------------------------------------------------


def _linear(reading: Reading, node: Any, shape: Shape) -> tuple[nn.Module, Shape]:
    weight = _numpy(node.weight)
    if weight.ndim != 2:
        raise ValueError(f"weight must have two axes; got shape {weight.shape}")
    if shape != weight.shape[1:]:
        raise ValueError(f"its input must have the shape {weight.shape[1:]}; got {shape}")
    bias = getattr(node, "bias", None)
    module = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    return _with_weights(module, weight, bias), weight.shape[:1]


def _conv(reading: Reading, node: Any, shape: Shape) -> tuple[nn.Module, Shape]:
    weight, kind = _numpy(node.weight), type(node).__name__
    axes, cls = (1, nn.Conv1d) if kind == "Conv1d" else (2, nn.Conv2d)
    groups = int(node.groups)
    if weight.ndim != axes + 2 or len(shape) != axes + 1 or shape[0] != weight.shape[1] * groups:
        raise ValueError(f"its input must have {weight.shape[1] * groups} channels and {axes} more axes; got {shape}")
    options = {name: _numbers(getattr(node, name), axes) for name in ("stride", "padding", "dilation")}
    module = cls(
        shape[0], weight.shape[0], weight.shape[2:], groups=groups, bias=node.bias is not None, device="meta", **options
    )
    module = _with_weights(module, weight, node.bias)
    return EachStep(module), shape_behind(module, shape)


def _pool(reading: Reading, node: Any, shape: Shape) -> tuple[nn.Module, Shape]:
    if len(shape) != 3:
        raise ValueError(f"its input must have the shape (channels, height, width); got {shape}")
    cls = nn.AvgPool2d if type(node).__name__ == "AvgPool2d" else SumPool2d
    module = cls(*(_numbers(getattr(node, name), 2) for name in ("kernel_size", "stride", "padding")))
    return EachStep(module), shape_behind(module, shape)


def _flatten(reading: Reading, node: Any, shape: Shape) -> tuple[nn.Module, Shape]:
    first, last = (int(axis) + (len(shape) if axis < 0 else 0) for axis in (node.start_dim, node.end_dim))
    if not 0 <= first <= last < len(shape):
        raise ValueError(f"it must flatten axes of its input {shape}; got {node.start_dim} to {node.end_dim}")
    module = nn.Flatten(first + 2, last + 2)
    return module, (*shape[:first], int(np.prod(shape[first : last + 1])), *shape[last + 1 :])


READERS: dict[str, Reader] = {
    "Affine": _linear,
    "AvgPool2d": _pool,
    "Conv1d": _conv,
    "Conv2d": _conv,
    "CubaLI": _potential,
    "CubaLIF": _neuron,
    "Delay": _delay,
    "Flatten": _flatten,
    "I": _potential,
    "IF": _neuron,
    "LI": _potential,
    "LIF": _neuron,
    "Linear": _linear,
    "Scale": _scale,
    "SumPool2d": _pool,
    "Threshold": _threshold,
}


def _numpy(value: Any) -> np.ndarray:
    # Norse, sinabs and snnTorch write tensors into the nodes.
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def _values(node: Any, name: str, shape: Shape) -> Values:
    """Return a node's values, of the features' shape, as float64."""
    return _spread(name, getattr(node, name), shape)


def _spread(name: str, value: Any, shape: Shape) -> Values:
    values = _numpy(value).astype(np.float64)
    if values.size == 1:  # one for all, which snnTorch and Norse write
        values = values.reshape(())
    try:
        return np.broadcast_to(values, shape)
    except ValueError:
        raise ValueError(f"{name} must have the shape {shape} of its input; got {values.shape}") from None


def _metadata(node: Any) -> Mapping[str, Any]:
    found = (getattr(node, "metadata", None) or {}).get(OURS, {})
    return found if isinstance(found, Mapping) else {}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _numbers(value: Any, axes: int) -> Any:
    """Return a text, such as the padding "same", or a whole number for each axis."""
    if isinstance(value, str | bytes):
        return _text(value)
    values = [int(number) for number in np.atleast_1d(_numpy(value))]
    return tuple(values * axes if len(values) == 1 else values)


def _with_weights(module: Any, weight: np.ndarray, bias: Any) -> Any:
    dtype = torch.get_default_dtype()
    module.weight = nn.Parameter(torch.tensor(weight, dtype=dtype))
    if bias is not None:
        module.bias = nn.Parameter(torch.tensor(_numpy(bias), dtype=dtype))
    return module
