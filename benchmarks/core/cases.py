"""What is measured: operations, each a layer or a network around one, and the sizes and dtypes they are measured at."""

import math
from collections.abc import Iterable, Mapping
from itertools import product
from typing import NamedTuple

DTYPES = ("float32", "tf32", "bfloat16")  # tf32: float32 with TensorFloat-32 products; bfloat16: under autocast
# In a training step, forward includes the loss and backward the optimiser, so that both are the step.
MODES = ("forward", "backward", "both")


class Dynamics(NamedTuple):
    """What a layer of neurons computes, in the words of :func:`hnn_kernels.lif`."""

    decay: float = 0.7
    reset: str = "filter"
    reset_decay: float | None = 0.7
    threshold: float = 1.0
    surrogate: str = "gaussian"
    width: float = 0.4
    reset_grad: str = "full"
    axon: bool = False  # the paper's dual exponential of 4 and 1 steps behind the spikes
    learnt: bool = False  # its coefficients, per neuron

    def differences(self, wanted: "Dynamics") -> str:
        """Where this departs from ``wanted``, for a note beside a figure; empty where it does not."""
        changed = {name: value for name, value in self._asdict().items() if value != getattr(wanted, name)}
        if self.reset != "filter":
            changed.pop("reset_decay", None)
        return ", ".join(
            f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in changed.items()
        )


class Op(NamedTuple):
    """An operation.

    ``elements_forward`` and ``elements_backward`` must move per neuron-step, whatever filters are attached: the state
    stays in registers or caches, and coefficients and their gradients are a T * B-th of the current. They are 0 where
    matrix products are the greater part; the floor is then the products alone, which are a row of their own.
    """

    name: str
    title: str
    dynamics: Dynamics
    kind: str  # "neuron": the layer alone; "linear": Linear before it; "step": a training step of a network
    elements_forward: int = 2  # current read, train written
    elements_backward: int = 3  # current and gradient read, gradient written
    formula: str = "x, s | x, grad s, grad x"
    architecture: str = ""  # of a network, in the paper's notation


class Case(NamedTuple):
    """An operation at a size.

    Attributes:
        shape: time-major, ``[T, B, *features]``; of the images where the operation is a network's.
        brief: leave other libraries under ``torch.compile`` out, each of which takes a minute to compile.
    """

    op: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    brief: bool = False

    @property
    def name(self) -> str:
        """``"25x64x500"``."""
        return "x".join(map(str, self.shape))

    @property
    def neuron_steps(self) -> int:
        """T * B * N."""
        return math.prod(self.shape)


def sizes(name: str) -> tuple[int, ...]:
    """The shape of the case with this :attr:`Case.name`."""
    return tuple(map(int, name.split("x")))


PRODUCTS = {"elements_forward": 0, "elements_backward": 0, "formula": "x W | grad W, W grad"}
AXON, LEARNT = Dynamics(axon=True), Dynamics(axon=True, learnt=True)
MLP, CNN = "S784-S500-S10", "S32C3-S32C3-S64C3-P2-S64C3-P2-S512-S10"

OPS: Mapping[str, Op] = {
    op.name: op
    for op in (
        Op("lif", "LIF", Dynamics(), "neuron"),
        Op("lif_axon", "LIF with a dual-exponential axon", AXON, "neuron"),
        Op("lif_axon_learnt", "LIF with a dual-exponential axon learnt per neuron", LEARNT, "neuron"),
        Op("conv", "LIF on the feature maps of a convolution", Dynamics(), "neuron"),
        Op("linear_lif", "Linear and LIF", Dynamics(), "linear", **PRODUCTS),
        # open-neuromorphic.org, "SNN library benchmarks". There the clock was read without synchronisation, every
        # library had a spike rate of its own, and the input no gradient.
        Op("open_neuromorphic", "Open Neuromorphic's benchmark: Linear and LIF", Dynamics(), "linear", **PRODUCTS),
        Op("mlp_step", "Training step of the paper's MLP", AXON, "step", **PRODUCTS, architecture=MLP),
        Op("mlp_lif_step", "Training step of that MLP without axons", Dynamics(), "step", **PRODUCTS, architecture=MLP),
        Op("cnn_step", "Training step of the paper's CNN", AXON, "step", **PRODUCTS, architecture=CNN),
        Op("cnn_lif_step", "Training step of that CNN without axons", Dynamics(), "step", **PRODUCTS, architecture=CNN),
    )
}


