"""Compile the Triton kernels ahead of time, without a GPU, and print what ptxas made of each as one line of JSON.

Run as a script, in a process of its own without TRITON_INTERPRET=1: whether a kernel is compiled or interpreted is
settled when it is defined. The kernels are compiled exactly as a launch would: the host code runs on CPU tensors, and
a driver that only knows its target stands in for the GPU's.

    python tests/support/triton_aot.py 80 90 100
"""

import json
import os
import re
import sys
import tempfile
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget

import hnn_kernels._triton.coding as coding
import hnn_kernels._triton.launch as launch
from benchmarks.gpu.machine_code import disassemble, resources
from hnn_kernels._define import gpu
from hnn_kernels._define.call import Call, allocate_gradients
from hnn_kernels._define.call import allocate_outputs as allocate_results
from hnn_kernels._layer import (
    COEFFICIENTS,
    FILTER_COEFFICIENTS,
    INCOMING,
    KEPT,
    NO_MEMBRANE,
    OUTPUTS,
    POTENTIALS,
    READOUTS,
    RESET_GRADS,
    RESETS,
    TENSORS,
    Layer,
)
from hnn_kernels._ops.layer import allocate_outputs
from support.defined import adaptive
from support.layers import RESET_OF
from support.targets import EVERY_CASE

