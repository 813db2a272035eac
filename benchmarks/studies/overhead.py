"""The fixed cost of a call: a small layer beside a no-op autograd Function, and a loop's step with its state.

    python -m benchmarks.studies.overhead [--turns 60] [--csv FILE]

The no-op takes the same tensors as the layer, and returns gradients of their shapes. Both run forward and backward. A
step is one forward call with T = 1, with the state in and out, with a gradient (to the current) or under no_grad. All
variants run in turns of 50 calls, on one thread. The figures are medians, in microseconds.
"""

import argparse
import math
import statistics
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

import hnn_kernels

from ..core.cases import Case
from ..core.timing import CPUClock, Name, Plan, Variant, figures, interleave
from ..records.record import append, csv_file
from ..records.rows import Run

SHAPE = (4, 1, 32)
CALLS = 50  # of a turn
NO_OP = "no-op"


class NoOp(torch.autograd.Function):
    """The least work of a hand-written Function of these tensors."""

    @staticmethod
    def forward(ctx, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors)
        return torch.empty_like(tensors[0])

    @staticmethod
    def backward(ctx, grad):
        return tuple(torch.empty_like(t) for t in ctx.saved_tensors)


def both(call: Callable[[], Tensor], leaves: tuple[Tensor, ...], grad: Tensor) -> Callable[[], object]:
    """A function of ``call``, and its backward to ``leaves`` from the output's gradient ``grad``."""
    return lambda: torch.autograd.grad(call(), leaves, grad)


def layers(device: str = "cpu", shape: tuple[int, ...] = SHAPE) -> dict[tuple[str, str], Callable[[], object]]:
    """A small layer both ways on ``device``, by the form of its axon and the backend, and the no-op of its tensors."""
    current = torch.zeros(shape, device=device, requires_grad=True)
    grad = torch.ones(shape, device=device)
    fixed = hnn_kernels.IIR.dual_exponential(4, 1)
    learnt = tuple(torch.tensor(c, device=device)[:, None].requires_grad_() for c in fixed)
    forms = {"lif": (None, ()), "lif_axon": (fixed, ()), "lif_axon_learnt": (hnn_kernels.IIR(*learnt), learnt)}
    backends = [name for name, one in hnn_kernels.backends().items() if device in one.devices]
    if device == "cpu":  # others are only emulated there
        backends = ["cpu"]
    found: dict[tuple[str, str], Callable[[], object]] = {}
    for op, (axon, coefficients) in forms.items():
        leaves = (current, *coefficients)
        for name in backends:
            found[op, name] = both(
                lambda axon=axon, name=name: hnn_kernels.lif(
                    current, 0.7, 0.7, axon=axon, return_state=False, backend=name
                )[0],
                leaves,
                grad,
            )
        found[op, NO_OP] = both(lambda leaves=leaves: NoOp.apply(*leaves), leaves, grad)
    return found


def micros(
    calls: Mapping[Name, Callable[[], object]], turns: int, clock: Callable[[], float], before: Callable[[], object]
) -> dict[Name, float]:
    """The microseconds of each of ``calls`` by ``clock``: the median of turns of 50, each begun by ``before``.

    Nothing waits for a device in a turn, so that where its work is short the time is the host's alone.
    """
    for call in calls.values():
        for _ in range(5):
            call()
    laps: dict[Name, list[float]] = {name: [] for name in calls}
    for _ in range(turns):
        for name, call in calls.items():
            before()
            start = clock()
            for _ in range(CALLS):
                call()
            laps[name].append((clock() - start) / CALLS * 1e6)
    return {name: statistics.median(found) for name, found in laps.items()}


def steps() -> dict[tuple[str, str], Callable[[], object]]:
    """A step of the function and of the module, with a gradient and without."""
    module = hnn_kernels.nn.LIF(0.7, 0.7, backend="cpu")
    _, state = hnn_kernels.lif(torch.zeros(SHAPE), 0.7, 0.7)

    def calls(current: Tensor) -> tuple[Callable[[], object], Callable[[], object]]:
        return (
            lambda: hnn_kernels.lif(current, 0.7, 0.7, state=state, backend="cpu"),
            lambda: module(current, state=state, return_state=True),
        )

    def without(call: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            with torch.no_grad():
                call()

        return run

    current = torch.zeros(1, *SHAPE[1:])
    function, of_module = calls(current)
    learning, learning_module = calls(current.clone().requires_grad_())
    return {
        ("step", "cpu"): learning, ("step_no_grad", "cpu"): without(function),
        ("step_module", "cpu"): learning_module, ("step_module_no_grad", "cpu"): without(of_module),
    }  # fmt: skip


def main() -> None:
    """Print a line for each form of the layer and of a step. With ``--csv``, append the rows to a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=60, help="turns of each variant (default: %(default)s)")
    parser.add_argument("--csv", type=csv_file, help="append the rows to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    calls = layers() | steps()
    variants: dict[tuple[str, str], Variant] = {name: lambda _, call=call: call() for name, call in calls.items()}
    laps, failed = interleave(variants, Plan(turns=arguments.turns, seconds=math.inf, most=CALLS), CPUClock())
    for error in failed.values():
        raise error

    run = Run(torch.device("cpu"))
    versions = {"cpu": hnn_kernels.__version__, NO_OP: torch.__version__}
    rows = {
        (op, name): run.row(Case(op, SHAPE), name, version=versions[name], **figures(map(sum, found)))
        for (op, name), found in laps.items()
    }
    for (op, name), row in rows.items():
        micro = row.median_ms * 1e3
        if (op, NO_OP) not in rows:
            print(f"{op:20} {micro:6.1f} us")
        elif name != NO_OP:
            none = rows[op, NO_OP].median_ms * 1e3
            print(f"{op:20} {micro:6.1f} us, no-op {none:5.1f} us: {micro - none:5.1f} us more")
    if arguments.csv:
        append(arguments.csv, list(rows.values()))


if __name__ == "__main__":
    main()
