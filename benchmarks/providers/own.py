"""This project's backends: the kernels, and the reference, the plain loop that defines them.

The C++ kernels of the CPU take the instruction set of the run, which ``hnn bench --isa`` sets.
"""

import functools
from typing import Any

import torch
from torch import Tensor, nn

import hnn_kernels

from ..core.layer import Layer, Product, Unsupported, Weights, axon_filter, lif, lif_step, recurrent, recurrent_weight
from ..core.operations import Dynamics


class Layers:
    """A backend of :func:`hnn_kernels.lif`, by its name."""

    defines = recurs = True

    def __init__(self, backend: str) -> None:
        self.backend = self.name = backend

    def version(self) -> str:
        return hnn_kernels.__version__

    def layer(self, wanted: Dynamics, features: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Layer:
        self._require(device)
        if wanted.neuron and self.backend == "cuda":
            raise Unsupported("on a GPU Triton has the neurons by definition")
        weight = recurrent_weight(wanted, features, device)
        if weight is not None:
            # A product is rounded by the size of the batch, which is smaller where the layer is checked.
            exact = device.type == "cpu" and wanted.recurrence == "own"
            return Layer(recurrent(wanted, weight, self.backend), wanted, (weight,), exact=exact)
        axon, learnt = axon_filter(wanted, features, device)

        def run(current: Tensor) -> Tensor:
            return lif(current, wanted, axon, self.backend)

        def step(current: Tensor, state: Any) -> tuple[Tensor, Any]:
            return lif_step(current, state, wanted, axon, self.backend)

        # On a GPU spikes may differ within ulps of the threshold: see "Numbers" in ARCHITECTURE.md.
        return Layer(run, wanted, learnt, exact=device.type == "cpu", step=step)

    def _require(self, device: torch.device) -> None:
        """Refuse a device for which this backend is not.

        Raises:
            Unsupported: always then.
        """
        found = hnn_kernels.backends()[self.backend]
        if "any" not in found.devices and device.type not in found.devices:
            raise Unsupported(found.reason or f"runs on {', '.join(found.devices)}, not on {device.type}")
        if self.backend in ("cuda", "triton") and device.type == "cpu":
            raise Unsupported("on the CPU it is only emulated, for tests")


class Own(Layers):
    """A backend's layers, its products with spikes, and networks of other libraries that compute with it."""

    def converts(self, device: torch.device) -> None:
        """Refuse networks of other libraries, unless they take this backend on a device.

        Raises:
            Unsupported: they do not.
        """
        self._require(device)
        best = next(name for name, found in hnn_kernels.backends().items() if device.type in found.automatic)
        if self.backend != best:
            raise Unsupported(f"their kernels are those of {best}")

    def product(self, weights: Weights, device: torch.device) -> Product:
        self._require(device)
        if self.backend == "reference":
            raise Unsupported("its product is torch's")
        return Product(
            functools.partial(
                hnn_kernels.spike_linear if isinstance(weights, nn.Linear) else hnn_kernels.spike_conv2d,
                weight=weights.weight, bias=weights.bias, backend=self.backend,
            )
        )  # fmt: skip


class BuiltIn(Layers):
    """The hand-written kernel of the layer that others take by its definition."""

    def __init__(self, backend: str) -> None:
        super().__init__(backend)
        self.name += " built-in"

    def layer(self, wanted: Dynamics, features: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Layer:
        if not wanted.neuron:
            raise Unsupported("it is measured beside a definition")
        if wanted.neuron != "lif":
            raise Unsupported("only the LIF has a hand-written kernel")
        return super().layer(Dynamics(), features, device, dtype)._replace(dynamics=wanted)


PROVIDERS = (
    *(Own(backend) for backend in ("cpu", "cuda", "triton", "reference")),
    *(BuiltIn(backend) for backend in ("cpu", "cuda", "triton")),
)
