"""The contract between the suite and a provider: a layer of neurons, a product with spikes, and what makes them."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

import hnn_kernels

from .definitions import LAYERS
from .operations import Dynamics


class Unsupported(Exception):  # noqa: N818  a provider's limit, not an error
    """A provider cannot do a case. The message says why, and becomes the note of the provider's row."""


class Layer(NamedTuple):
    """A layer of neurons over all time steps.

    Attributes:
        run: a function from the current ``[T, B, *features]`` to the spike train, or to the axon's output, of the same
            shape. It starts from a state of zero at every call. It is time-major for every library: where a library
            has another order, the transposition is part of what is measured. The output has the dtype that the library
            gives it.
        dynamics: the dynamics that it computes. They are checked against the reference before anything is timed.
        learnt: the tensors that it trains besides its input, created by the provider.
        exact: True if it computes in the order of the reference, without contraction into FMA. Its spikes must then be
            equal bit for bit. Otherwise a few in ten thousand may fall on the other side of the threshold.
        note: a remark for the reader of its figures.
        step: where a step can be a call of its own: a function from the current ``[1, B, *features]`` of a step and the
            state, None at first, to the step's output and the state after it. A library without it has ``run`` only.
    """

    run: Callable[[Tensor], Tensor]
    dynamics: Dynamics
    learnt: tuple[Tensor, ...] = ()
    exact: bool = False
    note: str = ""
    step: Callable[[Tensor, Any], tuple[Tensor, Any]] | None = None

    def stepping(self) -> "Layer":
        """The same layer in a loop over time with a call per step; itself where a step is no call of its own."""
        step = self.step
        if step is None:
            return self

        def run(current: Tensor) -> Tensor:
            train, state = [], None
            for x in current.split(1):
                out, state = step(x, state)
                train.append(out)
            return torch.cat(train)

        return self._replace(run=run)


class Product(NamedTuple):
    """A product of weights with a spike train.

    Attributes:
        run: a function from the train, ``[rows, in]`` or ``[B, C, H, W]`` of 0 and 1, to what the weights give for it.
            Its graph leads to the parameters of the weights.
        note: a remark for the reader of its figures.
    """

    run: Callable[[Tensor], Tensor]
    note: str = ""


Weights = nn.Linear | nn.Conv2d
MakeLayer = Callable[[Dynamics, tuple[int, ...]], Layer]  # from the dynamics and the features
MakeProduct = Callable[[Weights], Product]
NO_PRODUCT = "it has no product with spikes"
NO_DEFINITION = "it takes no neuron by its definition"
NO_RECURRENCE = "the suite measures no recurrence of it"


