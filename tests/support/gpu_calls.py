"""The launches of the kernels of docs/gpu.md, a line of JSON for each. The emulated device records and runs nothing.

PYTHONPATH=tests:. HNN_EMULATE=9.0 python tests/support/gpu_calls.py cuda
PYTHONPATH=tests:. HNN_EMULATE=9.0 python tests/support/gpu_calls.py cuda single

With ``single`` they are of an odd number of neurons in bfloat16, which take one neuron per thread.
"""

import json
import os
import sys

from emulator import asked

# Before anything imports torch, which then finds a GPU.
if asked.wanted():
    asked.device()

import torch

import hnn_kernels
from benchmarks.gpu.model import DTYPES, LAYERS, STEPS
from emulator import device as emulated

asked.operators()

# Enough for every form of kernel, and for Triton's larger blocks.
SHAPE, ODD = (64, 2048), (63, 2047)


def output(layer: str, shape: tuple[int, int], dtype: torch.dtype, steps: int, backend: str) -> torch.Tensor:
    """The layer's output, which needs a gradient."""
    current = torch.empty((steps, *shape), dtype=dtype, device="cuda", requires_grad=True)
    taps = ([0.5, 0.2], [0.3])
    if layer == "iir":
        return hnn_kernels.iir(current, *taps, return_state=False, backend=backend)[0]
    if layer == "axon learnt":
        taps = [torch.empty((n, shape[1]), device="cuda", requires_grad=True) for n in (2, 1)]
    axon = None if layer == "lif" else hnn_kernels.IIR(*taps)
    return hnn_kernels.lif(current, 0.8, 0.6, 1.0, axon=axon, return_state=False, backend=backend)[0]


def main(backend: str, single: bool) -> None:
    """Print the launches of a backend's kernels."""
    shape, dtypes = (ODD, ("bf16",)) if single else (SHAPE, DTYPES)
    recorded: list[emulated.Launch] = []

    def record(device, launch) -> int:
        recorded.append(launch)
        return 0

    emulated.Device._run = record
    for layer in LAYERS:
        for name in dtypes:
            for steps in STEPS:
                recorded.clear()
                out = output(layer, shape, getattr(torch, DTYPES[name]), steps, backend)
                out.backward(torch.empty_like(out))
                ours = [one for one in recorded if "hnn" in one.name or (one.image and "lif_" in one.name)]
                layers = [one for one in ours if "add_up" not in one.name]
                for direction, launch in zip(("forward", "backward"), layers, strict=True):
                    line = {"backend": backend, "layer": layer, "direction": direction, "dtype": name, "steps": steps}
                    line |= {"name": launch.name, "image": launch.image, "parameters": launch.params.hex()}
                    line |= {"block": launch.block[0], "blocks": launch.grid[0], "shared": launch.shared}
                    print(json.dumps(line | {"neurons": shape[0] * shape[1]}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], single=sys.argv[2:] == ["single"])
    sys.stdout.flush()
    os._exit(0)  # without the clean-up of torch, in which the device that is not there may abort
