"""Numbers as users have them (NumPy's, those of JSON and YAML) made plain ones, which checkpoints can hold."""

from numbers import Integral, Real


def whole(name: str, value: object, least: int, below: float = float("inf")) -> int:
    """``value`` as an int, if it is a whole number of at least ``least`` and below ``below``; a float is none.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, Integral) and not isinstance(value, bool) and least <= int(value) < below:
        return int(value)
    most = "" if below == float("inf") else f" and below {below}"
    raise ValueError(f"{name} must be an int of at least {least}{most}; got {value!r}")


def real(value: object, low: float, high: float) -> float | None:
    """``value`` as a float, if it is a real number in [``low``, ``high``), else None."""
    if isinstance(value, Real) and not isinstance(value, bool) and low <= float(value) < high:
        return float(value)
    return None
