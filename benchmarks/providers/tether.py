"""tether (``tetherpy``): ``LIF``, a Triton kernel over all steps."""

import math

import torch
from torch import Tensor

from ..core.layer import Layer, Unsupported
from ..core.operations import Dynamics
from .helpers import Peer, no_axon


class Tether(Peer):
    """``LIF``, which resets to zero. With this suite its kernels were run in Triton's interpreter only."""

    name, package = "tether", "tetherpy"

    def layer(self, wanted: Dynamics, features: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Layer:
        self.version()
        no_axon("tether", wanted)
        if device.type != "cuda":
            raise Unsupported("its kernels are for CUDA devices")
        if dtype != torch.float32:
            raise Unsupported("its kernels keep the potential in the dtype of the current")
        return tether_layer(wanted, device)


def tether_layer(wanted: Dynamics, device: torch.device) -> Layer:
    """The layer on any device; on the CPU it runs in Triton's interpreter."""
    from tether import LIF
    from tether.nn import Arctan, Sigmoid

    name, width = wanted.surrogate, wanted.width
    if name == "sigmoid":
        surrogate = Sigmoid(1 / width)
    else:
        width = width if name == "arctan" else 1 / (2 * math.pi)  # tether's default
        name, surrogate = "arctan", Arctan(1 / (math.pi * width))
    neurons = LIF(1, decay=wanted.decay, threshold=wanted.threshold, surrogate=surrogate).to(device)
    neurons.requires_grad_(False)  # decay and threshold are learnt by default; here they are fixed

    def run(current: Tensor) -> Tensor:
        neurons.v = current.new_zeros(current[0].numel())  # otherwise it continues from the last call's state
        return neurons(current)

    dynamics = wanted._replace(reset="zero", reset_decay=None, reset_grad="detach", surrogate=name, width=width)
    return Layer(run, dynamics, note="not yet run on a GPU with this suite")


PROVIDERS = (Tether(),)
