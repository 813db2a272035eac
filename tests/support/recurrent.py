"""Recurrent layers, and the plain loop that defines them."""

import torch
from torch import Tensor, nn

import hnn_kernels
from hnn_kernels import IIR, neurons
from hnn_kernels.nn import LIF, Neuron, Recurrent, SpikeLinear
from hnn_kernels.state import state_dtype
from support.defined import adaptive

FEATURES = 7
SHAPE = (6, 3, FEATURES)
# By name: neurons on a backend.
NEURONS = {
    "filter": lambda backend, **o: LIF(0.8, learn=("decay", "threshold"), backend=backend, **o),
    "one step": lambda backend, **o: LIF(
        0.8, reset_grad="one_step", learn=("reset_decay",), shape=(FEATURES,), backend=backend, **o
    ),
    "subtract": lambda backend, **o: LIF(
        0.8, reset="subtract", reset_grad="detach", surrogate="arctan", backend=backend, **o
    ),
    "zero": lambda backend, **o: LIF(
        0.8, reset="zero", surrogate="triangle", learn=("decay",), shape=(FEATURES,), backend=backend, **o
    ),
    "synapse": lambda backend, **o: LIF(
        0.8, reset="none", synapse=IIR((0.4,), (0.7, 0.2)), learn=("synapse",), backend=backend, **o
    ),
    "axon": lambda backend, **o: LIF(
        0.8, axon=IIR.dual_exponential(4, 1), learn=("axon", "decay"), shape=(FEATURES,), backend=backend, **o
    ),
    "iir": lambda backend: hnn_kernels.nn.IIR((0.4, 0.1), (0.7, 0.2), learn=True, backend=backend),
}
DEFINED = {
    "plif": lambda backend, **o: Neuron(neurons.plif, learn=("w",), backend=backend, **o),
    "two outputs": lambda backend, **o: Neuron(adaptive, decay=0.8, beta=0.2, rho=0.7, learn=("decay", "rho"),
                                               shape=(FEATURES,), backend=backend, **o),
}  # fmt: skip
# By name: what comes back to the neurons.
WEIGHTS = {
    "matrix": lambda dtype: nn.Linear(FEATURES, FEATURES, dtype=dtype),
    "no bias": lambda dtype: nn.Linear(FEATURES, FEATURES, bias=False, dtype=dtype),
    "spikes": lambda dtype: SpikeLinear(FEATURES, FEATURES, dtype=dtype),
    "module": lambda dtype: nn.Sequential(nn.Linear(FEATURES, FEATURES, dtype=dtype), nn.Tanh()),
    "number": lambda dtype: 0.3,
    "vector": lambda dtype: nn.Parameter(0.4 * torch.randn(FEATURES, dtype=dtype)),
}
# Those that are modules, whose currents the plain loop takes from the same module.
MODULES = ("matrix", "no bias", "spikes", "module")


def layer(neuron: str, weight: str, backend: str | None, dtype: torch.dtype = torch.float32, **options) -> Recurrent:
    """A recurrent layer whose parameters follow from the names."""
    torch.manual_seed(5)
    made = (NEURONS | DEFINED)[neuron](backend, **options).to(state_dtype(dtype))
    return Recurrent(made, WEIGHTS[weight](dtype))


def current(shape=SHAPE, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    """A current under which the neurons spike about three times in ten."""
    generator = torch.Generator().manual_seed(seed)
    return (0.9 * torch.randn(shape, generator=generator, dtype=torch.float64) + 0.4).to(dtype)


def tensors(values) -> list[Tensor]:
    """The tensors in outputs and states, in their order."""
    return [value for value in torch.utils._pytree.tree_leaves(values) if isinstance(value, Tensor)]


def loop(made: Recurrent, x: Tensor, state=None, steps: int | None = None):
    """The definition: a call of the neurons per step, whose current has the weight's part of the last output in it."""
    out = torch.zeros_like(x[0] if steps is None else x) if state is None else state[0].to(x.dtype)
    after = None if state is None else state[1]
    outs = []
    for one in x.unbind(0) if steps is None else [x] * steps:
        part = made.weight(out) if isinstance(made.weight, nn.Module) else made.weight * out
        sent, after = made.neurons((one + part)[None], state=after, return_state=True)
        out = sent[0] if isinstance(sent, Tensor) else sent[0][0]
        outs.append(sent)
    joined = torch.utils._pytree.tree_map(lambda *each: torch.cat(each), *outs)
    return joined, (out.to(state_dtype(x.dtype)), after)


def gradients(made: Recurrent, x: Tensor, run=None, **options) -> dict[str, Tensor]:
    """The gradients of the current and the parameters, for random cotangents of outputs and states."""
    x = x.detach().requires_grad_()
    found = (run or made)(*(() if run is None else (made,)), x, **options)
    generator = torch.Generator().manual_seed(1)
    results = tensors(found)
    cotangents = [torch.randn(r.shape, generator=generator, dtype=torch.float64).to(r) for r in results]
    live = [(r, g) for r, g in zip(results, cotangents, strict=True) if r.requires_grad]
    leaves = {"current": x, **dict(made.named_parameters())}
    grads = torch.autograd.grad([r for r, _ in live], list(leaves.values()), [g for _, g in live], allow_unused=True)
    return {name: g for (name, _), g in zip(leaves.items(), grads, strict=True) if g is not None}
