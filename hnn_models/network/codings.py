"""The codings (section 3.2): how the features at the border become the signal that the first spiking layer takes.

A coding is an entry of :data:`KINDS`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import hnn_kernels
from hnn_kernels.nn import IIR

from .layers import Signal, shared


@dataclass(frozen=True)
class CodingKind:
    """One coding.

    Attributes:
        encode: takes one tensor ``[B, *features]`` for each of ``outputs``, the number of steps T, and the keywords
            ``first_element`` and ``backend`` of :func:`hnn_kernels.encode_gaussian`; gives ``[T, B, *features]``. None
            for a coding that repeats its value at every step.
        outputs: the values that the last artificial layer gives for each of its neurons, in this order. With more than
            one, the layer is larger than a pretrained one, and has to be trained together with the spiking part.
        differentiable: False if no gradient goes through the coding. The artificial layers must then be fixed.
        spikes: True if the coded signal is spikes, False if it is analogue values.
        activation: the activation that the last artificial layer must have; None for any.
    """

    encode: Callable[..., Tensor] | None = None
    outputs: tuple[str, ...] = ("value",)
    differentiable: bool = True
    spikes: bool = False
    activation: str | None = None

    @property
    def times(self) -> str:
        """The size of the last artificial layer beside that of a pretrained one, in words."""
        return "twice" if len(self.outputs) == 2 else f"{len(self.outputs)} times"


def _gaussian(mean: Tensor, log_std: Tensor, steps: int, **options: Any) -> Tensor:
    return hnn_kernels.encode_gaussian(mean, log_std, steps, **options)


def _poisson(probability: Tensor, steps: int, **options: Any) -> Tensor:
    return hnn_kernels.encode_poisson(probability, steps, **options)


def _gaussian_of_variance(mean: Tensor, log_variance: Tensor, steps: int, **options: Any) -> Tensor:
    return hnn_kernels.encode_gaussian(mean, log_variance / 2, steps, **options)


def _poisson_divided_twice(probability: Tensor, steps: int, **options: Any) -> Tensor:
    return hnn_kernels.encode_poisson(probability / 255, steps, **options)


KINDS: Mapping[str, CodingKind] = {
    "duplicate": CodingKind(),
    "gaussian": CodingKind(_gaussian, outputs=("mean", "ln sigma")),
    "poisson": CodingKind(_poisson, differentiable=False, spikes=True, activation="sigmoid"),
    # As in the program of the paper's authors.
    "gaussian-variance": CodingKind(_gaussian_of_variance, outputs=("mean", "ln sigma^2")),
    # A fault of that program, to be measured: features are divided by 255 as if they were pixels.
    "poisson-divided-twice": CodingKind(
        _poisson_divided_twice, differentiable=False, spikes=True, activation="sigmoid"
    ),
}
CODINGS = tuple(KINDS)


class Coding(nn.Module):
    """From features to the signal of the first spiking layer, behind an axon for axon input (section 4.2).

    Args:
        kind: one of :data:`CODINGS`. A kind with several outputs takes them one after the other along the first axis
            of the features: Gaussian coding takes all means, then all ln sigma.
        steps: T.
        axon: the filter of axon input; None for direct input.
        backend: as for :func:`hnn_kernels.lif`.

    Attributes:
        first_image: the index of the first image in its batch, where several processes share a batch. The noise of an
            image depends on its place in the whole batch.
    """

    def __init__(self, kind: str, steps: int, axon: IIR | None, backend: str | None) -> None:
        super().__init__()
        self.kind = kind
        self.steps = steps
        self.axon = axon
        self.backend = backend
        self.first_image = 0

    @property
    def steps(self) -> int:
        """The number of time steps T."""
        if not torch.compiler.is_dynamo_compiling():
            return self._steps
        # Dynamo takes an int of a module for a constant, and would compile again for every other number of steps.
        with torch._dynamo.patch_dynamo_config(allow_unspec_int_on_nn_module=True):
            return torch.sym_int(self._steps)

    @steps.setter
    def steps(self, value: int) -> None:
        self._steps = value

    @property
    def constant(self) -> bool:
        """True if the coded signal is one value times a function of time."""
        return KINDS[self.kind].encode is None and (self.axon is None or shared(self.axon))

    def forward(self, features: Tensor) -> Signal:
        """Code ``features`` ``[B, *features]``, and apply the axon of axon input."""
        return self.behind_axon(self.encode(features))

    def encode(self, features: Tensor) -> Signal:
        """Code ``features``, before any axon."""
        kind = KINDS[self.kind]
        if kind.encode is None:
            return Signal(features, self.steps)
        outputs = len(kind.outputs)
        values = features.chunk(outputs, dim=1) if outputs > 1 else (features,)
        first = self.first_image * math.prod(values[0].shape[1:])
        train = kind.encode(*values, self.steps, first_element=first, backend=self.backend)
        return Signal(train, spikes=kind.spikes)

    def behind_axon(self, signal: Signal) -> Signal:
        """Apply the axon of axon input to a coded signal."""
        if self.axon is None:
            return signal
        if self.constant:  # the filter is linear: its response to a constant is the constant times its response to 1
            one = signal.value.new_ones(()).expand(self.steps, 1)
            return Signal(signal.value, response=self.axon(one).squeeze(1), answers=self.axon)
        value = signal.value if signal.steps is None else hnn_kernels.encode_duplicate(signal.value, self.steps)
        return Signal(self.axon(value))

    def extra_repr(self) -> str:
        return f"{self.kind}, steps={self.steps}"
