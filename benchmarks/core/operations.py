"""The operations that the suite measures: a layer of neurons alone, behind weights, or in a training step; products."""

from collections.abc import Mapping
from typing import NamedTuple

DTYPES = ("float32", "tf32", "bfloat16")  # tf32: float32 with TensorFloat-32 products; bfloat16: under autocast
# In a training step, forward includes the loss and backward the optimizer, so that both together are the step.
MODES = ("forward", "backward", "both")


class Dynamics(NamedTuple):
    """The computation of a layer of neurons, with the arguments of :func:`hnn_kernels.lif`.

    Attributes:
        decay, reset, reset_decay, threshold, surrogate, reset_grad: as for :func:`hnn_kernels.lif`.
        width: the surrogate's width, ``sigma`` of :func:`hnn_kernels.lif`.
        axon: filter the spikes with the paper's dual exponential, time constants of 4 steps and 1 step.
        learnt: train the axon's coefficients, one set per neuron.
        recurrence: ``"matrix"`` where the spikes of a step come back to all neurons at the next one, ``"own"`` where
            each neuron's come back to itself alone; empty for none.
        neuron: the name of a definition in ``definitions.py``, which then has all of the dynamics; empty for the LIF.
    """

    decay: float = 0.7
    reset: str = "filter"
    reset_decay: float | None = 0.7
    threshold: float = 1.0
    surrogate: str = "gaussian"
    width: float = 0.4
    reset_grad: str = "full"
    axon: bool = False
    learnt: bool = False
    recurrence: str = ""
    neuron: str = ""

    def differences(self, wanted: "Dynamics") -> str:
        """The fields that differ from ``wanted``, with their values, for a note; empty if there are none."""
        changed = {name: value for name, value in self._asdict().items() if value != getattr(wanted, name)}
        if self.reset != "filter":
            changed.pop("reset_decay", None)
        return ", ".join(
            f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in changed.items()
        )


class Op(NamedTuple):
    """An operation.

    Attributes:
        name: its name in records and on the command line.
        title: its name in tables.
        dynamics: the dynamics that every provider is asked for.
        kind: ``"neuron"``, the layer alone; ``"linear"``, Linear before it; ``"step"``, a training step of a network;
            ``"product"``, weights behind a spike train, without neurons; ``"example"``, a training step of a network of
            another library, as it is and with our kernels.
        elements_forward, elements_backward: the values per neuron-step that a call must move at least. Filters add
            none: their state stays in registers or caches, and coefficients and their gradients are a T * B-th of the
            current. Both are 0 where matrix products take most of the time. The floor is then the products alone,
            which have a row of their own.
        formula: the tensors, or the products, that are counted.
        architecture: the network of a ``"step"``, in the paper's notation.
        stepping: a call per step, with the state in and out, where a library has such calls.
        density: the spikes per value of the train of a ``"product"``.
        library: the provider whose network an ``"example"`` is.
        effort: the part of the time for a measurement that is enough, as calls differ little.
    """

    name: str
    title: str
    dynamics: Dynamics
    kind: str
    elements_forward: int = 2  # reads the current, writes the train
    elements_backward: int = 3  # reads the current and the train's gradient, writes the current's
    formula: str = "x, s | x, grad s, grad x"
    architecture: str = ""
    stepping: bool = False
    density: float = 0.0
    library: str = ""
    effort: float = 1.0

    @property
    def layers(self) -> int:
        """The number of spiking layers."""
        return max(1, sum(part.startswith("S") for part in self.architecture.split("-")))

    @property
    def has_floor(self) -> bool:
        """True if matrix products stand around the neurons. They are measured alone, too."""
        return self.kind in ("linear", "step")


_PRODUCTS = {"elements_forward": 0, "elements_backward": 0, "formula": "x W | grad W, W grad"}
_AXON, _LEARNT = Dynamics(axon=True), Dynamics(axon=True, learnt=True)
_MLP, _CNN = "S784-S500-S10", "S32C3-S32C3-S64C3-P2-S64C3-P2-S512-S10"
DENSITIES = (0.05, 0.1, 0.25, 0.5)

# The networks of examples.py.
_EXAMPLES = (
    ("converted_spikingjelly_mlp", "Training step of SpikingJelly's perceptron, converted", "spikingjelly torch"),
    ("converted_spikingjelly_cnn", "Training step of SpikingJelly's CNN, converted", "spikingjelly torch"),
    ("converted_sinabs_mlp", "Training step of a perceptron of sinabs, converted", "sinabs"),
    ("converted_norse_mlp", "Training step of a perceptron of Norse, converted", "norse"),
    ("converted_tutorial", "Training step of snnTorch's tutorial 5, each step converted", "snntorch"),
    ("unrolled_tutorial", "Training step of snnTorch's tutorial 5, a loop unrolled", "snntorch"),
    ("unrolled_hidden", "Training step of that network with its states inside, unrolled", "snntorch"),
    ("unrolled_train", "Training step of a loop over an input that changes, unrolled", "snntorch"),
    ("unrolled_convolution", "Training step of snnTorch's tutorial 6, a loop unrolled", "snntorch"),
)

