"""The layer as a loop over time, as a PyTorch user writes it by hand, also under torch.compile."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from hnn_kernels import IIR, SURROGATES

from ..core.definitions import DEFINITIONS, Fire
from ..core.layer import Layer, axon_filter, recurrent_weight
from ..core.operations import Dynamics
from .helpers import Compiled


class Spike(torch.autograd.Function):
    """A step function with the density of a surrogate as its derivative."""

    @staticmethod
    def forward(ctx, distance: Tensor, density: Callable[[Tensor, float], Tensor], width: float) -> Tensor:
        ctx.save_for_backward(distance)
        ctx.density, ctx.width = density, width
        return (distance >= 0).to(distance.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (distance,) = ctx.saved_tensors
        return grad * ctx.density(distance, ctx.width), None, None


def loop(inputs: Iterable[Tensor], dynamics: Dynamics, axon: IIR | None, weight: Tensor | None = None) -> Tensor:
    """The train of a layer, in the dtype of the inputs. The state is float32.

    Args:
        inputs: the currents of the steps, ``[B, *features]`` each.
        dynamics: the dynamics.
        axon: a filter of the spikes with two feedback coefficients and one feedforward coefficient.
        weight: that of a recurrence of the dynamics.
    """
    decay, threshold, width = dynamics.decay, dynamics.threshold, dynamics.width
    density = SURROGATES[dynamics.surrogate].density
    if axon is not None:
        (first, second), (gain,) = axon
    train = []
    v = r = last = before = spike = None
    for x in inputs:
        if v is None:
            v = r = last = before = spike = torch.zeros_like(x, dtype=torch.float32)
        own = x
        if weight is not None:
            own = x + (functional.linear(spike, weight) if dynamics.recurrence == "matrix" else weight * spike)
        v = decay * v + own
        if dynamics.reset == "filter":
            v = v - threshold * r
        spike = Spike.apply(v - threshold, density, width)
        fired = spike.detach() if dynamics.reset_grad == "detach" else spike
        if dynamics.reset == "filter":
            r = dynamics.reset_decay * (r.detach() if dynamics.reset_grad == "one_step" else r) + fired
        elif dynamics.reset == "subtract":
            v = v - threshold * fired
        elif dynamics.reset == "zero":
            v = v * (1 - fired)
        if axon is not None:
            before, last = last, gain * spike + first * last + second * before
            spike = last
        train.append(spike)
    return torch.stack(train).to(x.dtype)


def fire(surrogate: str, width: float) -> Fire:
    """The spikes of a distance to the threshold."""
    density = SURROGATES[surrogate].density
    return lambda distance: Spike.apply(distance, density, width)


def defined(inputs: Iterable[Tensor], name: str) -> Tensor:
    """The train of a neuron by its definition, as :func:`loop`."""
    definition = DEFINITIONS[name]
    step = definition.step(fire(definition.surrogate, definition.width))
    train, states = [], None
    for x in inputs:
        if states is None:
            states = (torch.zeros_like(x, dtype=torch.float32),) * len(definition.states)
        spike, states = step(x.float(), *states)
        train.append(spike)
    return torch.stack(train).to(x.dtype)


def by_index(current: Tensor) -> Sequence[Tensor]:
    """The steps ``current[t]``, whose backward fills a whole ``[T, ...]`` tensor for every step."""
    return [current[t] for t in range(len(current))]


def by_unbind(current: Tensor) -> Sequence[Tensor]:
    """The steps ``current.unbind(0)``, whose backward writes every step once."""
    return current.unbind(0)


class Loop:
    """The provider of :func:`loop`; ``steps`` takes the steps from the current."""

    defines = recurs = True

    def __init__(self, name: str, steps: Callable[[Tensor], Sequence[Tensor]]) -> None:
        self.name, self.steps = name, steps

    def version(self) -> str:
        return torch.__version__

    def layer(self, wanted: Dynamics, features: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Layer:
        axon, learnt = axon_filter(wanted, features, device)
        weight = recurrent_weight(wanted, features, device)
        learnt = (*learnt, weight) if weight is not None else learnt

        def run(current: Tensor) -> Tensor:
            if wanted.neuron:
                return defined(self.steps(current), wanted.neuron)
            return loop(self.steps(current), wanted, axon, weight)

        # A product is rounded by the size of the batch, which is smaller where the layer is checked.
        exact = device.type == "cpu" and wanted.recurrence != "matrix"
        return Layer(run, wanted, learnt, exact=exact)


_EAGER = Loop("loop", by_unbind)
PROVIDERS = (_EAGER, Compiled(_EAGER), Loop("loop x[t]", by_index))
