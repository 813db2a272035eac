"""The tokens of the architecture notation, one class each.

A class holds everything that the package knows about its kind of layer: the text that stands for it, the shape and the
module that it gives, and the operations that it costs. A new kind is a new class in :data:`TOKENS`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

Shape = tuple[int, ...]


class NotationError(ValueError):
    """An architecture that cannot be built. The message marks the place with a line of carets."""

    def __init__(self, problem: str, text: str, start: int, length: int) -> None:
        super().__init__(f"{problem}\n  {text}\n  {' ' * start}{'^' * max(length, 1)}")


@dataclass(frozen=True)
class Token(ABC):
    """One token of an architecture.

    The groups of ``pattern`` are fields of the class, and their text is a number. The one exception is the group
    ``part``: its text is ``A`` for an artificial layer and ``S`` for a spiking one. A token without this group belongs
    to the part of the token before it.

    Attributes:
        pattern: the regular expression that the whole token matches.
        kind: the name of the class in messages.
        examples: tokens of the class, for messages.
        least: by field, the smallest number that is allowed, and the message for a smaller one.
        weighted: True for a layer with weights and neurons, False for a token such as a pool.
        needs_image: True if the input must have the shape ``(C, H, W)``.
        gives_image: True if the output has such a shape.
        linear: True if the token and a filter over time can change places without a change of the result.
        architecture: the whole text.
        start: the index of the token's first character in ``architecture``.
        text: the token itself, such as ``"S32C3"``.
        spiking: True if the token belongs to the spiking part.
        size: neurons of a dense layer, channels of a convolution; 0 for a token without weights.
        kernel: side of a convolution's kernel or of a pool's window; 0 for a token without either.
    """

    pattern: ClassVar[str]
    kind: ClassVar[str]
    examples: ClassVar[str]
    least: ClassVar[Mapping[str, tuple[int, str]]] = {}
    weighted: ClassVar[bool] = False
    needs_image: ClassVar[bool] = False
    gives_image: ClassVar[bool] = True
    linear: ClassVar[bool] = True

    architecture: str
    start: int
    text: str
    spiking: bool
    size: int = 0
    kernel: int = 0

    def error(self, problem: str) -> NotationError:
        """Make an error that marks this token."""
        return NotationError(problem, self.architecture, self.start, len(self.text))

    def check(self) -> None:
        """Check the token's numbers.

        Raises:
            NotationError: a number is too small.
        """
        for name, (least, reason) in self.least.items():
            if getattr(self, name) < least:
                raise self.error(f"{self.text!r}: {reason}")

    @property
    def twin(self) -> str:
        """The same token with artificial neurons."""
        return f"A{self.text[1:]}" if self.weighted else self.text

    def takes(self, before: Shape) -> Shape:
        """Shape of the input that the module takes, where the layer before has the shape ``before``."""
        return before

    @abstractmethod
    def shape(self, before: Shape) -> Shape:
        """Shape of the output behind a layer of shape ``before``. Neither shape has the batch.

        Raises:
            NotationError: the token does not fit.
        """

    @abstractmethod
    def module(self, before: Shape, outputs: int = 1) -> nn.Module:
        """Make the module: the weights of a layer with neurons, or the operation that a token without weights is.

        Args:
            before: the shape of the layer before.
            outputs: the module gives so many values for each neuron.
        """

    def weights(self, before: Shape, outputs: int = 1) -> int:
        """Number of weights, without biases, behind a layer of shape ``before``; ``outputs`` as for :meth:`module`."""
        return 0

    def operations(self, before: Shape, outputs: int = 1) -> int:
        """Multiply-accumulates of the weights for one input."""
        return self.weights(before, outputs) * math.prod(self.shape(before)[1:])

    def arrivals(self, values: Tensor) -> float:
        """Sum of ``values`` ``[N, *in]``, each counted as often as there are weights that it meets."""
        return 0.0


class _Weighted(Token):
    """A layer with weights and neurons."""

    weighted = True
    least: ClassVar[Mapping[str, tuple[int, str]]] = {"size": (1, "a layer needs at least one neuron")}

    @abstractmethod
    def weights(self, before: Shape, outputs: int = 1) -> int: ...

    @abstractmethod
    def arrivals(self, values: Tensor) -> float: ...


class Dense(_Weighted):
    """``A500`` or ``S500``: every neuron has a weight for every value of the layer before."""

    pattern = r"(?P<part>[AS])(?P<size>[0-9]+)"
    kind = "dense"
    examples = "A500 or S500 (dense)"
    gives_image = False

    def takes(self, before: Shape) -> Shape:
        return (math.prod(before),)

    def shape(self, before: Shape) -> Shape:
        return (self.size,)

    def module(self, before: Shape, outputs: int = 1) -> nn.Linear:
        return nn.Linear(math.prod(before), outputs * self.size)

    def weights(self, before: Shape, outputs: int = 1) -> int:
        return math.prod(before) * outputs * self.size

    def arrivals(self, values: Tensor) -> float:
        return values.sum(0, dtype=torch.float64).sum().item() * self.size


class Convolution(_Weighted):
    """``A32C3`` or ``S32C3``: 32 channels, kernels of 3 x 3, stride 1, no padding."""

    pattern = r"(?P<part>[AS])(?P<size>[0-9]+)C(?P<kernel>[0-9]+)"
    kind = "convolution"
    examples = "A32C3 or S32C3 (convolution)"
    least: ClassVar = {**_Weighted.least, "kernel": (1, "a convolution needs a kernel of at least 1")}
    needs_image = True

    def shape(self, before: Shape) -> Shape:
        sides = _sides(self, before, "kernel")
        return (self.size, *(side - self.kernel + 1 for side in sides))

    def module(self, before: Shape, outputs: int = 1) -> nn.Conv2d:
        convolution = nn.Conv2d(before[0], outputs * self.size, self.kernel)
        # A convolution's output has the memory layout of its weights. This one is faster on CPUs and on tensor cores.
        return convolution.to(memory_format=torch.channels_last)

    def weights(self, before: Shape, outputs: int = 1) -> int:
        return before[0] * outputs * self.size * self.kernel**2

    def arrivals(self, values: Tensor) -> float:
        per_place = values.sum(0, dtype=torch.float64)
        ones = per_place.new_ones(1, len(per_place), self.kernel, self.kernel)
        return nn.functional.conv2d(per_place[None], ones).sum().item() * self.size


class MaxPool(Token):
    """``P2``: the maximum of every 2 x 2 window, at a stride of 2.

    Rows and columns that do not fill a window are dropped, as in the paper, where a side of 11 becomes 5.
    """

    pattern = r"P(?P<kernel>[0-9]+)"
    kind = "pool"
    examples = "P2 (max-pool)"
    least: ClassVar = {"kernel": (2, "a pool needs a window of at least 2")}
    needs_image = True
    linear = False

    def shape(self, before: Shape) -> Shape:
        sides = _sides(self, before, "window")
        return (before[0], *(side // self.kernel for side in sides))

    def module(self, before: Shape, outputs: int = 1) -> nn.MaxPool2d:
        return nn.MaxPool2d(self.kernel)


TOKENS: tuple[type[Token], ...] = (Dense, Convolution, MaxPool)


def _sides(token: Token, before: Shape, name: str) -> Shape:
    """Height and width of ``before``, an image that is at least as large as the token's kernel or window.

    Raises:
        NotationError: ``before`` is no image, or is smaller.
    """
    if len(before) != 3:
        raise token.error(f"{token.text!r} needs an image of shape (C, H, W) before it; there is {before}")
    sides = before[1:]
    if min(sides) < token.kernel:
        raise token.error(
            f"{token.text!r} does not fit: its {name} is {token.kernel} x {token.kernel}, "
            f"the image before it only {sides[0]} x {sides[1]}"
        )
    return sides