# The list of operations. `SUITES` of cases.py gives each its sizes.
OPS: Mapping[str, Op] = {
    op.name: op
    for op in (
        Op("lif", "LIF", Dynamics(), "neuron"),
        Op("lif_axon", "LIF with a dual-exponential axon", _AXON, "neuron"),
        Op("lif_axon_learnt", "LIF with a dual-exponential axon learnt per neuron", _LEARNT, "neuron"),
        Op("lif_stepping", "LIF, a call per step with the state in and out", Dynamics(), "neuron", stepping=True),
        Op("lif_definition", "LIF by its definition", Dynamics(neuron="lif"), "neuron"),
        Op("adaptive_definition", "A neuron of two states by its definition", Dynamics(neuron="adaptive"), "neuron"),
        Op("recurrent", "Recurrent LIF, all to all", Dynamics(recurrence="matrix"), "neuron"),
        Op("recurrent_own", "Recurrent LIF, each neuron to itself", Dynamics(recurrence="own"), "neuron"),
        Op("conv", "LIF on the feature maps of a convolution", Dynamics(), "neuron"),
        Op("linear_lif", "Linear and LIF", Dynamics(), "linear", **_PRODUCTS),
        # The benchmark of open-neuromorphic.org ("SNN library benchmarks"), with a synchronisation before the clock is
        # read, one spike rate for all libraries, and a gradient of the input.
        Op("open_neuromorphic", "Open Neuromorphic's benchmark: Linear and LIF", Dynamics(), "linear", **_PRODUCTS),
        Op("mlp_step", "Training step of the paper's MLP", _AXON, "step", **_PRODUCTS, architecture=_MLP),
        Op("mlp_lif_step", "Training step of that MLP without axons", Dynamics(), "step", **_PRODUCTS,
           architecture=_MLP),
        Op("cnn_step", "Training step of the paper's CNN", _AXON, "step", **_PRODUCTS, architecture=_CNN),
        Op("cnn_lif_step", "Training step of that CNN without axons", Dynamics(), "step", **_PRODUCTS,
           architecture=_CNN),
        *(Op(f"spike_products_{100 * d:.0f}", f"Products of weights with {100 * d:.0f} % spikes", Dynamics(), "product",
             **_PRODUCTS, density=d, effort=0.75) for d in DENSITIES),
        *(Op(name, title, Dynamics(), "example", **_PRODUCTS, library=library) for name, title, library in _EXAMPLES),
    )
}  # fmt: skip

# The titles of the operations that the commands in studies/ measure. They are not part of the suite, but share the form
# of its records.
STUDIES: Mapping[str, str] = {
    f"training_step_{input_}": f"Training step of SNN-IIR's MLP, {input_} input" for input_ in ("direct", "axon")
}


def title(op: str) -> str:
    """The title of the operation called ``op``; ``op`` itself if it is no longer measured."""
    return OPS[op].title if op in OPS else STUDIES.get(op, op)


def counted(op: str) -> str:
    """A sentence about the bytes, the floor or the rows of the operation called ``op``; empty if it is not known."""
    if op in STUDIES:
        return (
            "*products* is the matrix products of the step alone, *ours* is the step with this project's kernels, and "
            "*ancestor* is the same network in the way of SNN-IIR, the program on which the paper's code is built: "
            "each layer computes one time step after the other."
        )
    if op not in OPS:
        return ""
    if OPS[op].kind == "example":
        how = "unroll" if op.startswith("unrolled") else "convert"
        return (
            f"*{OPS[op].library}* is the network as it is, and ours is what `hnn_kernels.{how}` makes of it. A case is "
            "the steps, the batch and the features of the input."
        )
    if OPS[op].kind == "product":
        return (
            "*torch* is its Linear or Conv2d on the same train, with all of the processor's instructions. Backward is "
            "the gradient of the weight and the bias. A case is the train's shape and the number of outputs; "
            "convolutions have kernels of 3 x 3. A neuron-step is a value of the output."
        )
    what = "Values that must move per neuron-step" if OPS[op].elements_forward else "Matrix products, the floor"
    return f"{what}, forward | backward: {OPS[op].formula}."
