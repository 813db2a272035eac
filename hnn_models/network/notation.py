"""The paper's notation for architectures: ``A32C3-P2-S500-S10``, one token per layer, and the shapes it gives."""

import re
from collections.abc import Sequence
from typing import NamedTuple

_TOKEN = re.compile(r"(?P<part>[AS])(?P<size>[0-9]+)(C(?P<kernel>[0-9]+))?|P(?P<window>[0-9]+)")

Shape = tuple[int, ...]


class NotationError(ValueError):
    """An architecture that cannot be built; the message marks the place with a line of carets."""

    def __init__(self, problem: str, text: str, start: int, length: int) -> None:
        super().__init__(f"{problem}\n  {text}\n  {' ' * start}{'^' * max(length, 1)}")


class Layer(NamedTuple):
    """One token of an architecture.

    Attributes:
        kind: ``"dense"``, ``"convolution"`` (stride 1, no padding) or ``"pool"`` (maximum, stride = window; what is
            left over at the edge is dropped, as in the paper's 11 -> 5).
        spiking: whether the layer belongs to the spiking part. A pool stands in the part of the layer before it.
        size: neurons of a dense layer, channels of a convolution, 0 for a pool.
        kernel: side of the kernel or window, 0 for a dense layer.
        text: the architecture, and
        start: where in it the token is, for messages.
    """

    kind: str
    spiking: bool
    size: int
    kernel: int
    text: str
    start: int

    @property
    def token(self) -> str:
        """``"A500"``, ``"S32C3"``, ``"P2"``."""
        return self.text[self.start :].split("-", 1)[0]

    def error(self, problem: str) -> NotationError:
        """``problem`` at this layer."""
        return NotationError(problem, self.text, self.start, len(self.token))

    def shape(self, before: Shape) -> Shape:
        """Shape of the output for an input of shape ``before``, both without the batch.

        Raises:
            NotationError: the layer does not fit.
        """
        if self.kind == "dense":
            return (self.size,)
        if len(before) != 3:
            raise self.error(f"{self.token!r} needs an image of shape (C, H, W) before it; there is {before}")
        channels, *sides = before
        if min(sides) < self.kernel:
            what = "kernel" if self.kind == "convolution" else "window"
            raise self.error(
                f"{self.token!r} does not fit: its {what} is {self.kernel} x {self.kernel}, "
                f"the image before it only {sides[0]} x {sides[1]}"
            )
        if self.kind == "pool":
            return (channels, *(side // self.kernel for side in sides))
        return (self.size, *(side - self.kernel + 1 for side in sides))


def parse(text: str, *, classes: int | None = None, input_shape: Sequence[int] | None = None) -> tuple[Layer, ...]:
    """The layers of an architecture, input side first.

    Args:
        text: tokens joined by ``-``. ``A500`` is a dense layer of 500 artificial neurons and ``S500`` one of 500
            spiking neurons, ``A32C3`` and ``S32C3`` are convolutions of 32 channels with 3 x 3 kernels without padding,
            ``P2`` is a 2 x 2 max-pool. All artificial layers come before all spiking ones, convolutions and pools
            before dense layers; the last layer is dense.
        classes: where given, the size that the last layer must have.
        input_shape: where given, the shape of an image that the layers must fit.

    Raises:
        TypeError: ``text`` is not a string.
        NotationError: it is not an architecture.
    """
    if not isinstance(text, str):
        raise TypeError(f"architecture must be a string such as 'A784-A500-S10'; got {type(text).__name__}")
    layers: list[Layer] = []
    start = 0
    for token in text.split("-"):
        layers.append(_layer(token, text, start, layers[-1] if layers else None))
        start += len(token) + 1
    last = layers[-1]
    if last.kind != "dense":
        raise last.error(f"{last.token!r}: the last layer must be dense, with one neuron per class")
    if classes is not None and last.size != classes:
        raise last.error(f"the last layer needs one neuron per class, {classes}; got {last.size}")
    if input_shape is not None:
        shapes(layers, input_shape)
    return tuple(layers)


def shapes(layers: Sequence[Layer], input_shape: Sequence[int]) -> list[Shape]:
    """The shape after each layer, for images of ``input_shape``.

    Raises:
        NotationError: a layer that does not fit.
    """
    found = [tuple(input_shape)]
    for layer in layers:
        found.append(layer.shape(found[-1]))
    return found[1:]


def _layer(token: str, text: str, start: int, before: Layer | None) -> Layer:
    """The layer that ``token``, found at ``text[start:]``, stands for."""

    def error(problem: str) -> NotationError:
        return NotationError(problem, text, start, len(token))

    if not token:
        raise error("a layer is missing here; an architecture looks like A784-A500-S10")
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise error(
            f"{token!r} is not a layer; a layer is A500 or S500 (dense), A32C3 or S32C3 (convolution), or P2 (max-pool)"
        )
    if any(len(match[size] or "") > 9 for size in ("size", "kernel", "window")):  # more than 32 bits would hold
        raise error(f"{token!r}: a size may have nine digits at most")
    after_spiking = before is not None and before.spiking
    if match["window"]:
        layer = Layer("pool", after_spiking, 0, int(match["window"]), text, start)
        if layer.kernel < 2:
            raise error(f"{token!r}: a pool needs a window of at least 2")
    else:
        kind = "convolution" if match["kernel"] else "dense"
        layer = Layer(kind, match["part"] == "S", int(match["size"]), int(match["kernel"] or 0), text, start)
        if layer.size == 0:
            raise error(f"{token!r}: a layer needs at least one neuron")
        if kind == "convolution" and layer.kernel == 0:
            raise error(f"{token!r}: a convolution needs a kernel of at least 1")
        if after_spiking and not layer.spiking:
            raise error(f"{token!r}: an artificial layer cannot follow a spiking one; all A come before all S")
    if layer.kind != "dense" and before is not None and before.kind == "dense":
        raise error(f"{token!r}: a {layer.kind} cannot follow a dense layer")
    return layer