DTYPES = {"fp64": torch.float64, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Two dims that do not merge, and a size that no vector width divides.
SHAPE = (3, 5, 7)
# Longer than any segment.
LONG = 25

# name: (dtype, T, what differs from a layer with float coefficients that returns its train)
FORWARD = {
    "fp64": ("fp64", LONG, {}),
    "fp32": ("fp32", LONG, {}),
    "bf16": ("bf16", LONG, {}),
    "fp16": ("fp16", LONG, {}),
    "fp32 constant": ("fp32", LONG, {"constant": True}),
    "fp32 count": ("fp32", LONG, {"readout": "count"}),
    "bf16 constant count": ("bf16", LONG, {"constant": True, "readout": "count"}),
    "fp32 smooth": ("fp32", LONG, {"smooth": True}),
    "fp32 coefficients strided state": ("fp32", LONG, {"coefficients": True, "strided": True, "state": True}),
    "fp32 axon": ("fp32", LONG, {"axon": (2, 0)}),
    "fp32 axon learnt": ("fp32", LONG, {"axon": (2, 0), "learnt": True}),
    "fp32 potential": ("fp32", LONG, {"potential": "train"}),
    "fp32 maximum alone": ("fp32", LONG, {"potential": "max", "readout": "none"}),
    "fp32 zero": ("fp32", LONG, {"reset": RESETS["zero"]}),
    "fp32 iir": ("fp32", LONG, {"reset": NO_MEMBRANE, "synapse": (2, 0)}),
    "fp64 iir": ("fp64", LONG, {"reset": NO_MEMBRANE, "synapse": (2, 0)}),
    "fp32 checkpoints": ("fp32", LONG, {"every": 8}),
}
BACKWARD = {
    "fp64": ("fp64", LONG, {}),
    "fp32": ("fp32", LONG, {}),
    "fp32 T=8": ("fp32", 8, {}),
    "fp32 T=16": ("fp32", 16, {}),
    "bf16": ("bf16", LONG, {}),
    "fp16 T=8": ("fp16", 8, {}),
    "fp32 one_step T=8": ("fp32", 8, {"reset_grad": "one_step"}),
    "fp32 detach T=8": ("fp32", 8, {"reset_grad": "detach"}),
    "fp32 constant": ("fp32", LONG, {"constant": True}),
    "fp32 count": ("fp32", LONG, {"readout": "count"}),
    "bf16 constant count": ("bf16", LONG, {"constant": True, "readout": "count"}),
    "fp32 smooth": ("fp32", LONG, {"smooth": True}),
    "fp32 decay": ("fp32", LONG, {"coefficients": True, "needs": ["decay"]}),
    "fp32 coefficients": ("fp32", LONG, {"coefficients": True, "needs": COEFFICIENTS}),
    "bf16 coefficients strided state": (
        "bf16", LONG, {"coefficients": True, "needs": COEFFICIENTS, "strided": True, "state": True}
    ),
    "fp64 coefficients state": ("fp64", LONG, {"coefficients": True, "needs": COEFFICIENTS, "state": True}),
    "fp32 axon": ("fp32", LONG, {"axon": (2, 0)}),
    "fp32 axon learnt": ("fp32", LONG, {"axon": (2, 0), "learnt": True}),
    "fp32 all learnt": (
        "fp32", LONG,
        {"synapse": (2, 1), "axon": (2, 0), "learnt": True, "coefficients": True, "needs": COEFFICIENTS},
    ),
    "fp32 potential": ("fp32", LONG, {"potential": "train"}),
    "fp32 maximum alone": ("fp32", LONG, {"potential": "max", "readout": "none"}),
    "fp32 zero": ("fp32", LONG, {"reset": RESETS["zero"]}),
    "fp32 zero learnt": (
        "fp32", LONG, {"reset": RESETS["zero"], "coefficients": True, "needs": COEFFICIENTS, "state": True}
    ),
    "fp32 iir": ("fp32", LONG, {"reset": NO_MEMBRANE, "synapse": (2, 0)}),
    "fp32 iir learnt": ("fp32", LONG, {"reset": NO_MEMBRANE, "synapse": (2, 0), "learnt": True}),
    "fp32 checkpoints": ("fp32", LONG, {"every": 8}),
}  # fmt: skip
# Left to HNN_EVERY_CASE=1: kernels that another case has all parts of, or that only differ in a constant.
SELDOM = {
    "forward": {"fp16", "fp32 constant", "fp32 count", "fp32 axon", "fp32 maximum alone", "fp32 zero", "fp64 iir"},
    "backward": {
        "fp32 T=8", "fp32 T=16", "fp16 T=8", "fp32 one_step T=8", "fp32 constant", "fp32 count", "fp32 decay",
        "fp32 axon", "fp32 maximum alone", "fp32 zero", "fp32 iir",
    },
}  # fmt: skip
LAYER = {
    direction: {name: case for name, case in cases.items() if EVERY_CASE or name not in SELDOM[direction]}
    for direction, cases in (("forward", FORWARD), ("backward", BACKWARD))
}
# The cases of each operator, and the gradients needed.
CODING = {
    "gaussian": {"fp32": {}, "fp32 strided": {}, "bf16": {}, "fp64": {}},
    "gaussian backward": {"fp32": {}, "fp32 strided": {}, "fp32 mean": {"needs": 1}, "bf16": {}, "fp64": {}},
    "poisson": {"fp32": {}, "fp32 strided": {}, "bf16": {}, "fp64": {}},
}
# A neuron by definition with two states and two outputs: its dtype, and the coefficients as tensors that are learnt.
DEFINED = {"fp32 adaptive": ("fp32", False), "bf16 adaptive": ("bf16", False), "fp32 adaptive learnt": ("fp32", True)}
# Another architecture can only change ptxas's choice of registers: a plain kernel and the largest one are compiled.
MAIN_CAPABILITY = 90
ELSEWHERE = ("fp32", "bf16 coefficients strided state")


class TargetDriver:
    """The part of a Triton driver that the compilation of a launch needs."""

    def __init__(self, capability: int):
        self.capability = capability

    def get_current_device(self) -> int:
        return self.capability

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)


class Compiled(Exception):  # noqa: N818
    """Carries a compiled kernel out of the host code that would have launched it."""


class Compile:
    """Stands in for a kernel in ``launch``: compiles where the kernel would have run."""

    def __init__(self, kernel: Any):
        self.kernel = kernel

    def __getitem__(self, grid: tuple[int, ...]):
        def run(*args, **kwargs):
            raise Compiled(self.kernel.run(*args, grid=grid, warmup=True, **kwargs))

        return run


