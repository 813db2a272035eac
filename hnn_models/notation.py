"""The paper's notation for architectures: ``A784-A500-S10``, one token per layer with weights."""

import re
from typing import NamedTuple

_DENSE = re.compile(r"([AS])([0-9]+)")
_CONVOLUTION_OR_POOL = re.compile(r"[AS][0-9]+C[0-9]+|P[0-9]+")


class NotationError(ValueError):
    """An architecture that cannot be built; the message marks the place with a line of carets."""

    def __init__(self, problem: str, text: str, start: int, length: int) -> None:
        super().__init__(f"{problem}\n  {text}\n  {' ' * start}{'^' * max(length, 1)}")


class Dense(NamedTuple):
    """A dense layer of ``size`` neurons: spiking (``S500``) or artificial (``A500``)."""

    spiking: bool
    size: int


def parse(text: str, *, classes: int | None = None) -> tuple[Dense, ...]:
    """The layers of an architecture, input side first.

    Args:
        text: tokens joined by ``-``. ``A500`` is a dense layer of 500 artificial neurons, ``S500`` one of 500 spiking
            neurons; all artificial layers come before all spiking ones.
        classes: where given, the size that the last layer must have.

    Raises:
        TypeError: ``text`` is not a string.
        NotationError: it is not an architecture.
    """
    if not isinstance(text, str):
        raise TypeError(f"architecture must be a string such as 'A784-A500-S10'; got {type(text).__name__}")
    layers: list[Dense] = []
    start = 0
    for token in text.split("-"):
        layers.append(_layer(token, text, start, after_spiking=bool(layers) and layers[-1].spiking))
        start += len(token) + 1
    if classes is not None and layers[-1].size != classes:
        raise NotationError(
            f"the last layer needs one neuron per class, {classes}; got {layers[-1].size}",
            text,
            start - 1 - len(token),
            len(token),
        )
    return tuple(layers)


def _layer(token: str, text: str, start: int, *, after_spiking: bool) -> Dense:
    """The layer that ``token``, found at ``text[start:]``, stands for."""

    def error(problem: str) -> NotationError:
        return NotationError(problem, text, start, len(token))

    if not token:
        raise error("a layer is missing here; an architecture looks like A784-A500-S10")
    if _CONVOLUTION_OR_POOL.fullmatch(token):
        raise error(f"{token!r}: convolution and pooling are not supported yet; dense layers (A500, S500) are")
    match = _DENSE.fullmatch(token)
    if match is None:
        raise error(f"{token!r} is not a layer; a layer is A or S and its number of neurons, such as A500 or S10")
    layer = Dense(spiking=match[1] == "S", size=int(match[2]))
    if layer.size == 0:
        raise error(f"{token!r}: a layer needs at least one neuron")
    if after_spiking and not layer.spiking:
        raise error(f"{token!r}: an artificial layer cannot follow a spiking one; all A come before all S")
    return layer
