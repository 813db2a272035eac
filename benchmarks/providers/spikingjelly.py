"""SpikingJelly 2: the LIF in each of its implementations, and FlexSN, which generates a kernel from a user's step.

Its products with spikes are CUDA kernels of dense layers.
"""

import importlib.util
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from hnn_kernels import IIR, SURROGATES

from ..core.definitions import DEFINITIONS
from ..core.layer import Layer, Product, Unsupported, Weights, axon_filter
from ..core.operations import Dynamics
from .helpers import Compiled, Peer, no_axon
from .loops import Spike, fire


def surrogate_function(name: str, width: float) -> nn.Module:
    """SpikingJelly's surrogate that equals ours of this name and width. It has all of ours, with the same area."""
    from spikingjelly.activation_based import surrogate

    return {
        "gaussian": lambda: surrogate.Erf(1 / (math.sqrt(2) * width)),
        "sigmoid": lambda: surrogate.Sigmoid(1 / width),
        "arctan": lambda: surrogate.ATan(2 / (math.pi * width)),
        "fast_sigmoid": lambda: surrogate.SoftSign(1 / width),
        "triangle": lambda: surrogate.PiecewiseQuadratic(1 / width),
        "rectangle": lambda: surrogate.Rect(1 / (2 * width)),
    }[name]()