def compiled(
    direction: str, dtype: str, steps: int, options: dict[str, Any], batch: int = SHAPE[0], value: float = 0.8
) -> Any:
    """The kernel that ``launch.forward`` or ``launch.backward`` would start for a call with these options."""
    kind = DTYPES[dtype]
    state_kind = torch.float64 if kind == torch.float64 else torch.float32
    constant, count = options.get("constant", False), options.get("readout") == "count"
    shape = (batch, *SHAPE[1:])
    current = torch.zeros(shape if constant else (steps, *shape), dtype=kind)
    grad_out = torch.zeros(shape if count else (steps, *shape), dtype=kind)
    if options.get("strided"):
        current, grad_out = (torch.cat([t, t], -1)[..., : shape[-1]] for t in (current, grad_out))
    reset, readout = options.get("reset", RESETS["filter"]), options.get("readout", "spikes")
    values = {
        "current": current, "steps": steps if constant else None, "width": 0.4, "surrogate": 0,
        "readout": READOUTS[readout], "potential": POTENTIALS[options.get("potential", "none")],
        "smooth": options.get("smooth", False), "return_state": True, "reset": reset,
        "reset_grad": RESET_GRADS[options.get("reset_grad", "full")], "checkpoint_every": options.get("every", 0),
    }  # fmt: skip
    coefficients = [name for name in COEFFICIENTS if name not in RESET_OF or RESETS[RESET_OF[name]] == reset]
    values |= {f"{name}_value": value for name in COEFFICIENTS}
    if options.get("coefficients"):
        values |= dict.fromkeys(coefficients, torch.zeros(shape[1], 1, dtype=state_kind))
    if options.get("state"):
        values |= {name: torch.zeros(shape, dtype=state_kind) for name in "vr"}
    for name in ("synapse", "axon"):
        p, q = options.get(name, (0, -1))
        for part, taps in (("feedback", p), ("feedforward", q + 1)):
            values[f"{name}_{part}_values"] = [value] * taps
            if options.get("learnt"):
                values[f"{name}_{part}"] = torch.zeros((taps, *shape[1:]), dtype=state_kind) if taps else None
    layer = Layer(**values)
    try:
        if direction == "forward":
            launch.forward(*layer)
        else:
            needed = {name for name in options.get("needs", ()) if getattr(layer, name) is not None}
            needed |= {"current"} | {name for name in FILTER_COEFFICIENTS if getattr(layer, name) is not None}
            needed |= {"v", "r"} if options.get("state") else set()
            needs = sum(1 << i for i, name in enumerate(TENSORS) if name in needed)
            kept = dict(zip(OUTPUTS, allocate_outputs(layer), strict=True))
            incoming = dict.fromkeys(INCOMING) | {name: kept[name] for name in KEPT}
            incoming |= {"grad_out": None if readout == "none" else grad_out, "grad_v": layer.v, "grad_r": layer.r}
            incoming["grad_potential"] = kept["potential"]
            launch.backward(*incoming.values(), *layer, needs)
    except Compiled as kernel:
        return kernel.args[0]
    raise AssertionError("nothing was launched")


def coded(direction: str, case: str, needs: int = 3, steps: int = LONG, batch: int = SHAPE[0], first: int = 5) -> Any:
    """The kernel that a coding's operator would start."""
    dtype, _, form = case.partition(" ")
    shape, seed = (batch, *SHAPE[1:]), torch.tensor(3)
    value, train = torch.full(shape, 0.5, dtype=DTYPES[dtype]), torch.zeros((steps, *shape), dtype=DTYPES[dtype])
    if form == "strided":
        value = torch.cat([value, value], 1)[:, : shape[1]]
    try:
        if direction == "gaussian":
            coding.gaussian_forward(value, value, seed, steps, first, first)
        elif direction == "poisson":
            coding.poisson_forward(value, seed, steps, first, first)
        else:
            coding.gaussian_backward(train, value, seed, first, first, needs)
    except Compiled as kernel:
        return kernel.args[0]
    raise AssertionError("nothing was launched")


