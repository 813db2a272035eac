"""What a hybrid network is made of: the coding at its border, and its spiking layers, each over all steps at once."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

import hnn_kernels
from hnn_kernels.nn import IIR, LIF

CODINGS = ("duplicate", "gaussian", "poisson")
INPUTS = ("direct", "axon")
# The ancestor's time constants, 4 and 1 steps.
AXONS = {
    "dual_exponential": hnn_kernels.IIR.dual_exponential(4, 1),
    "normalized": hnn_kernels.IIR.dual_exponential(4, 1, normalize=True),
    "exponential": hnn_kernels.IIR.exponential(4),
}
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "identity": nn.Identity}


class Train(NamedTuple):
    """What enters a spiking layer.

    Attributes:
        value: ``[T, B, *features]``, or ``[B, *features]`` where ``steps`` says for how many steps.
        steps: T, where ``value`` is constant in time.
        response: ``[T]`` where the train is ``value * response[t]``: a constant value behind an axon.
    """

    value: Tensor
    steps: int | None = None
    response: Tensor | None = None

    @property
    def constant(self) -> bool:
        """Whether weights need to meet one value only."""
        return self.steps is not None or self.response is not None


class Coding(nn.Module):
    """From features to what enters the first spiking layer: section 3.2, behind an axon for axon input (section 4.2).

    Args:
        kind: one of :data:`CODINGS`. ``"gaussian"`` takes mean and ln sigma as the halves of the first feature axis.
        steps: T.
        axon: the filter of axon input; None for direct input.
        backend: as for :func:`hnn_kernels.lif`.

    Attributes:
        first_image: the place of the first image in its batch, where several processes share one: the noise goes by it.
    """

    def __init__(self, kind: str, steps: int, axon: IIR | None, backend: str | None) -> None:
        super().__init__()
        self.kind = kind
        self.steps = steps
        self.axon = axon
        self.backend = backend
        self.first_image = 0

    @property
    def constant(self) -> bool:
        """Whether the first layer's weights are needed once per image: the value times a function of time."""
        return self.kind == "duplicate" and (self.axon is None or shared(self.axon))

    def forward(self, features: Tensor) -> Train:
        """What ``features`` ``[B, *features]`` become for the first layer's weights."""
        return self.behind_axon(self.encode(features))

    def encode(self, features: Tensor) -> Train:
        """The coded value."""
        if self.kind == "duplicate":
            return Train(features, self.steps)
        if self.kind == "gaussian":
            encode, values = hnn_kernels.encode_gaussian, features.chunk(2, dim=1)
        else:
            encode, values = hnn_kernels.encode_poisson, (features,)
        first = self.first_image * math.prod(values[0].shape[1:])
        return Train(encode(*values, self.steps, first_element=first, backend=self.backend))

    def behind_axon(self, train: Train) -> Train:
        """The coded value behind the axon of axon input."""
        if self.axon is None:
            return train
        if self.constant:  # the filter is linear: its response to a constant is the constant times that to 1
            one = train.value.new_ones(()).expand(self.steps, 1)
            return Train(train.value, response=self.axon(one).squeeze(1))
        value = train.value if train.steps is None else hnn_kernels.encode_duplicate(train.value, self.steps)
        return Train(self.axon(value))

    def extra_repr(self) -> str:
        return f"{self.kind}, steps={self.steps}"


class SpikingLayer(nn.Module):
    """Weights and spiking neurons (eq. 1): ``I[t] = W F[t] + b`` for all steps in one call, then the neurons.

    F is the train of the layer before, which that layer's own kernel has filtered by the axon; this layer's neurons
    filter theirs for the layer behind.

    Args:
        weights: ``nn.Linear`` or ``nn.Conv2d``.
        neurons: their options.
        before: what F goes through first, step by step alike: pooling, flattening.

    Shape:
        ``[T, B, *in]``, or ``[B, *in]`` where it is constant in time (:class:`Train`), to ``[T, B, *out]``;
        ``[B, *out]`` where the neurons' read-out is a count.
    """

    def __init__(self, weights: nn.Linear | nn.Conv2d, neurons: LIF, before: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.before = nn.Sequential(*before)
        self.weights = weights
        self.neurons = neurons

    def forward(self, train: Train) -> Tensor:
        """The neurons' read-out."""
        return self.neurons(self.current(train), steps=train.steps)

    def current(self, train: Train) -> Tensor:
        """I: ``[B, *out]`` where the train has ``steps``, else ``[T, B, *out]``."""
        x, steps, response = train
        if steps is not None:
            return self.weights(self.before(x))
        if response is None:
            return self.weights(self.before(x.flatten(0, 1))).unflatten(0, x.shape[:2])
        weights = self.weights
        product = nn.functional.linear if isinstance(weights, nn.Linear) else nn.functional.conv2d
        value = product(self.before(x), weights.weight)
        ones = (1,) * (value.dim() - 2)
        return torch.addcmul(weights.bias.view(-1, *ones), response.view(-1, 1, 1, *ones), value)


def shared(axon: IIR) -> bool:
    """Whether all neurons of a layer have the same axon, so that filter and weights can change places."""
    return all(not isinstance(c, Tensor) or c.dim() == 1 for c in (axon.feedback, axon.feedforward))
