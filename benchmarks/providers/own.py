"""This project's own kernels, and the plain loop that defines them."""

import torch
from torch import Tensor

import hnn_kernels

from ..core.cases import Dynamics
from . import Layer, Unsupported, axon_filter


def lif(current: Tensor, dynamics: Dynamics, axon: hnn_kernels.IIR | None, backend: str) -> Tensor:
    """:func:`hnn_kernels.lif` with these ``dynamics``: the train, filtered where there is an ``axon``."""
    out, _ = hnn_kernels.lif(
        current, dynamics.decay, dynamics.reset_decay, dynamics.threshold, sigma=dynamics.width, axon=axon,
        reset=dynamics.reset, reset_grad=dynamics.reset_grad, surrogate=dynamics.surrogate,
        return_state=False, backend=backend,
    )  # fmt: skip
    return out


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

        def run(current: Tensor) -> Tensor:
            return lif(current, wanted, axon, self.name)

        # The GPU kernels may differ by ulps: see "Numbers" in ARCHITECTURE.md.
        return Layer(run, wanted, learnt, exact=device.type == "cpu")
