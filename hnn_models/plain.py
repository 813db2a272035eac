"""Plain values, as a checkpoint can hold them, from those that users have: NumPy's, or those of JSON and YAML.

JSON makes a float of ``1e2``, and YAML 1.1 a text of ``1e-3``. So an option takes every form in which its value can be
written exactly: an int option takes the float 100.0, and both kinds take a text that is a decimal number.
"""

import math
import re
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np

_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_EXACT = 2**53  # up to here a float holds every whole number


def plain(value: Any) -> Any:
    """A number or an array of NumPy as Python's number or list; anything else as it is."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def number(value: Any) -> int | float | None:
    """The number that ``value`` is, as Python's own; None if it is none. A bool is no number."""
    value = plain(value)
    if isinstance(value, str) and len(value) < 400 and _DECIMAL.fullmatch(value):
        return int(value) if value.lstrip("+-").isdigit() else float(value)
    if isinstance(value, bool):
        return None
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else None


def numbers(value: Any) -> Any:
    """``value`` with plain numbers for those of NumPy and for texts, also in its lists and tuples."""
    value = plain(value)
    if isinstance(value, list | tuple):
        found = [numbers(one) for one in value]
        return found if isinstance(value, list) else tuple(found)
    only = number(value)
    return value if only is None else only


def whole(name: str, value: Any, least: int, below: float = math.inf) -> int:
    """``value`` as an int: a whole number in any form that :func:`number` takes.

    Raises:
        ValueError: it is none, is less than ``least``, or is not below ``below``.
    """
    found = number(value)
    if isinstance(found, float) and found.is_integer() and abs(found) <= _EXACT:
        found = int(found)
    if isinstance(found, int) and least <= found < below:
        return found
    most = "" if below == math.inf else f" and below {below}"
    raise ValueError(f"{name} must be an int of at least {least}{most}; got {value!r}")


def real(value: Any, low: float, high: float) -> float | None:
    """``value`` as a float, if :func:`number` takes it and it is in [``low``, ``high``); else None."""
    found = number(value)
    return float(found) if found is not None and low <= found < high and math.isfinite(found) else None


def flag(name: str, value: Any) -> bool:
    """``value``, a bool of Python or NumPy, as Python's.

    Raises:
        ValueError: it is none. A text is none, since every text that is not empty counts as true.
    """
    found = plain(value)
    if isinstance(found, bool):
        return found
    raise ValueError(f"{name} must be True or False; got {value!r}")


def one_of(name: str, value: object, allowed: Iterable[str]) -> str:
    """``value``, one of the names ``allowed``, as a plain str.

    Raises:
        ValueError: it is not one of them.
    """
    if isinstance(value, str) and value in tuple(allowed):
        return str(value)
    raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}")
