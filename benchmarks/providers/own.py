"""This project's backends: the kernels, and the reference, the plain loop that defines them."""

import torch
from torch import Tensor

import hnn_kernels
from hnn_kernels import LIFState

from ..core.layer import Layer, Unsupported, axon_filter, lif, lif_step
from ..core.operations import Dynamics


class Own:
    """A backend of :func:`hnn_kernels.lif`."""

    def __init__(self, backend: str) -> None:
        self.name = backend

    def version(self) -> str:
        return hnn_kernels.__version__

    def layer(self, wanted: Dynamics, features: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Layer:
        found = hnn_kernels.backends()[self.name]
        if "any" not in found.devices and device.type not in found.devices:
            raise Unsupported(found.reason or f"runs on {', '.join(found.devices)}, not on {device.type}")
        if self.name in ("cuda", "triton") and device.type == "cpu":
            raise Unsupported("on the CPU it is only emulated, for tests")
        axon, learnt = axon_filter(wanted, features, device)

        def run(current: Tensor) -> Tensor:
            return lif(current, wanted, axon, self.name)

        def step(current: Tensor, state: LIFState | None) -> tuple[Tensor, LIFState | None]:
            return lif_step(current, state, wanted, axon, self.name)

        # On a GPU spikes may differ within ulps of the threshold: see "Numbers" in ARCHITECTURE.md.
        return Layer(run, wanted, learnt, exact=device.type == "cpu", step=step)


PROVIDERS = tuple(Own(backend) for backend in ("cpu", "cuda", "triton", "reference"))
