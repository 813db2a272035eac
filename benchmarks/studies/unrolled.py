"""Networks with a hand-written loop over time, as they are and unrolled: a training step of snnTorch's tutorials.

    python -m benchmarks.studies.unrolled [--network tutorial ...] [--repeats 15] [--csv FILE]

The networks are written as snnTorch's tutorials write them, with its neurons. A step is forward, a loss, backward, and
a fused Adam. The first call of the unrolled network, with its compilation, has a column of its own.

tutorial
    784-1000-10, 25 steps of a constant input, spikes and potentials recorded (tutorial 5).
hidden
    that network as ``nn.Sequential`` with ``init_hidden=True`` and ``utils.reset``.
train
    three dense layers and an input that changes with time, ``x[step]``.
convolution
    two blocks of convolution, pool and neurons (tutorial 6), whose convolutions take most of the time.
"""

import argparse
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

import hnn_kernels

from ..core.cases import Case
from ..core.memory import buffers
from ..core.timing import CPUClock, Plan, Variant, figures, interleave
from ..records.record import append, csv_file
from ..records.rows import Run

STEPS, BATCH = 25, 128
GAIN = 4.0  # with smaller initial weights the last layers of some would be silent
GRADIENT = 1e-5  # of the norm, between a loop and what it was unrolled to


class Tutorial(nn.Module):
    """The network of tutorial 5."""

    def __init__(self) -> None:
        super().__init__()
        import snntorch as snn

        self.fc1, self.lif1 = nn.Linear(784, 1000), snn.Leaky(beta=0.95)
        self.fc2, self.lif2 = nn.Linear(1000, 10), snn.Leaky(beta=0.95)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The spikes and the potentials of the last layer, ``[T, B, 10]``."""
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        spikes, potentials = [], []
        for _ in range(STEPS):
            spk1, mem1 = self.lif1(self.fc1(x), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spikes.append(spk2)
            potentials.append(mem2)
        return torch.stack(spikes, dim=0), torch.stack(potentials, dim=0)


class Hidden(nn.Module):
    """The network of tutorial 5 whose neurons keep their states."""

    def __init__(self) -> None:
        super().__init__()
        import snntorch as snn

        self.net = nn.Sequential(
            nn.Linear(784, 1000), snn.Leaky(beta=0.95, init_hidden=True),
            nn.Linear(1000, 10), snn.Leaky(beta=0.95, init_hidden=True, output=True),
        )  # fmt: skip

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The spikes and the potentials of the last layer, ``[T, B, 10]``."""
        from snntorch import utils

        utils.reset(self.net)
        spikes, potentials = zip(*(self.net(x) for _ in range(STEPS)), strict=True)
        return torch.stack(spikes), torch.stack(potentials)


class Train(nn.Module):
    """Three layers behind an input that changes with time."""

    def __init__(self) -> None:
        super().__init__()
        import snntorch as snn

        self.fcs = nn.ModuleList([nn.Linear(784, 300), nn.Linear(300, 300), nn.Linear(300, 10)])
        self.lifs = nn.ModuleList([snn.Leaky(beta=0.9, learn_beta=True) for _ in self.fcs])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The spikes ``[T, B, 10]`` and the last potential of the last layer."""
        mems = [lif.init_leaky() for lif in self.lifs]
        spikes = []
        for step in range(STEPS):
            spk = x[step]
            for i, (fc, lif) in enumerate(zip(self.fcs, self.lifs, strict=True)):
                spk, mems[i] = lif(fc(spk), mems[i])
            spikes.append(spk)
        return torch.stack(spikes), mems[-1]


class Convolution(nn.Module):
    """The network of tutorial 6."""

    def __init__(self) -> None:
        super().__init__()
        import snntorch as snn
        from snntorch import surrogate

        slope = surrogate.fast_sigmoid(slope=25)
        self.conv1, self.lif1 = nn.Conv2d(1, 12, 5), snn.Leaky(beta=0.5, spike_grad=slope)
        self.conv2, self.lif2 = nn.Conv2d(12, 64, 5), snn.Leaky(beta=0.5, spike_grad=slope)
        self.fc1, self.lif3 = nn.Linear(64 * 4 * 4, 10), snn.Leaky(beta=0.5, spike_grad=slope)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The spikes and the potentials of the last layer, ``[T, B, 10]``."""
        mem1, mem2, mem3 = self.lif1.init_leaky(), self.lif2.init_leaky(), self.lif3.init_leaky()
        spikes, potentials = [], []
        for _ in range(STEPS):
            spk1, mem1 = self.lif1(nn.functional.max_pool2d(self.conv1(x), 2), mem1)
            spk2, mem2 = self.lif2(nn.functional.max_pool2d(self.conv2(spk1), 2), mem2)
            spk3, mem3 = self.lif3(self.fc1(spk2.flatten(1)), mem3)
            spikes.append(spk3)
            potentials.append(mem3)
        return torch.stack(spikes), torch.stack(potentials)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "tutorial": (Tutorial, (BATCH, 784)),
    "hidden": (Hidden, (BATCH, 784)),
    "train": (Train, (STEPS, BATCH, 784)),
    "convolution": (Convolution, (32, 1, 28, 28)),
}


