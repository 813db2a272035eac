"""A training step of the ancestor's MLP against its matrix products alone, and against the ancestor's way to write it.

    python -m benchmarks.studies.training_step [--input direct axon] [--repeats 15] [--csv FILE]

The network is 784-500-500-10, purely spiking, with an axon learnt per neuron, over 25 steps on batches of 64. A step is
forward, cross-entropy over the counts, backward, and Adam in one kernel, as training has it and for the ancestor's way
too. With direct input the first layer's weights meet an image once, and no gradient goes further; with axon input they
meet it at every step, and the coefficients of the axon before them need a gradient.

The products alone are those of the step, forward and backward, into memory that is kept. How it is measured, *reused*
and *fresh* buffers, and the records are those of the suite.
"""

import argparse
import itertools
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

import hnn_kernels
from hnn_models import HybridNetwork
from hnn_models.network.layers import INPUTS

from ..core.cases import Case
from ..core.machine import Machine
from ..core.memory import buffers
from ..core.timing import CPUClock, Plan, Variant, figures, interleave
from ..records.record import append
from .ancestor import Ancestor

ARCHITECTURE, SIZES, STEPS, BATCH = "S500-S500-S10", (784, 500, 500, 10), 25, 64
GAIN = 8.0  # with smaller initial weights the last layers would be silent, and nothing proved


def batch(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Images and labels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(BATCH, 1, 28, 28, generator=generator, dtype=dtype)
    return images, torch.randint(SIZES[-1], (BATCH,), generator=generator)


def networks(kind: str, dtype: torch.dtype) -> dict[str, nn.Module]:
    """Ours and the ancestor's, with the same parameters."""
    torch.manual_seed(0)
    network = HybridNetwork(ARCHITECTURE, (1, 28, 28), steps=STEPS, input=kind, learn=("axon",), gain=GAIN).to(dtype)
    return {"ours": network, "ancestor": Ancestor(network)}


def loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Eq. 2."""
    return nn.functional.cross_entropy(network(images), labels)


def gradients(network: nn.Module) -> dict[str, Tensor]:
    """Gradients by what they are of, the same names for both networks."""
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
    """Stop if the two networks differ in counts or gradients, or no neuron of the last layer fires.

    In float64, where no rounding decides a spike, they agree to rounding. In float32 a product over all steps may round
    differently from those of single steps, so a potential within ulps of the threshold may fall on either side of it,
    and what follows with it.
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
    """The matrix products of a step: of every layer forward, for its weights' gradient, and for its input's."""
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
    """A training step."""
    images, labels = batch(torch.float32)

    def run(lap: Callable[[], None]) -> None:
        optimizer.zero_grad()
        loss(network, images, labels).backward()
        optimizer.step()

    return run


def main() -> None:
    """Print the table, and append it to a CSV file where one is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", choices=INPUTS, nargs="+", default=INPUTS)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--csv", type=Path, help="append the rows to this file")
    arguments = parser.parse_args()

    device = torch.device("cpu")
    machine = Machine.here(device)
    print(f"{machine.device}, {machine.threads} threads, torch {machine.torch}, float32, T={STEPS}, batch {BATCH}")
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
                machine.row(
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
