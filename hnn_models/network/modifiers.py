"""The modifiers that a token of the architecture notation may have behind its numbers.

A modifier is a lower-case letter, with a number where it needs one: ``A64C3p1n`` has the modifiers ``p1`` and ``n``.
Their order does not matter. A class of tokens names the letters that it takes.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

DIGITS = 9  # a 32-bit integer holds every number of nine digits
_ONE = re.compile("([a-z])([0-9]*)", re.ASCII)


class Modifier(NamedTuple):
    """One modifier.

    Attributes:
        field: the field of :class:`hnn_models.network.tokens.Token` that it sets.
        example: the modifier as it is written.
        meaning: a few words for messages.
        least, most: the range of its number; both 0 for a modifier without a number.
    """

    field: str
    example: str
    meaning: str
    least: int = 0
    most: int = 0

    def __str__(self) -> str:
        return f"{self.example} ({self.meaning})"


MODIFIERS: Mapping[str, Modifier] = {
    "p": Modifier("padding", "p1", "padding", 1, 10**DIGITS - 1),
    "s": Modifier("stride", "s2", "stride", 1, 10**DIGITS - 1),
    "a": Modifier("average", "a", "the average in place of the maximum"),
    "n": Modifier("norm", "n", "batch norm"),
    "d": Modifier("dropout", "d20", "dropout of 20 %", 1, 99),
}


def taken_apart(word: str) -> tuple[str, str]:
    """The token ``word`` as its numbers and its modifiers, such as ``A64C3`` and ``p1n``."""
    found = re.fullmatch(r"(.*?)((?:[a-z][0-9]*)*)", word, re.ASCII | re.DOTALL)
    assert found is not None
    return found[1], found[2]


def fields(text: str, allowed: str, kind: str, error: Callable[[str], Exception]) -> dict[str, Any]:
    """The fields that modifiers set.

    Args:
        text: the modifiers, such as ``p1n``.
        allowed: the letters that the kind of token takes.
        kind: the kind of token, for messages.
        error: makes the error of a problem.

    Raises:
        NotationError: a modifier is unknown or not allowed, lacks a number, has one too many or out of range, or comes
            twice.
    """
    found: dict[str, Any] = {}
    for one in _ONE.finditer(text):
        letter, digits = one.groups()
        known = MODIFIERS.get(letter)
        if known is None or letter not in allowed:
            takes = ", ".join(str(MODIFIERS[one]) for one in allowed)
            raise error(f"{one[0]!r} is no modifier of a {kind} token, which takes {takes}")
        if known.field in found:
            raise error(f"{letter!r} comes twice")
        if bool(digits) != bool(known.most):
            needs = f"a number, such as {known.example}" if known.most else "no number"
            raise error(f"{one[0]!r} ({known.meaning}) takes {needs}")
        if len(digits) > DIGITS or (digits and not known.least <= int(digits) <= known.most):
            raise error(f"{one[0]!r} ({known.meaning}) must have a number from {known.least} to {known.most}")
        found[known.field] = int(digits) if digits else True
    return found