def loss(call: Callable[[Tensor], tuple[Tensor, Tensor]], x: Tensor) -> Tensor:
    """A loss over spikes and potentials."""
    spikes, potentials = call(x)
    labels = torch.arange(spikes.shape[1]) % 10
    return nn.functional.cross_entropy(spikes.sum(0), labels) + 0.1 * potentials.pow(2).mean()


def networks(name: str) -> tuple[nn.Module, hnn_kernels.Unrolled]:
    """A network, and an equal one that is unrolled."""
    import snntorch as snn

    make, _ = NETWORKS[name]
    snn.SpikingNeuron.init()  # a reset would go over the neurons of all networks
    torch.manual_seed(0)
    plain, unrolled = make(), make()
    with torch.no_grad():
        for module in plain.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.weight.mul_(GAIN)
    unrolled.load_state_dict(plain.state_dict())
    return plain, hnn_kernels.unroll(unrolled)


def inputs(name: str) -> Tensor:
    """A batch."""
    return torch.rand(NETWORKS[name][1], generator=torch.Generator().manual_seed(0))


def first_call(name: str, plain: nn.Module, unrolled: hnn_kernels.Unrolled) -> float:
    """The seconds of the first call of the unrolled network, forward.

    It exits if the two networks differ in more than the rounding of products explains, or nothing fires.
    """
    x = inputs(name)
    spikes = plain(x)[0]
    began = time.perf_counter()
    found = unrolled(x)[0]
    seconds = time.perf_counter() - began
    if unrolled.refused or not all(layer.unrolled for layer in unrolled.report):
        raise SystemExit(f"{name}: {unrolled.refused or unrolled.report}")
    differing = (spikes != found).float().mean().item()
    if differing > 1e-3 or not spikes.any():
        raise SystemExit(f"{name}: {differing:.2e} of the spikes differ, {spikes.mean():.2e} fire")
    loss(plain, x).backward()
    loss(unrolled, x).backward()
    for (parameter, one), other in zip(plain.named_parameters(), unrolled.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        error = (one.grad - other.grad).norm() / one.grad.norm()
        if not differing and not error <= GRADIENT:
            raise SystemExit(f"{name}: the gradients of {parameter} differ by {error:.2e}")
    return seconds


def step(call: nn.Module, x: Tensor) -> Variant:
    """A training step as a function for the timing loop."""
    optimizer = torch.optim.Adam(call.parameters(), lr=0.0, fused=True)  # so that the spike rate stays

    def run(lap: Callable[[], None]) -> None:
        optimizer.zero_grad()
        value = loss(call, x)
        lap()
        value.backward()
        optimizer.step()

    return run


def main() -> None:
    """Print the table. With ``--csv``, append its rows to a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=NETWORKS, nargs="+", default=list(NETWORKS), help="default: all")
    parser.add_argument("--repeats", type=int, default=15, help="turns of each variant (default: %(default)s)")
    parser.add_argument("--csv", type=csv_file, help="append the rows to this file")
    arguments = parser.parse_args()

    device = torch.device("cpu")
    run = Run(device)
    print("{device}, {threads} threads, torch {torch}, float32".format(**run.columns), f"T={STEPS}", sep=", ")
    print(f"{'network':>12} {'buffers':>8} {'loop ms':>9} {'unrolled ms':>12} {'x':>6} {'first call s':>13}")
    plan = Plan(turns=arguments.repeats, seconds=math.inf, most=1)
    rows = []
    for name in arguments.network:
        plain, unrolled = networks(name)
        first = first_call(name, plain, unrolled)
        x = inputs(name)
        variants = {"loop": step(plain, x), "unrolled": step(unrolled, x)}
        case = Case(f"unrolled_{name}", (STEPS, *(x.shape[1:] if name == "train" else x.shape)))
        for kept, before in buffers(device).items():
            laps, failed = interleave(variants, plan, CPUClock(), before)
            for error in failed.values():
                raise error
            measured = [
                run.row(
                    case, who, mode="both", buffers=kept, **figures(map(sum, calls)),
                    version=hnn_kernels.__version__ if who == "unrolled" else torch.__version__,
                    first_call_ms=first * 1e3 if who == "unrolled" else None,
                )
                for who, calls in laps.items()
            ]  # fmt: skip
            loop, own = (row.median_ms for row in measured)
            print(f"{name:>12} {kept:>8} {loop:9.1f} {own:12.1f} {loop / own:6.1f} {first:13.1f}", flush=True)
            rows += measured
    if arguments.csv:
        append(arguments.csv, rows)


if __name__ == "__main__":
    main()