class Provider(Protocol):
    """A library, or one implementation in a library.

    Attributes:
        name: its name in records and on the command line.
    """

    name: str

    def version(self) -> str:
        """The installed version.

        Raises:
            Unsupported: it is not installed.
        """
        ...

    def layer(self, wanted: Dynamics, features: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Layer:
        """A layer of ``features`` neurons with the dynamics of the library that are nearest to ``wanted``.

        It is configured as the library is fastest.

        Raises:
            Unsupported: it is not installed, or has no layer for this device, this dtype or such dynamics.
        """
        ...


@runtime_checkable
class Definer(Provider, Protocol):
    """A provider that takes a neuron by its definition.

    Attributes:
        defines: True if it does.
    """

    defines: bool


@runtime_checkable
class Recurring(Provider, Protocol):
    """A provider whose layers may be recurrent.

    Attributes:
        recurs: True if they may.
    """

    recurs: bool


@runtime_checkable
class Multiplier(Provider, Protocol):
    """A provider that has a product with spikes of its own."""

    def product(self, weights: Weights, device: torch.device) -> Product:
        """The product of spike trains on ``device`` with ``weights``, whose parameters it uses.

        Raises:
            Unsupported: it is not installed, or has no product for this device or such weights.
        """
        ...


@runtime_checkable
class Converter(Provider, Protocol):
    """A provider whose kernels networks of other libraries may compute with."""

    def converts(self, device: torch.device) -> None:
        """Refuse a device.

        Raises:
            Unsupported: such networks compute with other kernels there.
        """
        ...


def layer_of(
    provider: Provider, wanted: Dynamics, features: tuple[int, ...], device: torch.device, dtype: torch.dtype
) -> Layer:
    """The layer of a provider.

    Raises:
        Unsupported: it has none, or has no recurrence or takes no neuron by its definition where one is wanted.
    """
    if wanted.neuron and not (isinstance(provider, Definer) and provider.defines):
        raise Unsupported(NO_DEFINITION)
    if wanted.recurrence and not (isinstance(provider, Recurring) and provider.recurs):
        raise Unsupported(NO_RECURRENCE)
    return provider.layer(wanted, features, device, dtype)


def multiplier(provider: Provider) -> Multiplier:
    """``provider``, as one that multiplies.

    Raises:
        Unsupported: it has no product with spikes.
    """
    if not isinstance(provider, Multiplier):
        raise Unsupported(NO_PRODUCT)
    return provider


def axon_filter(
    wanted: Dynamics, features: tuple[int, ...], device: torch.device
) -> tuple[hnn_kernels.IIR | None, tuple[Tensor, ...]]:
    """The axon of ``wanted`` (None without one), and its learnt tensors.

    The learnt tensors are the feedback ``[2, *features]`` and the feedforward ``[1, *features]``.
    """
    if not wanted.axon:
        return None, ()
    fixed = hnn_kernels.IIR.dual_exponential(4, 1)
    if not wanted.learnt:
        return fixed, ()
    learnt = tuple(
        torch.tensor(c, device=device).reshape(-1, *[1] * len(features)).repeat(1, *features).requires_grad_()
        for c in fixed
    )
    return hnn_kernels.IIR(*learnt), learnt


def recurrent_weight(wanted: Dynamics, features: tuple[int, ...], device: torch.device) -> nn.Parameter | None:
    """The weight of a recurrence, the same in every call: ``[N, N]``, or one per neuron; None without a recurrence."""
    if not wanted.recurrence:
        return None
    shape = (features[-1],) * 2 if wanted.recurrence == "matrix" else features
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    # As strong as the current where neurons spike as they do here.
    return nn.Parameter(
        (weight / math.sqrt(features[-1]) if wanted.recurrence == "matrix" else 0.5 * weight).to(device)
    )


def recurrent(wanted: Dynamics, weight: nn.Parameter, backend: str) -> hnn_kernels.nn.Recurrent:
    """The recurrent layer of a weight that :func:`recurrent_weight` returned, on a backend."""
    neurons = hnn_kernels.nn.LIF(
        wanted.decay, wanted.reset_decay, wanted.threshold, sigma=wanted.width, reset=wanted.reset,
        reset_grad=wanted.reset_grad, surrogate=wanted.surrogate, backend=backend,
    )  # fmt: skip
    if wanted.recurrence == "own":
        return hnn_kernels.nn.Recurrent(neurons, weight)
    linear = nn.Linear(len(weight), len(weight), bias=False, device="meta")
    linear.weight = weight
    return hnn_kernels.nn.Recurrent(neurons, linear)


def lif(current: Tensor, dynamics: Dynamics, axon: hnn_kernels.IIR | None, backend: str) -> Tensor:
    """The spike train of :func:`lif_step` over all steps, or the output of ``axon`` if there is one."""
    return lif_step(current, None, dynamics, axon, backend, return_state=False)[0]


def lif_step(
    current: Tensor,
    state: Any,
    dynamics: Dynamics,
    axon: hnn_kernels.IIR | None,
    backend: str,
    return_state: bool = True,
) -> tuple[Tensor, Any]:
    """The output and the state of :func:`hnn_kernels.lif`, or of a definition, with ``dynamics``, from ``state`` on."""
    if dynamics.neuron:
        return LAYERS[dynamics.neuron](current, state=state, return_state=return_state, backend=backend)
    return hnn_kernels.lif(
        current, dynamics.decay, dynamics.reset_decay, dynamics.threshold, sigma=dynamics.width, axon=axon, state=state,
        reset=dynamics.reset, reset_grad=dynamics.reset_grad, surrogate=dynamics.surrogate,
        return_state=return_state, backend=backend,
    )  # fmt: skip
