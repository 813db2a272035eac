"""sinabs: ``LIF``, which takes the whole train in one call, and EXODUS, its CUDA kernels."""

import math

import torch
from torch import Tensor

from ..core.layer import Layer, Unsupported
from ..core.operations import Dynamics
from .helpers import Peer, no_axon


class Sinabs(Peer):
    """``LIF`` without normalised input, on ``[B, T, ...]``."""

    name = package = "sinabs"

    def layer(self, wanted: Dynamics, features: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Layer:
        self.version()
        no_axon("sinabs", wanted)
        from sinabs import activation

        zero = wanted.reset == "zero"
        if wanted.reset == "none":
            raise Unsupported("sinabs has no spiking neuron without a reset")
        neurons = self.neurons(
            tau_mem=-1 / math.log(wanted.decay) if wanted.decay else 0.0,
            spike_threshold=torch.tensor(wanted.threshold),
            spike_fn=activation.SingleSpike,
            reset_fn=activation.MembraneReset() if zero else activation.MembraneSubtract(),
            surrogate_grad_fn=activation.Gaussian(sigma=wanted.width),
            norm_input=False,
        ).to(device)
        neurons.requires_grad_(False)  # the time constant is learnt by default; here it is fixed

        def run(current: Tensor) -> Tensor:
            neurons.reset_states()
            return neurons(current.transpose(0, 1)).transpose(0, 1)

        dynamics = wanted._replace(
            reset="zero" if zero else "subtract", reset_decay=None, reset_grad="detach" if zero else "full",
            surrogate="gaussian",
        )  # fmt: skip
        return Layer(run, dynamics, note="its loop indexes the train, which makes backward quadratic in T")

    def neurons(self, **options) -> torch.nn.Module:
        """The library's layer."""
        from sinabs.layers import LIF

        return LIF(**options)


class Exodus(Sinabs):
    """The same layer as a CUDA kernel, not yet run with this suite.

    The extra ``peers`` leaves it out: it is compiled when it is installed, which needs a CUDA toolkit.
    """

    name, package = "sinabs exodus", "sinabs-exodus"

    def layer(self, wanted: Dynamics, features: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Layer:
        self.version()
        if device.type != "cuda" or dtype != torch.float32:
            raise Unsupported("its kernels are for float32 on CUDA devices")
        if wanted.reset == "zero":
            raise Unsupported("its kernels have no reset but the subtraction of the threshold")
        return super().layer(wanted, features, device, dtype)._replace(note="not yet run with this suite")

    def neurons(self, **options) -> torch.nn.Module:
        from sinabs.exodus.layers import LIF

        return LIF(**options)


PROVIDERS = (Sinabs(), Exodus())
