"""The spike of a step: 1 from the threshold on, with a surrogate for its derivative."""

from types import SimpleNamespace
from typing import Any

from torch import Tensor

from .. import _checks
from .._generate.expressions import SYMBOLS, Expression
from ..reference import _spike
from ..surrogates import SURROGATES, Extent
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


def fire(
    distance: Any,
    surrogate: str = "gaussian",
    sigma: float = 0.4,
    *,
    scale: float = 1.0,
    period: float = 1.0,
    tie_fires: bool = True,
) -> Any:
    """Return the spikes of a step: 1 where ``distance`` is at least 0, else 0. It is for a :func:`hnn_kernels.neuron`.

    The derivative is that of the surrogate, ``scale * P'(distance)``. Where the layer is called with ``smooth=True``
    the value is ``scale * P(distance)``, whose derivative that is.

    Args:
        distance: the distance to the threshold, such as ``v - threshold``, in the units of the input.
        surrogate: a name in :data:`hnn_kernels.SURROGATES`.
        sigma: the width of the surrogate in the same units; above 0.
        scale: the factor of the surrogate; above 0.
        period: the distance from one peak of a periodic surrogate to the next, which is the threshold; above 0.
        tie_fires: False to spike above 0 alone, and not at 0.

    Returns:
        The spikes, in the shape and dtype of ``distance``.

    Raises:
        TypeError: ``distance`` is neither a tensor nor what a step is traced with, or ``sigma``, ``scale`` or
            ``period`` is no number.
        ValueError: a name that is no surrogate's, or a ``sigma``, ``scale`` or ``period`` that is not above 0.
    """
    _checks.option("surrogate", surrogate, SURROGATES)
    for name, given in (("sigma", sigma), ("scale", scale), ("period", period)):
        if isinstance(given, Symbol):
            refuse(f"{name} must be a number: no gradient is taken of it")
        _checks.number(name, given, positive=True)
    tie_fires = _checks.flag("tie_fires", tie_fires)
    number = SURROGATES[surrogate].number
    if isinstance(distance, Symbol):
        return Symbol(Expression("fire", (value(distance), sigma, scale, period, number, tie_fires)))
    if not isinstance(distance, Tensor):
        raise TypeError(f"distance must be a tensor; got {type(distance).__name__}")
    if _smooth:
        return SURROGATES[surrogate].primitive(distance, sigma, scale, period)
    fires = distance >= 0 if tie_fires else distance > 0
    return _spike(distance, fires, distance.new_full((), period), sigma, scale, None, number)


def _extent(sigma: Any, scale: Any, period: Any) -> Extent:
    return Extent(1 / sigma, scale / sigma, period)


def slope(fired: Expression) -> Expression:
    """Return the derivative of a ``"fire"`` by its distance."""
    distance, *size, number, _ = fired.operands
    return SURROGATES[_NAMES[int(number)]].p_prime(distance, _extent(*size), _MATH)  # type: ignore[arg-type]


def spikes(fired: Expression, smooth: bool) -> Expression:
    """Return the value of a ``"fire"``."""
    distance, *size, number, tie_fires = fired.operands
    if smooth:
        scale = size[1]
        primitive = SURROGATES[_NAMES[int(number)]].p(distance, _extent(*size), _MATH)  # type: ignore[arg-type]
        return primitive if scale == 1 else scale * primitive
    # a - b >= 0 is a >= b for numbers: their difference is 0 only where they are equal.
    subtracted = isinstance(distance, Expression) and distance.operation == "-"
    a, b = distance.operands if subtracted else (distance, 0.0)  # type: ignore[union-attr]
    return Expression("where", (Expression(">=" if tie_fires else ">", (a, b)), 1, 0))