class SpikingJelly(Peer):
    """``functional.lif_multi_step`` with explicit state, the function that ``LIFNode(step_mode="m")`` calls.

    The node itself would keep its state in the dtype of the current, and in bfloat16 run the loop instead of a kernel.

    Args:
        implementation: ``torch``, ``triton`` or ``cuda`` (native kernels). The library chooses one per process and
            device, by the environment variable ``SJ_LIF_CUDA_IMPLEMENTATION`` or by what is available. A provider
            measures only its own.
    """

    package = "spikingjelly"

    def __init__(self, implementation: str) -> None:
        self.implementation = implementation
        self.name = f"spikingjelly {implementation}"

    def layer(self, wanted: Dynamics, features: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Layer:
        self.version()
        no_axon("SpikingJelly's LIF", wanted)
        if wanted.reset == "none" or not 0 < wanted.decay < 1:
            raise Unsupported("SpikingJelly's LIF has a reset, and a decay between 0 and 1")
        from spikingjelly.activation_based import functional

        self.check_device(device)
        zero = wanted.reset == "zero"
        spike = surrogate_function(wanted.surrogate, wanted.width)
        detach = wanted.reset_grad == "detach"

        def run(current: Tensor) -> Tensor:
            train, _, _ = functional.lif_multi_step(
                current, torch.zeros_like(current[0], dtype=torch.float32), tau=1 / (1 - wanted.decay),
                decay_input=False, v_threshold=wanted.threshold, v_reset=0.0 if zero else None,
                surrogate_function=spike, detach_reset=detach,
            )  # fmt: skip
            return train

        dynamics = wanted._replace(
            reset="zero" if zero else "subtract", reset_decay=None, reset_grad="detach" if detach else "full"
        )
        return Layer(run, dynamics)

    def check_device(self, device: torch.device) -> None:
        """Check that the library runs this implementation.

        Raises:
            Unsupported: it runs another one on this device, in this process.
        """
        if device.type == "cpu":
            if self.implementation != "torch":
                raise Unsupported("it is for CUDA devices")
            return
        from spikingjelly.activation_based import functional

        found = functional.neuron_implementation("lif", device)
        if found["implementation"] != self.implementation:
            why = found["unavailable"].get(
                self.implementation, f"SJ_LIF_CUDA_IMPLEMENTATION={self.implementation} chooses this one"
            )
            raise Unsupported(f"the library runs {found['implementation']!r} in this process: {why}")


class NativeSpikingJelly(SpikingJelly):
    """The native kernels, which also have a sparse product with spikes: ``functional.sparse_linear``."""

    def __init__(self) -> None:
        super().__init__("cuda")

    def product(self, weights: Weights, device: torch.device) -> Product:
        self.version()
        if device.type == "cpu":
            self.check_device(device)
        if not isinstance(weights, nn.Linear):
            raise Unsupported("its product with spikes is that of a dense layer")
        if importlib.util.find_spec("spikingjelly._ops.spike_linear._C") is None:
            raise Unsupported("without its native extension its product with spikes is torch's")
        from spikingjelly.activation_based import functional

        def run(train: Tensor) -> Tensor:
            return functional.sparse_linear(train, weights.weight, weights.bias, "sparse")

        return Product(run, note="not yet run on a GPU with this suite")


class FlexSN(Peer):
    """``FlexSN`` with the layer's step: a generated Triton kernel on CUDA, a loop over ``current[t]`` elsewhere.

    With this suite its generated kernels were run in Triton's interpreter only.
    """

    name, package, defines = "spikingjelly flexsn", "spikingjelly", True

    def layer(self, wanted: Dynamics, features: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Layer:
        self.version()
        if dtype != torch.float32:
            raise Unsupported("FlexSN keeps its state in the dtype of the current")
        if wanted.reset != "filter" or wanted.reset_grad != "full":
            raise Unsupported("for other resets the suite measures the library's LIF")
        from spikingjelly.activation_based.neuron import FlexSN as Neurons

        axon, learnt = axon_filter(wanted, features, device)
        core = defined_step(wanted.neuron) if wanted.neuron else step(wanted, axon)
        states = 2 if axon is None else 4  # the definitions have two as well
        neurons = Neurons(core, states, tuple(torch.zeros(1, device=device) for _ in range(3 if learnt else 0)))

        def run(current: Tensor) -> Tensor:
            zero = torch.zeros_like(current[0])
            # FlexSN takes one coefficient for all neurons, or one for each neuron of each element of the batch.
            static = tuple(c.expand_as(zero) for part in learnt for c in part.unbind(0))
            (train,), _ = neurons.multi_step_functional_forward((current,), (zero,) * states, static_inputs=static)
            return train

        return Layer(run, wanted, learnt, note="" if device.type == "cpu" else "not yet run on a GPU with this suite")


def defined_step(name: str) -> Callable[..., tuple[Tensor, ...]]:
    """One step of a definition with two states, as :func:`step`."""
    definition = DEFINITIONS[name]
    of_definition = definition.step(fire(definition.surrogate, definition.width))

    def core(x, v, other):  # FlexSN takes no *states
        spike, (v, other) = of_definition(x, v, other)
        return spike, v, other

    return core


def step(wanted: Dynamics, axon: IIR | None) -> Callable[..., tuple[Tensor, ...]]:
    """One step of ``wanted``, from the current, the states and learnt coefficients to the output and the new states.

    It is a function of tensors that holds no module and no tensor, as FlexSN requires. FlexSN loses the gradient of a
    state that is returned unchanged, hence the products with 1. The library's own surrogates would become calls of
    ``pow``.
    """
    density, width = SURROGATES[wanted.surrogate].density, wanted.width
    decay, reset_decay, threshold = wanted.decay, wanted.reset_decay, wanted.threshold

    def membrane(x, v, r):
        v = decay * v + x - threshold * r
        fires = Spike.apply(v - threshold, density, width)
        return fires, v, reset_decay * r + fires

    def learnt_axon(x, v, r, last, before, first, second, gain):
        fires, v, r = membrane(x, v, r)
        filtered = gain * fires + first * last + second * before
        return filtered, v, r, filtered * 1.0, last * 1.0

    def fixed_axon(x, v, r, last, before):
        (first, second), (gain,) = axon
        return learnt_axon(x, v, r, last, before, first, second, gain)

    if axon is None:
        return membrane
    return learnt_axon if wanted.learnt else fixed_axon


_LOOP, _FLEX = SpikingJelly("torch"), FlexSN()
PROVIDERS = (
    _LOOP, SpikingJelly("triton"), NativeSpikingJelly(), Compiled(_LOOP), _FLEX, Compiled(_FLEX),
)  # fmt: skip