def defined(direction: str, dtype: str, learnt: bool, steps: int = LONG, batch: int = SHAPE[0]) -> Any:
    """The kernel that the operator of neurons by definition would start."""
    x = torch.zeros((steps, batch, *SHAPE[1:]), dtype=DTYPES[dtype])
    values = torch.full(SHAPE[1:], 0.8)
    coefficients: list[Any] = [values if learnt else None] * len(adaptive.coefficients)
    given = Call(x, coefficients, [0.8] * len(coefficients), [None] * 2, None, adaptive.key, False, True, 0)
    outputs = allocate_results(given)
    try:
        if direction == "defined":
            gpu._forward(given, outputs)
        else:
            needs = 2 ** (1 + len(coefficients)) - 1 if learnt else 1
            gpu._backward(outputs, None, given, allocate_gradients(given, needs))
    except Compiled as kernel:
        return kernel.args[0]
    raise AssertionError("nothing was launched")


def facts(kernel: Any) -> dict[str, Any]:
    """The resources of a compiled kernel; float64, fused multiply-adds and square roots in it."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        (usage,) = resources(file.name).values()
        (code,) = disassemble(file.name).values()
    return {
        **usage,
        "float64": ".f64" in kernel.asm["ptx"],
        "fused": sum(i.name in ("FFMA", "DFMA") for i in code),
        "roots": len(re.findall(r"sqrt\.rn", kernel.asm["ptx"])),
    }


def main(capabilities: list[int]) -> None:
    """One line per compute capability and kernel."""
    launch.lif_forward_kernel, launch.lif_backward_kernel = map(
        Compile, (launch.lif_forward_kernel, launch.lif_backward_kernel)
    )
    coding.encode_kernel, coding.gaussian_backward_kernel = map(
        Compile, (coding.encode_kernel, coding.gaussian_backward_kernel)
    )
    gpu.neuron_forward_kernel, gpu.neuron_backward_kernel = map(
        Compile, (gpu.neuron_forward_kernel, gpu.neuron_backward_kernel)
    )
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TRITON_CACHE_DIR"] = cache
        for capability in capabilities:
            triton.runtime.driver.set_active(TargetDriver(capability))
            for direction, cases in LAYER.items():
                for name, (dtype, steps, options) in cases.items():
                    if capability != MAIN_CAPABILITY and name not in ELSEWHERE:
                        continue
                    kernel = compiled(direction, dtype, steps, options)
                    line = {"kernel": direction, "case": name, "capability": capability, **facts(kernel)}
                    if steps == LONG:
                        again = compiled(direction, dtype, 4 * steps + 1, options, batch=16, value=1.0)
                        line["reused"] = again.hash == kernel.hash
                    print(json.dumps(line), flush=True)
            for direction, cases in CODING.items():
                for name, options in cases.items():
                    if capability != MAIN_CAPABILITY and name not in ELSEWHERE:
                        continue
                    kernel = coded(direction, name, **options)
                    again = coded(direction, name, **options, steps=4 * LONG, batch=16, first=16)
                    line = {"kernel": direction, "case": name, "capability": capability, **facts(kernel)}
                    print(json.dumps(line | {"reused": again.hash == kernel.hash}), flush=True)
        triton.runtime.driver.set_active(TargetDriver(MAIN_CAPABILITY))
        for direction in ("defined", "defined backward"):
            for name, form in DEFINED.items():
                kernel, again = defined(direction, *form), defined(direction, *form, steps=4 * LONG + 1, batch=16)
                line = {"kernel": direction, "case": name, "capability": MAIN_CAPABILITY, **facts(kernel)}
                print(json.dumps(line | {"reused": again.hash == kernel.hash}), flush=True)


if __name__ == "__main__":
    if os.environ.get("TRITON_INTERPRET") == "1":
        raise SystemExit("tests/support/triton_aot.py compiles the kernels; run it without TRITON_INTERPRET=1")
    main([int(argument) for argument in sys.argv[1:]])
