"""The tokens of the architecture notation, one class each.

A class holds everything that the package knows about its kind of layer: the text that stands for it, the shape and the
module that it gives, and the operations that it costs. A new kind is a new class in :data:`TOKENS`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .modifiers import taken_apart

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
        modifiers: the letters of :data:`hnn_models.network.modifiers.MODIFIERS` that the class takes.
        least: by field, the smallest number that is allowed, and the message for a smaller one.
        weighted: True for a layer with weights and neurons, False for a token such as a pool.
        needs_image: True if the input must have the shape ``(C, H, W)``.
        gives_image: True if the output has such a shape.
        architecture: the whole text.
        start: the index of the token's first character in ``architecture``.
        text: the token itself, such as ``"S32C3"``.
        spiking: True if the token belongs to the spiking part.
        size: neurons of a dense layer, channels of a convolution; 0 for a token without weights.
        kernel: side of a convolution's kernel or of a pool's window; 0 for a token without either, and for a pool over
            the whole image.
        padding: zeros on each side of the image.
        stride: step of the kernel or window; 0 where it is not given.
        average: True for a pool that takes the average, False for the maximum.
        norm: True for a layer with batch norm behind its weights, over all time steps where it is spiking.
        dropout: percentage of the outputs that training sets to zero, the same ones at all time steps.
    """

    pattern: ClassVar[str]
    kind: ClassVar[str]
    examples: ClassVar[str]
    modifiers: ClassVar[str] = ""
    least: ClassVar[Mapping[str, tuple[int, str]]] = {}
    weighted: ClassVar[bool] = False
    needs_image: ClassVar[bool] = False
    gives_image: ClassVar[bool] = True

    architecture: str
    start: int
    text: str
    spiking: bool
    size: int = 0
    kernel: int = 0
    padding: int = 0
    stride: int = 0
    average: bool = False
    norm: bool = False
    dropout: int = 0

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
    def linear(self) -> bool:
        """True if the token and a filter over time can change places without a change of the result."""
        return True

    @property
    def twin(self) -> str:
        """The same token with artificial neurons."""
        return f"A{self.text[1:]}" if self.weighted else self.text

    @property
    def unnormed(self) -> str:
        """The same token without batch norm."""
        head, tail = taken_apart(self.text)
        return head + tail.replace("n", "")

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

    def gathered(self, before: Shape) -> int:
        """The number of spikes that an output of 1 stands for, behind a layer of shape ``before``."""
        return 1

    def norm_module(self, outputs: int = 1) -> nn.Module | None:
        """Make the batch norm behind the weights; None for a token without it. ``outputs`` as for :meth:`module`."""
        return None


class _Weighted(Token):
    """A layer with weights and neurons."""

    weighted = True
    modifiers = "nd"
    norm_class: ClassVar[type[nn.Module]] = nn.BatchNorm1d
    least: ClassVar[Mapping[str, tuple[int, str]]] = {"size": (1, "a layer needs at least one neuron")}

    def norm_module(self, outputs: int = 1) -> nn.Module | None:
        kind: Any = self.norm_class
        return kind(outputs * self.size) if self.norm else None

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
        return nn.Linear(math.prod(before), outputs * self.size, bias=not self.norm)  # the norm has a bias

    def weights(self, before: Shape, outputs: int = 1) -> int:
        return math.prod(before) * outputs * self.size

    def arrivals(self, values: Tensor) -> float:
        return values.sum(0, dtype=torch.float64).sum().item() * self.size


