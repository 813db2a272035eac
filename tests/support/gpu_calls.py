"""The launches of the kernels of docs/gpu.md, a line of JSON for each. The emulated device records and runs nothing.

PYTHONPATH=tests:. HNN_EMULATE=9.0 python tests/support/gpu_calls.py cuda page
PYTHONPATH=tests:. HNN_EMULATE=9.0 python tests/support/gpu_calls.py cuda forms --dtypes bf16 --steps 25

With ``forms`` they are of every form of layer, with one neuron per thread: of an odd number of neurons, or strided.
With ``others`` they are of layers without a CUDA kernel of their own.
"""

import argparse
import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from emulator import asked

# Before anything imports torch, which then finds a GPU.
if asked.wanted():
    asked.device()

import torch
from torch import Tensor

import hnn_kernels
from benchmarks.gpu.model import DTYPES, LAYERS, STEPS
from emulator import device as emulated
from support.forms import FORMS, LEFT_TO_TRITON

asked.operators()

# Enough for every form of kernel, and for Triton's larger blocks.
SHAPE, ODD = (64, 2048), (63, 2047)
# The options that the walk through the machine code can follow: it computes no floating-point numbers, and neither a
# division nor a maximum is without a branch on one.
WALKED = {"axon (2, 0)": ({"axon": (2, 0), "reset": "subtract"}, {}), "read-out": ({}, {"potential": "last"})}
# Beside the forms: the other resets, the filter alone, and trains with a stride between neighbours.
MORE = {"reset zero": ({"reset": "zero"}, {}), "reset none": ({"reset": "none"}, {}), "iir": ({"synapse": (2, 0)}, {})}
STRIDED = ("plain", "no filters", "usual, axon (2, 0)", "iir")


class Called(NamedTuple):
    """A layer of the tables: its name, its options, and if its coefficients are learnt and its trains are strided."""

    name: str
    layer: dict[str, Any]
    options: dict[str, Any]
    learnt: bool = False
    strided: bool = False


def page() -> Iterator[Called]:
    """The layers of the pages' tables."""
    axon = {"axon": (2, 0)}
    of = {"lif": {}, "axon": axon, "axon learnt": axon, "iir": {"synapse": (2, 0)}}
    for name in LAYERS:
        yield Called(name, of[name], {}, learnt=name == "axon learnt")


def forms() -> Iterator[Called]:
    """Every form with its coefficients as numbers and learnt, and some with strided trains."""
    for name, found in {**FORMS, **WALKED, **MORE}.items():
        yield Called(name, *found)
        yield Called(f"{name}, learnt", *found, learnt=True)
        if name in STRIDED:
            yield Called(f"{name}, strided", *found, strided=True)


def others() -> Iterator[Called]:
    """The layers without a CUDA kernel of their own, with their coefficients as numbers and learnt."""
    for name, found in LEFT_TO_TRITON.items():
        yield Called(name, *found)
        yield Called(f"{name}, learnt", *found, learnt=True)


GROUPS = {"page": page, "forms": forms, "others": others}


def outputs(called: Called, shape: tuple[int, int], dtype: torch.dtype, steps: int, backend: str) -> tuple[Tensor, ...]:
    """The layer's outputs, which need a gradient."""
    neurons = shape[1]
    current = torch.empty((steps, shape[0], neurons * (1 + called.strided)), dtype=dtype, device="cuda")
    current = current[..., :: 1 + called.strided].requires_grad_()
    kind = torch.float64 if dtype == torch.float64 else torch.float32
    # The layer of the first table learns its axon alone.
    axon_alone = called.name == "axon learnt"

    def empty(*size: int) -> Tensor:
        return torch.empty(size, dtype=kind, device="cuda", requires_grad=True)

    def taps(orders: tuple[int, int]) -> tuple[Any, Any]:
        feedback, feedforward = orders[0], orders[1] + 1
        if called.learnt:
            return empty(feedback, neurons), empty(feedforward, neurons)
        return [0.5] * feedback, [0.3] * feedforward

    common = {"return_state": False, "backend": backend}
    if called.name.startswith("iir"):
        return hnn_kernels.iir(current, *taps(called.layer["synapse"]), **common)[:1]
    filters = {n: hnn_kernels.IIR(*taps(called.layer[n])) for n in ("synapse", "axon") if n in called.layer}
    decay, reset_decay, threshold = (
        empty(neurons) if called.learnt and not axon_alone else value for value in (0.8, 0.6, 1.0)
    )
    reset = called.layer.get("reset", "filter")
    found = hnn_kernels.lif(
        current, decay, reset_decay if reset == "filter" else None, threshold, reset=reset, **filters, **common,
        **called.options,
    )[0]  # fmt: skip
    return (found,) if isinstance(found, Tensor) else found


def main(backend: str, which: str, dtypes: list[str], steps: list[int], wanted: list[str] | None) -> None:
    """Print the launches of a backend's kernels."""
    recorded: list[emulated.Launch] = []

    def record(device, launch) -> int:
        recorded.append(launch)
        return 0

    emulated.Device._run = record
    for called in GROUPS[which]():
        if wanted is not None and called.name not in wanted:
            continue
        shape = SHAPE if called.strided or which == "page" else ODD
        for name in dtypes:
            for count in steps:
                recorded.clear()
                found = outputs(called, shape, getattr(torch, DTYPES[name]), count, backend)
                torch.autograd.backward(found, [torch.empty_like(one) for one in found])
                ours = [one for one in recorded if "hnn" in one.name or (one.image and "lif_" in one.name)]
                layers = [one for one in ours if "add_up" not in one.name]
                for direction, launch in zip(("forward", "backward"), layers, strict=True):
                    line = {"backend": backend, "layer": called.name, "direction": direction, "dtype": name}
                    line |= {"name": launch.name, "image": launch.image, "parameters": launch.params.hex()}
                    line |= {"block": launch.block[0], "blocks": launch.grid[0], "shared": launch.shared}
                    print(json.dumps(line | {"steps": count, "neurons": shape[0] * shape[1]}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("backend", choices=("cuda", "triton"))
    parser.add_argument("which", choices=GROUPS)
    parser.add_argument("--dtypes", nargs="*", default=list(DTYPES))
    parser.add_argument("--steps", nargs="*", type=int, default=list(STEPS))
    parser.add_argument("--layers", nargs="*", help="their names (default: all)")
    given = parser.parse_args()
    main(given.backend, given.which, given.dtypes, given.steps, given.layers)
    os._exit(0)  # without the clean-up of torch, in which the device that is not there may abort
