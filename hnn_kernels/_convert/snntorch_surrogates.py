"""The surrogates of snnTorch 1.x: functions inside of functions, which are known by what they close over."""

import functools
import math
import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any

from .rules import constant_in_graphs
from .steps import Shape

# By the function that makes it, from its arguments: the shape of a surrogate.
SURROGATES: dict[str, Callable[..., Shape]] = {
    "atan": lambda alpha: ("arctan", 2 / (math.pi * alpha), 1.0),
    "fast_sigmoid": lambda slope: ("fast_sigmoid", 1 / slope, 2 / slope),  # its peak is 1, whatever the slope
    "sigmoid": lambda slope: ("sigmoid", 1 / slope, 1.0),
    "straight_through_estimator": lambda: ("straight",),
    "heaviside": lambda: ("fired",),
    "triangular": lambda threshold: ("two levels", threshold),
    "spike_rate_escape": lambda beta, slope: ("escape", beta, slope),
    "SFS": lambda slope, B: ("sparse", slope, B),  # noqa: N803
}
# Those that have one over their argument.
_DIVIDED = ("atan", "fast_sigmoid", "sigmoid")


# A compiler cannot look into a closure. Its graph is made anew where spike_grad is another one.
@constant_in_graphs
def shape_of(function: Any) -> Shape | None:
    """Return the shape of a surrogate of snnTorch; None where it is not known."""
    return _known(function) if isinstance(function, FunctionType) else None


@functools.lru_cache(256)
def _known(function: FunctionType) -> Shape | None:
    if function is sys.modules["snntorch"].SpikingNeuron._surrogate_bypass:
        return ("none",)
    made = getattr(function, "__qualname__", "").removesuffix(".<locals>.inner")
    if getattr(function, "__module__", "") != "snntorch.surrogate" or made not in SURROGATES:
        return None
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    if not all(isinstance(value, int | float) for value in cells):
        return None
    given = dict(zip(function.__code__.co_freevars, map(float, cells), strict=True))
    if made in _DIVIDED and not min(given.values()) > 0:
        return None
    return SURROGATES[made](**given)
