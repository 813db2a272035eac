"""Codings: how a continuous value becomes a train in time (Muramatsu & Yu 2021, section 3.2)."""

from torch import Tensor

from . import checks


def encode_duplicate(value: Tensor, steps: int) -> Tensor:
    """Duplicate coding: the value itself at every step, ``O[t] = value`` (section 3.2.1).

    Args:
        value: ``[B, *features]``, any supported floating dtype.
        steps: T, at least 0.

    Returns:
        ``[steps, B, *features]``, a view of ``value`` that takes no memory. A layer that takes a constant current
        (``lif(value, ..., steps=T)``) needs no such view: it reads the value once.

    Raises:
        TypeError, ValueError: ``value`` is not a floating tensor, or ``steps`` is not an int of at least 0.
    """
    checks.floating("value", value)
    checks.steps_count("steps", steps)
    return value.expand(steps, *value.shape)
