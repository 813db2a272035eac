"""A training step of SNN-IIR's MLP beside its matrix products alone, and beside the network in SNN-IIR's own way.

    python -m benchmarks.studies.training_step [--input direct axon] [--repeats 15] [--csv FILE]

SNN-IIR is the program of Fang et al. 2020 that the paper's code is built on. The record calls its way "ancestor".

The network is 784-500-500-10, purely spiking, with an axon learnt per neuron, over 25 steps on batches of 64. A step is
forward, cross-entropy over the spike counts, backward, and a fused Adam, for both ways. With direct input the first
layer's weights are applied to an image once, and no gradient goes further. With axon input they are applied at every
step, and the coefficients of the axon before them need a gradient.

The products alone are the step's matrix products, forward and backward, written into memory that is allocated before.
The timing, the *reused* and *fresh* buffers and the records are those of the suite.
"""

import argparse
import itertools
import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

import hnn_kernels
from hnn_models import HybridNetwork
from hnn_models.network.config import INPUTS

from ..core.cases import Case
from ..core.memory import buffers
from ..core.timing import CPUClock, Plan, Variant, figures, interleave
from ..records.record import append, csv_file
from ..records.rows import Run
from .ancestor import Ancestor

ARCHITECTURE, SIZES, STEPS, BATCH = "S500-S500-S10", (784, 500, 500, 10), 25, 64
GAIN = 8.0  # with smaller initial weights the last layers would be silent, and their agreement would prove nothing


def batch(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """A batch of random images and labels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(BATCH, 1, 28, 28, generator=generator, dtype=dtype)
    return images, torch.randint(SIZES[-1], (BATCH,), generator=generator)


def networks(kind: str, dtype: torch.dtype) -> dict[str, nn.Module]:
    """Our network, and SNN-IIR's way to write it, with the same parameters."""
    torch.manual_seed(0)
    network = HybridNetwork(ARCHITECTURE, (1, 28, 28), steps=STEPS, input=kind, learn=("axon",), gain=GAIN).to(dtype)
    return {"ours": network, "ancestor": Ancestor(network)}


def loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The loss, eq. 2 of the paper: the cross-entropy over the spike counts."""
    return nn.functional.cross_entropy(network(images), labels)


def gradients(network: nn.Module) -> dict[str, Tensor]:
    """The gradients by the names of their parameters, which are the same for both networks."""
    if isinstance(network, Ancestor):
        parts = {"axon": network.axons, "weight": network.weights, "bias": network.biases}
        return {f"{name} {i}": p.grad for name, list_ in parts.items() for i, p in enumerate(list_)}
    axons = [network.code.axon, *(layer.neurons.axon for layer in network.spiking[:-1])]
    found = {}
    for i, axon in enumerate(axon for axon in axons if axon is not None):
        found[f"axon {i}"] = torch.cat([axon.feedback.grad, axon.feedforward.grad])
    for i, layer in enumerate(network.spiking):
        found |= {f"weight {i}": layer.weights.weight.grad, f"bias {i}": layer.weights.bias.grad}
    return found


def agree(kind: str) -> None:
    """Exit if the two networks differ in counts or gradients, or if no neuron of the last layer fires.

    In float64, where no rounding decides a spike, they agree up to rounding. In float32 a product over all steps may
    round differently from products of single steps. So a potential within ulps of the threshold may fall on either side
    of it, and then all that depends on this spike differs.
    """
    for dtype, few, close in ((torch.float64, 0.0, 1e-12), (torch.float32, 1e-2, 1e-2)):
        images, labels = batch(dtype)
        ours, ancestor = networks(kind, dtype).values()
        counts = []
        for network in (ours, ancestor):
            loss(network, images, labels).backward()
            counts.append(network(images).detach())
        differing = (counts[0] != counts[1]).double().mean().item()
        if differing > few or not counts[0].any():
            raise SystemExit(
                f"{kind}, {dtype}: {differing:.2e} of the counts differ, their mean is {counts[0].mean():.2f}"
            )
        wanted = gradients(ancestor)
        for name, got in gradients(ours).items():
            error = (got - wanted[name]).norm() / wanted[name].norm()
            if not error <= close:
                raise SystemExit(f"{kind}, {dtype}: the gradients of {name} differ by {error:.2e}")


def products(kind: str) -> Variant:
    """The matrix products of a step: for each layer forward, and for the gradients of weights and input."""
    calls = []
    for layer, (before, after) in enumerate(itertools.pairwise(SIZES)):
        once = layer == 0 and kind == "direct"
        rows = BATCH if once else BATCH * STEPS
        x, grad = torch.rand(rows, before), torch.rand(rows, after)
        weights = torch.rand(after, before)
        calls += [partial(torch.mm, x, weights.t(), out=torch.empty_like(grad)),
                  partial(torch.mm, grad.t(), x, out=torch.empty_like(weights))]  # fmt: skip
        if not once:
            calls.append(partial(torch.mm, grad, weights, out=torch.empty_like(x)))

    def run(lap: Callable[[], None]) -> None:
        for call in calls:
            call()

    return run


def step(network: nn.Module, optimizer: torch.optim.Optimizer) -> Variant:
    """A training step of ``network`` as a function for the timing loop."""
    images, labels = batch(torch.float32)

    def run(lap: Callable[[], None]) -> None:
        optimizer.zero_grad()
        loss(network, images, labels).backward()
        optimizer.step()

    return run


def main() -> None:
    """Print the table. With ``--csv``, append its rows to a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", choices=INPUTS, nargs="+", default=INPUTS, help="the inputs (default: both)")
    parser.add_argument("--repeats", type=int, default=15, help="turns of each variant (default: %(default)s)")
    parser.add_argument("--csv", type=csv_file, help="append the rows to this file")
    arguments = parser.parse_args()

    device = torch.device("cpu")
    run = Run(device)
    print(
        "{device}, {threads} threads, torch {torch}, float32".format(**run.columns),
        f"T={STEPS}, batch {BATCH}",
        sep=", ",
    )
    print(f"{'input':>7} {'buffers':>8} {'products ms':>12} {'step ms':>8} {'x':>6} {'ancestor ms':>12} {'x':>6}")
    plan = Plan(turns=arguments.repeats, seconds=math.inf, most=5)
    rows = []
    for kind in arguments.input:
        agree(kind)
        case = Case(f"training_step_{kind}", (STEPS, BATCH, *SIZES))
        variants = {"products": products(kind)}
        for name, network in networks(kind, torch.float32).items():
            learnt = network.parameters()
            variants[name] = step(network, torch.optim.Adam(learnt, lr=1e-4, fused=True))
        for name, before in buffers(device).items():
            laps, failed = interleave(variants, plan, CPUClock(), before)
            for error in failed.values():
                raise error
            measured = [
                run.row(
                    case, who, buffers=name, version=hnn_kernels.__version__ if who == "ours" else torch.__version__,
                    **figures(map(sum, calls)),
                )
                for who, calls in laps.items()
            ]  # fmt: skip
            alone, own, ancestor = (row.median_ms for row in measured)
            print(f"{kind:>7} {name:>8} {alone:12.2f} {own:8.2f} {own / alone:6.2f} "
                  f"{ancestor:12.2f} {ancestor / own:6.1f}", flush=True)  # fmt: skip
            rows += measured
    if arguments.csv:
        append(arguments.csv, rows)


if __name__ == "__main__":
    main()
