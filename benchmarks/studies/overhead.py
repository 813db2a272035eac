"""The fixed cost of a call: forward and backward on one neuron, beside a no-op autograd Function.

    python -m benchmarks.studies.overhead [--turns 60] [--csv FILE]

The no-op takes the same tensors as the layer, and returns gradients of their shapes. All variants run in turns of 50
calls, on one thread. The figures are medians, in microseconds.
"""

import argparse
import math
from collections.abc import Callable

import torch
from torch import Tensor

import hnn_kernels

from ..core.cases import Case
from ..core.timing import CPUClock, Plan, Variant, figures, interleave
from ..records.record import append, csv_file
from ..records.rows import Run


class NoOp(torch.autograd.Function):
    """The least work of a hand-written Function of these tensors."""

    @staticmethod
    def forward(ctx, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors)
        return torch.empty_like(tensors[0])

    @staticmethod
    def backward(ctx, grad):
        return tuple(torch.empty_like(t) for t in ctx.saved_tensors)


def variant(call: Callable[[], Tensor], leaves: tuple[Tensor, ...], grad: Tensor) -> Variant:
    """A function for the timing loop: ``call``, and its backward to ``leaves`` from the output's gradient ``grad``."""

    def run(lap: Callable[[], None]) -> None:
        out = call()
        lap()
        torch.autograd.grad(out, leaves, grad)

    return run


def main() -> None:
    """Print a line for each form of the layer. With ``--csv``, append the rows to a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=60, help="turns of each variant (default: %(default)s)")
    parser.add_argument("--csv", type=csv_file, help="append the rows to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    current = torch.zeros(1, 1, 1, requires_grad=True)
    grad = torch.ones(1, 1, 1)
    fixed = hnn_kernels.IIR.dual_exponential(4, 1)
    learnt = tuple(torch.tensor(c)[:, None].requires_grad_() for c in fixed)
    forms = {"lif": (None, ()), "lif_axon": (fixed, ()), "lif_axon_learnt": (hnn_kernels.IIR(*learnt), learnt)}
    names = {"cpu": hnn_kernels.__version__, "no-op": torch.__version__}

    variants: dict[tuple[str, str], Variant] = {}
    for op, (axon, coefficients) in forms.items():
        leaves = (current, *coefficients)
        calls = (
            lambda axon=axon: hnn_kernels.lif(current, 0.7, 0.7, axon=axon, return_state=False, backend="cpu")[0],
            lambda leaves=leaves: NoOp.apply(*leaves),
        )
        for name, call in zip(names, calls, strict=True):
            variants[op, name] = variant(call, leaves, grad)
    laps, failed = interleave(variants, Plan(turns=arguments.turns, seconds=math.inf, most=50), CPUClock())
    for error in failed.values():
        raise error

    run = Run(torch.device("cpu"))
    rows = [
        run.row(Case(op, tuple(current.shape)), name, version=names[name], **figures(map(sum, calls)))
        for (op, name), calls in laps.items()
    ]
    for own, none in zip(rows[::2], rows[1::2], strict=True):
        micro = own.median_ms * 1e3, none.median_ms * 1e3
        print(f"{own.op:16} {micro[0]:6.1f} us, no-op {micro[1]:5.1f} us: {micro[0] - micro[1]:5.1f} us more")
    if arguments.csv:
        append(arguments.csv, rows)


if __name__ == "__main__":
    main()