class Convolution(_Weighted):
    """``A32C3`` or ``S32C3``: 32 channels, kernels of 3 x 3, stride 1, no padding. ``A32C3p1s2`` has both."""

    pattern = r"(?P<part>[AS])(?P<size>[0-9]+)C(?P<kernel>[0-9]+)"
    kind = "convolution"
    examples = "A32C3 or S32C3 (convolution)"
    modifiers = "psnd"
    norm_class = nn.BatchNorm2d
    least: ClassVar = {**_Weighted.least, "kernel": (1, "a convolution needs a kernel of at least 1")}
    needs_image = True

    def shape(self, before: Shape) -> Shape:
        return (self.size, *_places(self, before, "kernel", self.stride or 1))

    def module(self, before: Shape, outputs: int = 1) -> nn.Conv2d:
        window = self.kernel, self.stride or 1, self.padding
        convolution = nn.Conv2d(before[0], outputs * self.size, *window, bias=not self.norm)
        # A convolution's output has the memory layout of its weights. This one is faster on CPUs and on tensor cores.
        return convolution.to(memory_format=torch.channels_last)

    def weights(self, before: Shape, outputs: int = 1) -> int:
        return before[0] * outputs * self.size * self.kernel**2

    def arrivals(self, values: Tensor) -> float:
        return met_by_windows(values, (self.kernel, self.kernel), self.stride or 1, self.padding) * self.size


class Pool(Token):
    """``P2``: the maximum of every 2 x 2 window, at a stride of 2; ``P2a`` is the average.

    ``P3s2p1`` is a window of 3 x 3 with a stride of 2 and a padding of 1. ``P`` and ``Pa`` have the whole image for
    their window. Rows and columns that do not fill a window are dropped, as in the paper, where a side of 11 becomes 5.
    """

    pattern = r"P(?P<kernel>[0-9]+)?"
    kind = "pool"
    examples = "P2 (max-pool)"
    modifiers = "psa"
    needs_image = True

    def check(self) -> None:
        if not self.text[1:2].isdigit():
            if self.stride or self.padding:
                raise self.error(f"{self.text!r}: a pool over the whole image takes neither stride nor padding")
        elif self.kernel < 2:
            raise self.error(f"{self.text!r}: a pool needs a window of at least 2")
        elif self.padding > self.kernel // 2:
            raise self.error(f"{self.text!r}: the padding must be at most half the window")

    @property
    def linear(self) -> bool:
        return self.average

    def shape(self, before: Shape) -> Shape:
        places = _places(self, before, "window", self.stride or self.kernel)
        return (before[0], *(places if self.kernel else (1, 1)))

    def module(self, before: Shape, outputs: int = 1) -> nn.Module:
        kind: Any = nn.AvgPool2d if self.average else nn.MaxPool2d
        if not self.kernel:
            return kind(before[1:])
        return kind(self.kernel, self.stride or self.kernel, self.padding)

    def gathered(self, before: Shape) -> int:
        if not self.average:
            return 1
        return self.kernel**2 or math.prod(before[1:])


TOKENS: tuple[type[Token], ...] = (Dense, Convolution, Pool)


def met_by_windows(values: Tensor, kernel: Sequence[int], *window: Any) -> float:
    """Sum of ``values`` ``[N, C, H, W]``, each counted as often as there are windows of a convolution that it is in.

    ``window`` is its stride, padding and dilation.
    """
    per_place = values.sum((0, 1), dtype=torch.float64)
    return nn.functional.conv2d(per_place[None, None], per_place.new_ones(1, 1, *kernel), None, *window).sum().item()


def _places(token: Token, before: Shape, name: str, stride: int) -> Shape:
    """The number of places of the token's kernel or window along each side of ``before``.

    Raises:
        NotationError: ``before`` is no image, or is smaller than the kernel or window.
    """
    if len(before) != 3:
        raise token.error(f"{token.text!r} needs an image of shape (C, H, W) before it; there is {before}")
    sides = before[1:]
    if min(sides) + 2 * token.padding < token.kernel:
        padded = f" with its padding of {token.padding}" if token.padding else ""
        raise token.error(
            f"{token.text!r} does not fit: its {name} is {token.kernel} x {token.kernel}, "
            f"the image before it only {sides[0]} x {sides[1]}{padded}"
        )
    return tuple((side + 2 * token.padding - token.kernel) // max(stride, 1) + 1 for side in sides)
