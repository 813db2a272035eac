"""The cases of the suite: the operations, each at the sizes and dtypes at which it is measured."""

import math
from collections.abc import Iterable, Mapping
from itertools import product
from typing import NamedTuple

import torch

from .operations import DTYPES, OPS


class Case(NamedTuple):
    """An operation at one size.

    Attributes:
        op: the operation's name.
        shape: the shape ``[T, B, *features]`` of the current; for a training step and an example, T and the shape of
            the images; for a product, the shape ``[rows, in]`` or ``[B, C, H, W]`` of the train, and the number of
            outputs.
        dtype: one of ``DTYPES``.
        brief: leave out other libraries under ``torch.compile``, each of which takes a minute to compile.
    """

    op: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    brief: bool = False

    @property
    def name(self) -> str:
        """The size in words, such as ``"25x64x500"``."""
        return "x".join(map(str, self.shape))

    @property
    def neuron_steps(self) -> int:
        """The size of the current, T * B * N; for a product, the outputs at every place of the train."""
        if OPS[self.op].kind == "product":
            rows, _, *rest = self.shape
            return rows * math.prod(rest)
        return math.prod(self.shape)

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of the currents."""
        return torch.bfloat16 if self.dtype == "bfloat16" else torch.float32


def sizes(name: str) -> tuple[int, ...]:
    """The shape of the case that is called ``name``, such as ``"25x64x500"``."""
    return tuple(map(int, name.split("x")))


def cases(op: str, shapes: Iterable[tuple[int, ...]], *dtypes: str, brief: bool = False) -> tuple[Case, ...]:
    """A case for each of ``shapes`` and each of ``dtypes`` (float32 by default)."""
    return tuple(Case(op, shape, dtype, brief) for shape, dtype in product(shapes, dtypes or DTYPES[:1]))


TYPICAL = ((25, 64, 500), (25, 64, 4096), (100, 32, 4096))
LARGE = ((25, 256, 16384), (100, 256, 16384))
# T, N and B are varied, one at a time.
SCALING = (*((steps, 16, 2048) for steps in (4, 25, 100, 1000)), (25, 64, 512), (25, 64, 16384),
           (25, 1, 2048), (25, 256, 2048))  # fmt: skip
MAPS, LARGE_MAPS = ((4, 32, 32, 28, 28), (25, 32, 32, 28, 28)), ((25, 32, 32, 28, 28), (25, 256, 64, 28, 28))
LIBRARIES = tuple((500, 16, n) for n in (512, 4096, 16384))
RECURRING = ((25, 4, 32), TYPICAL[0])
DIGITS = ((25, 64, 784),)
STEPPING = ((25, 4, 32), TYPICAL[0])
# Those of the paper's networks: 25 steps of 64 for dense layers, 32 maps of a step for convolutions.
DENSE, CONVOLUTIONS = ((1600, 784, 500), (1600, 500, 500)), ((32, 32, 28, 28, 32), (32, 32, 28, 28, 64))
RECURRENT = ("recurrent", "recurrent_own")
DEFINED = ("lif_definition", "adaptive_definition")
SPIKE_PRODUCTS = tuple(name for name, op in OPS.items() if op.kind == "product")

# For the first times on a GPU: 2^22 neurons, that and an odd number, 2^15.
MANY, ODD, FEW = (256, 16384), (397, 10565), (64, 512)
FORMS = ("lif", "lif_axon", "lif_axon_learnt")

# Example networks, at the sizes of the libraries' pages.
_MLP, _CNN, _TUTORIAL = (50, 16, 100), (4, 8, 1, 28, 28), (25, 128, 784)
EXAMPLES = tuple(
    Case(op, shape, brief=True)
    for op, shape in (
        *((f"converted_{library}_mlp", _MLP) for library in ("spikingjelly", "sinabs", "norse")),
        ("converted_spikingjelly_cnn", _CNN),
        ("converted_tutorial", _TUTORIAL),
        *((f"unrolled_{network}", _TUTORIAL) for network in ("tutorial", "hidden", "train")),
        ("unrolled_convolution", (25, 32, 1, 28, 28)),
    )
)

SUITES: Mapping[str, tuple[Case, ...]] = {
    "quick": (
        *cases("lif", TYPICAL[:1], "float32", "bfloat16", brief=True),
        *cases("lif_axon_learnt", TYPICAL[:1], brief=True),
        *cases("lif_stepping", STEPPING[:1], brief=True),
        *cases("adaptive_definition", TYPICAL[:1], brief=True),
        *cases("conv", [(4, 8, 32, 28, 28)], brief=True),
        *cases("linear_lif", [(10, 64, 512)], brief=True),
        *cases("mlp_lif_step", [(4, 64, 784)], brief=True),
        *cases("spike_products_10", (*DENSE[:1], *CONVOLUTIONS[:1]), brief=True),
    ),
    "full": (
        *cases("lif", TYPICAL),
        *cases("lif", SCALING, brief=True),
        *cases("lif", TYPICAL[1:2], "bfloat16", brief=True),
        *cases("lif_axon", TYPICAL),
        *cases("lif_axon", TYPICAL[1:2], "bfloat16", brief=True),
        *cases("lif_axon_learnt", TYPICAL),
        *cases("lif_stepping", STEPPING, brief=True),
        *(case for op in DEFINED for case in cases(op, TYPICAL, brief=True)),
        *(case for op in RECURRENT for case in cases(op, RECURRING, brief=True)),
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
        *(case for op in SPIKE_PRODUCTS for case in cases(op, (*DENSE, *CONVOLUTIONS), brief=True)),
        *EXAMPLES,
    ),
    "gpu_first": tuple(
        case
        for size, steps in product((MANY, FEW, ODD), (25, 100))
        for op in FORMS
        for case in cases(op, [(steps, *size)], "float32", "bfloat16", brief=True)
    ),
    "gpu_quick": (
        *cases("lif", (TYPICAL[1], LARGE[0]), "float32", "bfloat16", brief=True),
        *cases("lif_axon_learnt", TYPICAL[1:2], brief=True),
        *cases("linear_lif", TYPICAL[1:2], *DTYPES, brief=True),
        *cases("mlp_lif_step", DIGITS, brief=True),
        *cases("spike_products_10", DENSE[:1], brief=True),
    ),
    "gpu": (
        *cases("lif", TYPICAL),
        *cases("lif", (*LARGE, *SCALING), brief=True),
        *cases("lif", (*TYPICAL[1:], *LARGE), "bfloat16", brief=True),
        *cases("lif_axon", TYPICAL),
        *cases("lif_axon", LARGE, "float32", "bfloat16", brief=True),
        *cases("lif_axon_learnt", TYPICAL),
        *cases("lif_axon_learnt", LARGE, "float32", "bfloat16", brief=True),
        *cases("lif_stepping", STEPPING, brief=True),
        *(case for op in DEFINED for case in cases(op, (*TYPICAL, *LARGE), "float32", "bfloat16", brief=True)),
        *(case for op in RECURRENT for case in cases(op, RECURRING, brief=True)),
        *cases("conv", LARGE_MAPS, "float32", "bfloat16"),
        *cases("linear_lif", [(25, 64, n) for n in (512, 4096, 16384)], *DTYPES, brief=True),
        *cases("open_neuromorphic", LIBRARIES, *DTYPES),
        *cases("mlp_step", DIGITS, *DTYPES, brief=True),
        *cases("mlp_lif_step", DIGITS, *DTYPES, brief=True),
        *cases("cnn_step", [(25, 32, 3, 32, 32)], *DTYPES, brief=True),
        *cases("cnn_lif_step", [(25, 32, 3, 32, 32)], *DTYPES, brief=True),
        *(case for op in SPIKE_PRODUCTS for case in cases(op, DENSE, brief=True)),
        *EXAMPLES,
    ),
}


def suite(device: str, quick: bool) -> tuple[Case, ...]:
    """The cases for a device type, ``"cpu"`` or ``"cuda"``."""
    name = {("cpu", True): "quick", ("cpu", False): "full", ("cuda", True): "gpu_quick", ("cuda", False): "gpu"}
    return SUITES[name[device, quick]]
