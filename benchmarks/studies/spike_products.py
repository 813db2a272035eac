"""Products with spikes over their density, beside torch's products: forward, and the gradient of the weight.

    python -m benchmarks.studies.spike_products [--density 0.05 0.1 0.25 0.5] [--turns 9] [--threads 1] [--csv FILE]

The sizes are those of the paper's networks: batches of 64 over 25 steps for dense layers, 32 images of 28 x 28 for
convolutions of 3 x 3. Forward counts the spikes, keeps them as bits and chooses the way; backward reads the bits.
HNN_CPU_ISA chooses our kernels' instruction set. To compare as on a processor with AVX2 alone, set
MKL_ENABLE_INSTRUCTIONS=AVX2 and ONEDNN_MAX_CPU_ISA=AVX2, too. The figures are medians, and gains over torch's product.
"""

import argparse
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

import hnn_kernels
from hnn_kernels.nn import SpikeConv2d, SpikeLinear

from ..core.cases import Case
from ..core.operations import DENSITIES
from ..core.timing import CPUClock, Plan, Variant, figures, interleave
from ..records.record import append, csv_file
from ..records.rows import Row, Run

ROWS, IMAGES, SIDE = 25 * 64, 32, 28
LINEAR = ((784, 500), (500, 500), (500, 10))
CONVOLUTIONS = ((32, 32), (32, 64))
MODES = ("forward", "backward")


def variant(layer: nn.Module, train: Tensor, grad: Tensor) -> Variant:
    """A function for the timing loop: forward, and backward to the weight and the bias."""
    leaves = tuple(layer.parameters())

    def run(lap: Callable[[], None]) -> None:
        out = layer(train)
        lap()
        torch.autograd.grad(out, leaves, grad)

    return run


def layers(sizes: tuple[int, int], convolution: bool) -> dict[str, nn.Module]:
    """Our layer and torch's, with the same weights. The convolution's are channels-last."""
    ours: nn.Module = SpikeConv2d(*sizes, 3) if convolution else SpikeLinear(*sizes)
    theirs: nn.Module = nn.Conv2d(*sizes, 3) if convolution else nn.Linear(*sizes)
    theirs.load_state_dict(ours.state_dict())
    if convolution:
        for layer in (ours, theirs):
            layer.to(memory_format=torch.channels_last)
    return {"cpu": ours, "torch": theirs}


def measure(run: Run, sizes: tuple[int, int], convolution: bool, density: float, turns: int) -> list[Row]:
    """The rows of one size at one density: ours and torch's, each in every mode."""
    torch.manual_seed(0)
    shape = (IMAGES, sizes[0], SIDE, SIDE) if convolution else (ROWS, sizes[0])
    train = (torch.rand(shape) < density).float()
    if convolution:
        train = train.contiguous(memory_format=torch.channels_last)
    both = layers(sizes, convolution)
    grad = torch.randn_like(both["torch"](train))
    variants = {name: variant(layer, train, grad) for name, layer in both.items()}
    laps, failed = interleave(variants, Plan(turns=turns, seconds=math.inf, most=3), CPUClock())
    for error in failed.values():
        raise error
    case = Case(f"spike_products_{round(100 * density)}", (*shape, sizes[1]))
    versions = {"cpu": hnn_kernels.__version__, "torch": torch.__version__}
    return [
        run.row(case, name, mode=mode, version=versions[name], spike_rate=density, **figures(times))
        for name, calls in laps.items()
        for mode, times in zip(MODES, zip(*calls, strict=True), strict=True)
    ]


def main() -> None:
    """Print a line for each size and density. With ``--csv``, append the rows to a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--density", type=float, nargs="+", default=DENSITIES, help="spikes per value")
    parser.add_argument("--turns", type=int, default=9, help="turns of each variant (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads (default: %(default)s)")
    parser.add_argument("--csv", type=csv_file, help="append the rows to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    run = Run(torch.device("cpu"))
    rows = []
    for convolution, sizes in [(False, size) for size in LINEAR] + [(True, size) for size in CONVOLUTIONS]:
        for density in arguments.density:
            found = measure(run, sizes, convolution, density, arguments.turns)
            rows += found
            times = {(row.provider, row.mode): row.median_ms for row in found}
            gains = "  ".join(
                f"{mode} {times['cpu', mode]:7.2f} ms, torch {times['torch', mode]:7.2f} ms: "
                f"{times['torch', mode] / times['cpu', mode]:4.2f}"
                for mode in MODES
            )
            print(f"{'3x3 ' if convolution else ''}{sizes[0]:>4} -> {sizes[1]:<4} {density:5.0%}  {gains}", flush=True)
    if arguments.csv:
        append(arguments.csv, rows)


if __name__ == "__main__":
    main()
