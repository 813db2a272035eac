"""This project's own kernels, and the plain loop that defines them."""

import torch

import hnn_kernels

from ..cases import Dynamics
from . import Layer, Unsupported, axon_filter


class Own:
    """One backend of :func:`hnn_kernels.lif`."""

    def __init__(self, backend: str) -> None:
        self.name = backend

    def version(self) -> str:
        return hnn_kernels.__version__

    def layer(self, wanted: Dynamics, features: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Layer:
        found = hnn_kernels.backends()[self.name]
        if "any" not in found.devices and device.type not in found.devices:
            raise Unsupported(found.reason or f"runs on {', '.join(found.devices)}, not on {device.type}")
        if self.name in ("cuda", "triton") and device.type == "cpu":
            raise Unsupported("on the CPU it is emulated, for tests")
        axon, learnt = axon_filter(wanted, features, device)

        def run(current: torch.Tensor) -> torch.Tensor:
            out, _ = hnn_kernels.lif(
                current, wanted.decay, wanted.reset_decay, wanted.threshold, sigma=wanted.width, axon=axon,
                reset=wanted.reset, reset_grad=wanted.reset_grad, surrogate=wanted.surrogate, backend=self.name,
            )  # fmt: skip
            return out

        # The GPU kernels may differ by ulps: see "Numbers" in ARCHITECTURE.md.
        return Layer(run, wanted, learnt, exact=device.type == "cpu")
