"""This project's backends: the kernels, and the reference, the plain loop that defines them.

The C++ kernels of the CPU are there once for each instruction set. The provider ``cpu`` takes the one that a call
takes, ``cpu avx2`` and its like take another one, and so one run has them all.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import hnn_kernels
from hnn_kernels import _extensions

from ..core.layer import Layer, Product, Unsupported, Weights, axon_filter, lif, lif_step, recurrent, recurrent_weight
from ..core.operations import Dynamics


@functools.cache
def usual_set() -> str:
    """The instruction set that a call takes. It is asked for before any provider changes it."""
    return _extensions.cpu.build_info()["instruction_set"]


class Layers:
    """A backend of :func:`hnn_kernels.lif`.

    Args:
        backend: its name.
        instruction_set: that of the CPU's kernels; None for the one that a call takes.
    """

    defines = recurs = True

    def __init__(self, backend: str, instruction_set: str | None = None) -> None:
        self.backend, self.instruction_set = backend, instruction_set
        self.name = f"{backend} {instruction_set}" if instruction_set else backend

    def version(self) -> str:
        return hnn_kernels.__version__

    def layer(self, wanted: Dynamics, features: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Layer:
        choose = self._chooser(device)
        if wanted.neuron and self.backend == "cuda":
            raise Unsupported("on a GPU Triton has the neurons by definition")
        weight = recurrent_weight(wanted, features, device)
        if weight is not None:
            layer = recurrent(wanted, weight, self.backend)

            def run_recurrent(current: Tensor) -> Tensor:
                choose()
                return layer(current)

            # A product is rounded by the size of the batch, which is smaller where the layer is checked.
            exact = device.type == "cpu" and wanted.recurrence == "own"
            return Layer(run_recurrent, wanted, (weight,), exact=exact)
        axon, learnt = axon_filter(wanted, features, device)

        def run(current: Tensor) -> Tensor:
            choose()
            return lif(current, wanted, axon, self.backend)

        def step(current: Tensor, state: Any) -> tuple[Tensor, Any]:
            choose()
            return lif_step(current, state, wanted, axon, self.backend)

        # On a GPU spikes may differ within ulps of the threshold: see "Numbers" in ARCHITECTURE.md.
        return Layer(run, wanted, learnt, exact=device.type == "cpu", step=step)

    def _chooser(self, device: torch.device) -> Callable[[], None]:
        """A function that takes the instruction set, to be called first.

        Raises:
            Unsupported: this backend, or this instruction set, is not for ``device``.
        """
        found = hnn_kernels.backends()[self.backend]
        if "any" not in found.devices and device.type not in found.devices:
            raise Unsupported(found.reason or f"runs on {', '.join(found.devices)}, not on {device.type}")
        if self.backend in ("cuda", "triton") and device.type == "cpu":
            raise Unsupported("on the CPU it is only emulated, for tests")
        if self.backend != "cpu":
            return lambda: None
        # Backward takes it, too: no other provider runs before it.
        return functools.partial(_extensions.cpu.use_instruction_set, self._chosen())

    def _chosen(self) -> str:
        usual, there = usual_set(), _extensions.cpu.instruction_sets()
        if self.instruction_set == usual:
            raise Unsupported("it is the one that the provider cpu takes")
        if self.instruction_set not in (None, *there):
            raise Unsupported(f"this processor runs {', '.join(there)}")
        return self.instruction_set or usual


class Own(Layers):
    """A backend's layers, and its products with spikes."""

    def product(self, weights: Weights, device: torch.device) -> Product:
        choose = self._chooser(device)
        if self.backend == "reference":
            raise Unsupported("its product is torch's")
        multiply = functools.partial(
            hnn_kernels.spike_linear if isinstance(weights, nn.Linear) else hnn_kernels.spike_conv2d,
            weight=weights.weight, bias=weights.bias, backend=self.backend,
        )  # fmt: skip

        def run(train: Tensor) -> Tensor:
            choose()
            return multiply(train)

        return Product(run)


class BuiltIn(Layers):
    """The hand-written kernel of the layer that others take by its definition."""

    def __init__(self, backend: str, instruction_set: str | None = None) -> None:
        super().__init__(backend, instruction_set)
        self.name += " built-in"

    def layer(self, wanted: Dynamics, features: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Layer:
        if not wanted.neuron:
            raise Unsupported("it is measured beside a definition")
        if wanted.neuron != "lif":
            raise Unsupported("only the LIF has a hand-written kernel")
        return super().layer(Dynamics(), features, device, dtype)._replace(dynamics=wanted)


PROVIDERS = (
    Own("cpu"),
    *(Own("cpu", name) for name in ("avx512", "avx2", "default")),
    *(Own(backend) for backend in ("cuda", "triton", "reference")),
    BuiltIn("cpu"),
    BuiltIn("cpu", "avx2"),
    BuiltIn("cuda"),
    BuiltIn("triton"),
)
