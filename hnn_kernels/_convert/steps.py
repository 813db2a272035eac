"""Neurons by definition whose steps have options, each defined once; and the surrogates of other libraries.

A step is written in the order of its library's operations, so the spikes of its kernel are the library's bit for bit,
but for functions such as an exponential that two programs may round apart.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .._define.fire import fire
from .._define.layer import Neuron
from ..state import state_dtype
from .rules import coefficients_of

_DEFINED: dict[tuple, Neuron] = {}

# The name of a surrogate with its numbers: (name, width, scale) of hnn_kernels.SURROGATES, the same of "relative", or
# one of _SLOPES.
Shape = tuple


class Defined(NamedTuple):
    """A call of a neuron by definition.

    Attributes:
        neuron: the neuron.
        coefficients: its coefficients as floats and tensors.
        axis: the axis of a step's input along which tensors of one axis lie; None for the last one.
    """

    neuron: Neuron
    coefficients: Mapping[str, Any]
    axis: int | None = None


def run(
    given: Defined, x: Tensor, states: Sequence[Tensor], steps: int | None = None
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return the outputs of a neuron and the states after them; ``states`` have any floating dtype.

    With ``steps`` the input is constant in time, without the axis of time.
    """
    shape = x.shape[1:] if steps is None else x.shape
    dtype = state_dtype(x.dtype)
    before = [as_state(state, shape, dtype, x.device) for state in states]
    out, after = given.neuron(x, state=before, steps=steps, **coefficients_of(given, x))
    assert after is not None
    return out if isinstance(out, tuple) else (out,), after


def as_state(state: Tensor, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a state with this shape and dtype: itself where it has them, since each operation takes its time."""
    if state.dtype is dtype and state.shape == shape and state.device == device:
        return state
    return state.to(device, dtype).expand(shape)


def without_time(train: Tensor) -> Tensor:
    """Return the only step of a train.

    It is no view for autograd, so that it can be detached in place, as can what the libraries return and keep.
    """
    return torch.ops.aten._unsafe_view.default(train, train.shape[1:])


def defined(make: Callable[..., Neuron], *options: Any) -> Neuron:
    """Return the neuron that ``make`` defines with these options."""
    key = (make, *options)
    found = _DEFINED.get(key)
    if found is None:
        found = _DEFINED[key] = make(*options)
    return found


def _normal(x: Any, mean: float, sigma: float) -> Any:
    return torch.exp(-((x - mean) ** 2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))


def _window(v, threshold, width):
    return torch.where(v >= threshold - width, 1 / threshold, 0.0)


def _shifted_gaussian(v, threshold, mean, sigma, scale):
    return _normal(v - threshold, mean, sigma) * scale


def _multi_gaussian(v, threshold, mean, sigma, height, wide, scale):
    x = v - threshold
    sides = _normal(x, sigma, wide * sigma) + _normal(x, -sigma, wide * sigma)
    return ((1 + height) * _normal(x, mean, sigma) - height * sides) * scale


def _periodic(v, threshold, width, scale):
    # Above the threshold the distance counts twice: from one peak to the next it goes down to -threshold.
    turned = v / threshold - 0.5
    above = threshold * (2 * (turned - torch.floor(turned)) - 1)
    distance = torch.where(v < threshold, v - threshold, above)
    return scale * torch.exp(-torch.abs(distance) / width)


# Derivatives of a spike by V that the built-in surrogates have not, as functions of V, the threshold and numbers.
_SLOPES: dict[str, Callable] = {
    "window": _window,
    "shifted gaussian": _shifted_gaussian,
    "multi gaussian": _multi_gaussian,
    "periodic": _periodic,
}


def with_slope(value: Any, v: Any, threshold: Any, shape: Shape, tie_fires: bool = True) -> Any:
    """Return ``value``, which has no gradient, with the derivative by ``v`` of a spike at the threshold.

    The threshold, which is above 0, gets no gradient.
    """
    name, *numbers = shape
    level = threshold.detach()
    if name in _SLOPES:
        return value + _SLOPES[name](v, level, *numbers).detach() * (v - v.detach())
    # The width of "relative" is in units of the threshold.
    distance, name = ((v - level) / level, "exponential") if name == "relative" else (v - level, name)
    spike = fire(distance, name, numbers[0], scale=numbers[1], tie_fires=tie_fires)
    return spike + (value - spike).detach()