def cases(op: str, shapes: Iterable[tuple[int, ...]], *dtypes: str, brief: bool = False) -> tuple[Case, ...]:
    """``op`` at every one of ``shapes`` in every one of ``dtypes``; float32 by default."""
    return tuple(Case(op, shape, dtype, brief) for shape, dtype in product(shapes, dtypes or DTYPES[:1]))


TYPICAL = ((25, 64, 500), (25, 64, 4096), (100, 32, 4096))
LARGE = ((25, 256, 16384), (100, 256, 16384))
# Over T, N and B, one axis at a time.
SCALING = (*((steps, 16, 2048) for steps in (4, 25, 100, 1000)), (25, 64, 512), (25, 64, 16384),
           (25, 1, 2048), (25, 256, 2048))  # fmt: skip
MAPS, LARGE_MAPS = ((4, 32, 32, 28, 28), (25, 32, 32, 28, 28)), ((25, 32, 32, 28, 28), (25, 256, 64, 28, 28))
LIBRARIES = tuple((500, 16, n) for n in (512, 4096, 16384))
DIGITS = ((25, 64, 784),)

SUITES: Mapping[str, tuple[Case, ...]] = {
    "quick": (
        *cases("lif", TYPICAL[:1], "float32", "bfloat16", brief=True),
        *cases("lif_axon_learnt", TYPICAL[:1], brief=True),
        *cases("conv", [(4, 8, 32, 28, 28)], brief=True),
        *cases("linear_lif", [(10, 64, 512)], brief=True),
        *cases("mlp_lif_step", [(4, 64, 784)], brief=True),
    ),
    "full": (
        *cases("lif", TYPICAL),
        *cases("lif", SCALING, brief=True),
        *cases("lif", TYPICAL[1:2], "bfloat16", brief=True),
        *cases("lif_axon", TYPICAL),
        *cases("lif_axon", TYPICAL[1:2], "bfloat16", brief=True),
        *cases("lif_axon_learnt", TYPICAL),
        *cases("conv", MAPS[:1]),
        *cases("conv", MAPS[1:], brief=True),
        *cases("linear_lif", [(25, 64, 512)], brief=True),
        *cases("linear_lif", [(25, 64, 2048)]),
        *cases("linear_lif", [(25, 64, 2048)], "bfloat16", brief=True),
        *cases("open_neuromorphic", LIBRARIES[:1], "float32", "bfloat16", brief=True),
        *cases("open_neuromorphic", LIBRARIES[1:], brief=True),
        *cases("mlp_step", DIGITS, brief=True),
        *cases("mlp_lif_step", DIGITS, "float32", "bfloat16", brief=True),
        *cases("cnn_step", [(25, 4, 3, 32, 32)], brief=True),
        *cases("cnn_lif_step", [(25, 4, 3, 32, 32)], brief=True),
    ),
    "gpu_quick": (
        *cases("lif", (TYPICAL[1], LARGE[0]), "float32", "bfloat16", brief=True),
        *cases("lif_axon_learnt", TYPICAL[1:2], brief=True),
        *cases("linear_lif", TYPICAL[1:2], *DTYPES, brief=True),
        *cases("mlp_lif_step", DIGITS, brief=True),
    ),
    "gpu": (
        *cases("lif", TYPICAL),
        *cases("lif", (*LARGE, *SCALING), brief=True),
        *cases("lif", (*TYPICAL[1:], *LARGE), "bfloat16", brief=True),
        *cases("lif_axon", TYPICAL),
        *cases("lif_axon", LARGE, "float32", "bfloat16", brief=True),
        *cases("lif_axon_learnt", TYPICAL),
        *cases("lif_axon_learnt", LARGE, "float32", "bfloat16", brief=True),
        *cases("conv", LARGE_MAPS, "float32", "bfloat16"),
        *cases("linear_lif", [(25, 64, n) for n in (512, 4096, 16384)], *DTYPES, brief=True),
        *cases("open_neuromorphic", LIBRARIES, *DTYPES),
        *cases("mlp_step", DIGITS, *DTYPES, brief=True),
        *cases("mlp_lif_step", DIGITS, *DTYPES, brief=True),
        *cases("cnn_step", [(25, 32, 3, 32, 32)], *DTYPES, brief=True),
        *cases("cnn_lif_step", [(25, 32, 3, 32, 32)], *DTYPES, brief=True),
    ),
}


def suite(device: str, quick: bool) -> tuple[Case, ...]:
    """The cases for ``"cpu"`` or ``"cuda"``."""
    name = {("cpu", True): "quick", ("cpu", False): "full", ("cuda", True): "gpu_quick", ("cuda", False): "gpu"}
    return SUITES[name[device, quick]]
