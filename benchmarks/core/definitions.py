"""Neurons by definition that the suite measures: a step of each, for the kernels, loops and other libraries alike."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import hnn_kernels

# From the distance to the threshold, a tensor or a symbol, to the spikes, with the surrogate's derivative.
Fire = Callable[[Any], Any]


class Definition(NamedTuple):
    """A neuron.

    Attributes:
        states: the names of its states.
        step: a function of ``fire`` that makes the step, from the input and the states to the spikes and the states
            after the step. It holds no tensor.
        surrogate, width: those of ``fire``.
    """

    states: tuple[str, ...]
    step: Callable[[Fire], Callable[..., tuple[Any, tuple[Any, ...]]]]
    surrogate: str
    width: float


def _lif(fire: Fire) -> Callable[..., tuple[Any, tuple[Any, ...]]]:
    """The built-in layer with a reset filter, with the coefficients of ``Dynamics()``."""

    def lif(x, v, r):
        v = 0.7 * v + x - r
        spike = fire(v - 1.0)
        return spike, (v, 0.7 * r + spike)

    return lif


def _adaptive(fire: Fire) -> Callable[..., tuple[Any, tuple[Any, ...]]]:
    """A user's neuron: each spike raises the threshold of the steps behind it."""

    def adaptive(x, v, a):
        v = 0.9 * v + x
        spike = fire(v - (1.0 + 0.2 * a))
        return spike, (v - spike, 0.95 * a + spike)

    return adaptive


DEFINITIONS: Mapping[str, Definition] = {
    "lif": Definition(("v", "r"), _lif, "gaussian", 0.4),
    "adaptive": Definition(("v", "a"), _adaptive, "arctan", 0.3),
}


def _layer(definition: Definition) -> Any:
    def fire(distance):
        return hnn_kernels.fire(distance, definition.surrogate, definition.width)

    return hnn_kernels.neuron(definition.states)(definition.step(fire))


# The layers, made as a user makes them.
LAYERS: Mapping[str, Any] = {name: _layer(definition) for name, definition in DEFINITIONS.items()}
