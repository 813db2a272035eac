"""The spike of a step: 1 from the threshold on, with a surrogate for its derivative."""

from types import SimpleNamespace
from typing import Any

from torch import Tensor

from .. import _checks
from .._generate.expressions import SYMBOLS, Expression
from ..reference import _spike
from ..surrogates import SURROGATES
from .symbols import Symbol, refuse, value

_NAMES = tuple(SURROGATES)
# Here the width is a number, so that a choice may have two numbers, which are written in the type of a vector.
_MATH = SimpleNamespace(**vars(SYMBOLS) | {"where": lambda *operands: Expression("where", operands)})
# True while the reference runs a step in smooth mode: the step's own signature has no place for it.
_smooth = False


def set_smooth(smooth: bool) -> bool:
    """Let :func:`fire` take tensors in smooth mode or not; return what was."""
    global _smooth
    before, _smooth = _smooth, smooth
    return before


def fire(distance: Any, surrogate: str = "gaussian", sigma: float = 0.4) -> Any:
    """Return the spikes of a step: 1 where ``distance`` is at least 0, else 0. It is for a :func:`hnn_kernels.neuron`.

    The derivative is that of the surrogate, ``P'(distance)``. Where the layer is called with ``smooth=True`` the value
    is ``P(distance)``, whose derivative that is.

    Args:
        distance: the distance to the threshold, such as ``v - threshold``, in the units of the input.
        surrogate: a name in :data:`hnn_kernels.SURROGATES`.
        sigma: the width of the surrogate in the same units; above 0.

    Returns:
        The spikes, in the shape and dtype of ``distance``.

    Raises:
        TypeError: ``distance`` is neither a tensor nor what a step is traced with, or ``sigma`` is no number.
        ValueError: a name that is no surrogate's, or a ``sigma`` that is not above 0.
    """
    _checks.option("surrogate", surrogate, SURROGATES)
    if isinstance(sigma, Symbol):
        refuse("sigma must be a number: no gradient is taken of it")
    sigma = _checks.number("sigma", sigma, positive=True)
    if isinstance(distance, Symbol):
        return Symbol(Expression("fire", (value(distance), sigma, SURROGATES[surrogate].number)))
    if not isinstance(distance, Tensor):
        raise TypeError(f"distance must be a tensor; got {type(distance).__name__}")
    if _smooth:
        return SURROGATES[surrogate].primitive(distance, sigma)
    return _spike(distance, distance >= 0, sigma, None, SURROGATES[surrogate].number)


def slope(fired: Expression) -> Expression:
    """Return the derivative of a ``"fire"`` by its distance."""
    distance, sigma, number = fired.operands
    return SURROGATES[_NAMES[int(number)]].p_prime(distance, 1 / sigma, _MATH)  # type: ignore[arg-type]


def spikes(fired: Expression, smooth: bool) -> Expression:
    """Return the value of a ``"fire"``."""
    distance, sigma, number = fired.operands
    if smooth:
        return SURROGATES[_NAMES[int(number)]].p(distance, 1 / sigma, _MATH)  # type: ignore[arg-type]
    # a - b >= 0 is a >= b for numbers: their difference is 0 only where they are equal.
    subtracted = isinstance(distance, Expression) and distance.operation == "-"
    a, b = distance.operands if subtracted else (distance, 0.0)  # type: ignore[union-attr]
    return Expression("where", (Expression(">=", (a, b)), 1, 0))
