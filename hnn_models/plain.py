"""Plain values, as a checkpoint can hold them, from those that users have: NumPy's, or those of JSON and YAML."""

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """A number or an array of NumPy as Python's number or list; anything else as it is."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def whole(name: str, value: object, least: int, below: float = math.inf) -> int:
    """``value`` as an int. It must be an integer of Python or NumPy.

    Raises:
        ValueError: it is not, is less than ``least``, or is not below ``below``.
    """
    if isinstance(value, Integral) and not isinstance(value, bool) and least <= int(value) < below:
        return int(value)
    most = "" if below == math.inf else f" and below {below}"
    raise ValueError(f"{name} must be an int of at least {least}{most}; got {shown(value)}")


def real(value: object, low: float, high: float) -> float | None:
    """``value`` as a float, if it is a real number of Python or NumPy in [``low``, ``high``); else None."""
    if isinstance(value, Real) and not isinstance(value, bool) and low <= float(value) < high:
        return float(value)
    return None


def one_of(name: str, value: object, allowed: Iterable[str]) -> str:
    """``value``, one of the names ``allowed``, as a plain str.

    Raises:
        ValueError: it is not one of them.
    """
    if isinstance(value, str) and value in tuple(allowed):
        return str(value)
    raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}")


def shown(value: object) -> str:
    """``value`` for a message. YAML reads 1e-3, without a point, as text; a text that is a number is marked as one."""
    for number in (int, float):
        try:
            return f"the text {value!r}; write the number {number(value)!r}" if isinstance(value, str) else repr(value)
        except ValueError:
            continue
    return repr(value)
