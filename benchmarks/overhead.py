"""What a call costs besides its neurons: forward + backward on one neuron, over a no-op autograd Function.

    python -m benchmarks.overhead [--repeats 3000]

The no-op takes the tensors that the layer takes, and returns gradients of their shapes. All variants run in turns; the
figures are medians, in microseconds.
"""

import argparse
import statistics
import time

import torch
from torch import Tensor

import hnn_kernels


class NoOp(torch.autograd.Function):
    """The least that a hand-written Function of these tensors does."""

    @staticmethod
    def forward(ctx, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors)
        return torch.empty_like(tensors[0])

    @staticmethod
    def backward(ctx, grad):
        return tuple(torch.empty_like(t) for t in ctx.saved_tensors)


def main() -> None:
    """Print a line per form of the layer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3000)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    current = torch.zeros(1, 1, 1, requires_grad=True)
    grad = torch.ones(1, 1, 1)
    fixed = hnn_kernels.IIR.dual_exponential(4, 1)
    learnt = tuple(torch.tensor(c)[:, None].requires_grad_() for c in fixed)
    forms = {"lif": (None, ()), "lif_axon": (fixed, ()), "lif_axon_learnt": (hnn_kernels.IIR(*learnt), learnt)}

    calls = {}
    for name, (axon, coefficients) in forms.items():
        calls[name] = lambda axon=axon: hnn_kernels.lif(current, 0.7, 0.7, axon=axon, backend="cpu")[0]
        calls[f"{name}, no-op"] = lambda tensors=(current, *coefficients): NoOp.apply(*tensors)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(-300, repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call().backward(grad)
            elapsed = time.perf_counter() - start
            for leaf in (current, *learnt):
                leaf.grad = None
            if turn >= 0:
                times[name].append(elapsed * 1e6)
    for name in forms:
        own, none = (statistics.median(times[key]) for key in (name, f"{name}, no-op"))
        print(f"{name:16} {own:6.1f} us, no-op {none:5.1f} us: {own - none:5.1f} us more")


if __name__ == "__main__":
    main()
