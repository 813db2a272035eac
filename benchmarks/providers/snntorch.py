"""snnTorch: ``Leaky``, one call per step, in a loop as its tutorials write it."""

import math

import torch
from torch import Tensor

from ..core.layer import Layer
from ..core.operations import Dynamics
from .helpers import TIE, Compiled, Peer, no_axon


class SnnTorch(Peer):
    """``Leaky`` over ``current.unbind(0)``.

    Its reset takes effect in the next step, and has no gradient through the spike. So it is our reset filter with
    ``reset_decay=0`` and ``reset_grad="detach"``.
    """

    name = package = "snntorch"

    def layer(self, wanted: Dynamics, features: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Layer:
        self.version()
        no_axon("snnTorch", wanted)
        import snntorch
        from snntorch import surrogate

        reset = {"filter": "subtract", "subtract": "subtract", "zero": "zero", "none": "none"}[wanted.reset]
        name, width = wanted.surrogate, wanted.width
        if name == "sigmoid":
            spike_grad = surrogate.sigmoid(slope=1 / width)
        elif (name, width) == ("fast_sigmoid", 0.5):  # its peak is 1 at every width, ours at this one only
            spike_grad = surrogate.fast_sigmoid(slope=2)
        else:
            width = width if name == "arctan" else 1 / math.pi  # snnTorch's default
            name, spike_grad = "arctan", surrogate.atan(alpha=2 / (math.pi * width))
        neurons = snntorch.Leaky(
            beta=wanted.decay, threshold=wanted.threshold, spike_grad=spike_grad, reset_mechanism=reset
        ).to(device)
        snntorch.SpikingNeuron.init()  # empties the library's list of all layers, which would keep them in memory
        neurons.mem = None

        def run(current: Tensor) -> Tensor:
            train = []
            mem = torch.zeros_like(current[0])
            for x in current.unbind(0):
                spike, mem = neurons(x, mem)
                train.append(spike)
            neurons.mem = None  # the last state would keep the whole graph in memory, and cause a new compilation
            return torch.stack(train)

        subtract = reset == "subtract"
        dynamics = wanted._replace(
            reset="filter" if subtract else reset, reset_decay=0.0 if subtract else None, reset_grad="detach",
            surrogate=name, width=width,
        )  # fmt: skip
        return Layer(run, dynamics, note=TIE)


PROVIDERS = (SnnTorch(), Compiled(SnnTorch()))
