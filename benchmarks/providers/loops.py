"""What a PyTorch user writes by hand: the layer as a loop over time, also under torch.compile."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from hnn_kernels import IIR, SURROGATES

from ..core.cases import Dynamics
from . import Layer, axon_filter


class Spike(torch.autograd.Function):
    """The step forward, a surrogate's density backward."""

    @staticmethod
    def forward(ctx, distance: Tensor, density: Callable[[Tensor, float], Tensor], width: float) -> Tensor:
        ctx.save_for_backward(distance)
        ctx.density, ctx.width = density, width
        return (distance >= 0).to(distance.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (distance,) = ctx.saved_tensors
        return grad * ctx.density(distance, ctx.width), None, None


def loop(inputs: Iterable[Tensor], dynamics: Dynamics, axon: IIR | None) -> Tensor:
    """The layer over ``inputs``, one step each; the state is float32, and the train has the dtype of the inputs.

    An ``axon`` has two coefficients of feedback and one of feedforward.
    """
    decay, threshold, width = dynamics.decay, dynamics.threshold, dynamics.width
    density = SURROGATES[dynamics.surrogate].density
    if axon is not None:
        (first, second), (gain,) = axon
    train = []
    v = r = last = before = None
    for x in inputs:
        if v is None:
            v = r = last = before = torch.zeros_like(x, dtype=torch.float32)
        v = decay * v + x
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


def by_index(current: Tensor) -> Sequence[Tensor]:
    """``current[t]``, whose backward fills a whole ``[T, ...]`` tensor for every step."""
    return [current[t] for t in range(len(current))]


def by_unbind(current: Tensor) -> Sequence[Tensor]:
    """``current.unbind(0)``, whose backward writes every step once."""
    return current.unbind(0)


class Loop:
    """:func:`loop`, over the steps as ``steps`` takes them from the current."""

    def __init__(self, name: str, steps: Callable[[Tensor], Sequence[Tensor]]) -> None:
        self.name, self.steps = name, steps

    def version(self) -> str:
        return torch.__version__

    def layer(self, wanted: Dynamics, features: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Layer:
        axon, learnt = axon_filter(wanted, features, device)

        def run(current: Tensor) -> Tensor:
            return loop(self.steps(current), wanted, axon)

        return Layer(run, wanted, learnt, exact=device.type == "cpu")
