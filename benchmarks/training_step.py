"""A training step of the ancestor's MLP against its matrix products alone, and against the ancestor's way to write it.

    python -m benchmarks.training_step [--input direct axon] [--repeats 15] [--csv FILE]

The network is 784-500-500-10, purely spiking, with an axon learnt per neuron, over 25 steps on batches of 64. A step is
forward, cross-entropy over the counts, backward, and Adam in one kernel, as training has it and for the ancestor's way
too. With direct input the first layer's weights meet an image once, and no gradient goes further; with axon input they
meet it at every step, and the coefficients of the axon before them need a gradient.

The products alone are those of the step, forward and backward, into memory that is kept. How it is measured, *reused*
and *fresh* buffers, and the records are as in :mod:`benchmarks.lif`.
"""

import argparse
import itertools
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.ancestor import Ancestor
from benchmarks.lif import give_back, interleave, record
from benchmarks.records import append
from hnn_models import HybridNetwork
from hnn_models.layers import INPUTS
from hnn_models.memory import keep_what_is_freed
from hnn_models.provenance import device_name

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


def products(kind: str) -> Callable[[], None]:
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

    def run() -> None:
        for call in calls:
            call()

    return run


def step(network: nn.Module, optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """A training step."""
    images, labels = batch(torch.float32)

    def run() -> None:
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

    device, threads = device_name(torch.device("cpu")), torch.get_num_threads()
    print(f"{device}, {threads} threads, torch {torch.__version__}, float32, T={STEPS}, batch {BATCH}")
    print(f"{'input':>7} {'buffers':>8} {'products ms':>12} {'step ms':>8} {'x':>6} {'ancestor ms':>12} {'x':>6}")
    rows = []
    keep_what_is_freed()
    for kind in arguments.input:
        agree(kind)
        variants = {"products": products(kind)}
        for name, network in networks(kind, torch.float32).items():
            learnt = network.parameters()
            variants[name] = step(network, torch.optim.Adam(learnt, lr=1e-4, fused=True))
        for fresh in (False, True):
            seconds = interleave(variants, arguments.repeats, give_back if fresh else lambda: None)
            alone, own, ancestor = (statistics.median(seconds[name]) for name in ("products", "ours", "ancestor"))
            buffers = "fresh" if fresh else "reused"
            print(f"{kind:>7} {buffers:>8} {alone * 1e3:12.2f} {own * 1e3:8.2f} {own / alone:6.2f} "
                  f"{ancestor * 1e3:12.2f} {ancestor / own:6.1f}", flush=True)  # fmt: skip
            shape = "x".join(map(str, (STEPS, BATCH, *SIZES)))
            case = {"op": f"training_step_{kind}", "case": shape, "buffers": buffers}
            neuron_steps = STEPS * BATCH * sum(SIZES[1:])
            rows += [record(case, name, values, neuron_steps) for name, values in seconds.items()]
    if arguments.csv:
        append(arguments.csv, rows)


if __name__ == "__main__":
    sys.exit(main())
