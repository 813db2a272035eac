"""Write the tables of docs/gpu.md from the kernels' machine code. No GPU is needed.

    python -m benchmarks.gpu.page

This needs Triton, and the CUDA kernels of the current source: the installed module with its three architectures.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from ..records.report import table
from .machine_code import Loop, disassemble, loops, resources
from .model import ARCHITECTURES, GPUS, Kernel

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "gpu.md"
# The sizes of the predicted times: steps and neurons.
SIZES = ((25, 4 << 20), (100, 4 << 20), (25, 32 << 10))
OUTSTANDING = "not yet measured"

# The CUDA kernels of the page: the name of the function, and the form in csrc/cuda/choose.h (None without one).
CUDA = {
    ("lif", "forward"): ("forward", "5Plain"),
    ("lif", "backward"): ("backward", "5PlainELb0"),
    ("axon", "forward"): ("forward", "11UsualAxon20"),
    ("axon", "backward"): ("backward", "11UsualAxon20ELb0"),
    ("axon learnt", "forward"): ("forward", "11UsualAxon20"),
    ("axon learnt", "backward"): ("backward", "11UsualAxon20ELb1"),
    ("iir", "forward"): ("forward", "11OnlySynapseILi2ELi0"),
    ("iir", "backward"): ("backward", "11OnlySynapseILi2ELi0EEELb0"),
    ("gaussian", "forward"): ("encode_gaussian", None),
    ("gaussian", "backward"): ("gaussian_backward", None),
    ("poisson", "forward"): ("encode_poisson", None),
}
_DTYPES = {"fp32": "f", "bf16": "N3c108BFloat16E"}
_NAMED = [(*which, dtype) for which in CUDA for dtype in _DTYPES]


def cuda_kernels(capability: int, files: list[Path]) -> list[Kernel]:
    """The page's CUDA kernels for a compute capability, from a library that contains it or from cubins."""
    usage, code = {}, {}
    for file in files:
        architecture = () if file.suffix == ".cubin" else ("--gpu-architecture", f"sm_{capability}")
        here = resources(file, *architecture)
        wanted = [name for name in here if name.startswith(tuple(_start(*which) for which in _NAMED))]
        if wanted:
            code |= disassemble(file, "-fun", ",".join(wanted), *architecture)
        usage |= here
    result = []
    for layer, direction, dtype in _NAMED:
        (name,) = (n for n in code if n.startswith(_start(layer, direction, dtype)))
        found, use = loops(code[name], shortest=layer == "iir"), usage[name]
        result.append(Kernel("cuda", layer, direction, dtype, use["REG"], use["STACK"] + use["LOCAL"], found))
    return result


def _start(layer: str, direction: str, dtype: str) -> str:
    """The first part of the mangled name of a CUDA kernel."""
    function, form = CUDA[layer, direction]
    return f"_ZN8hnn_cuda{len(function)}{function}I{_DTYPES[dtype]}" + (f"NS_{form}" if form else "E")


def triton_kernels(capabilities: list[int]) -> dict[int, list[Kernel]]:
    """The page's Triton kernels by compute capability, compiled in a process of their own."""
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "tests" / "support" / "triton_aot.py"), "--page", *map(str, capabilities)]
    run = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[int, list[Kernel]] = {capability: [] for capability in capabilities}
    for line in map(json.loads, run.stdout.splitlines()):
        result[line["capability"]].append(triton_kernel(line, line["layer"], line["direction"], line["dtype"]))
    return result


def triton_kernel(facts: dict, layer: str, direction: str, dtype: str) -> Kernel:
    """A kernel from a line of tests/support/triton_aot.py."""
    found = [Loop(n, *({int(k): v for k, v in widths.items()} for widths in rest)) for n, *rest in facts["loops"]]
    return Kernel("triton", layer, direction, dtype, facts["REG"], facts["STACK"] + facts["LOCAL"], found)


def _title(kernel: Kernel) -> list[str]:
    return [kernel.backend, kernel.layer, kernel.direction, kernel.dtype]


def _each(values) -> str:
    values = [str(v) for v in values]
    return values[0] if len(set(values)) == 1 else " / ".join(values)


def resource_table(kernels: dict[int, list[Kernel]]) -> str:
    """The table of each kernel's resources. Values that differ are given for sm_80 / sm_90 / sm_100."""
    header = ["backend", "layer", "direction", "dtype", "registers", "spilled", "shared, T=25 / 100", "warps, T=25",
              "warps, T=100", "bits per access", "instructions", "bytes"]  # fmt: skip
    neurons, rows = SIZES[0][1], []
    for same in zip(*kernels.values(), strict=True):
        first = same[0]
        warps = [_each(k.warps(c, t, neurons) for c, k in zip(kernels, same, strict=True)) for t in (25, 100)]
        rows.append([
            *_title(first), _each(k.registers for k in same), _each(k.spilled for k in same),
            _each(first.shared_bytes(t) for t in (25, 100)), *warps, _each("+".join(map(str, k.widths)) for k in same),
            _each(f"{k.instructions_per_step:.0f}" for k in same), _each(f"{k.loop_bytes:g}" for k in same),
        ])  # fmt: skip
    return "\n".join(table(header, rows))


def time_table(kernels: dict[int, list[Kernel]], name: str) -> str:
    """The table for one GPU: the predicted microseconds, their multiple of the floor, and the bound that they reach."""
    gpu, rows = GPUS[name], []
    header = ["backend", "layer", "direction", "dtype"]
    for steps, neurons in SIZES:
        count = f"{neurons >> 20} Mi" if neurons >> 20 else f"{neurons >> 10} Ki"
        header += [f"T={steps}, {count}", "measured"]
    for kernel in kernels[gpu.capability]:
        row = _title(kernel)
        for steps, neurons in SIZES:
            bounds = kernel.seconds(gpu, steps, neurons)
            bound = max(bounds, key=bounds.get)
            floor = neurons * steps * kernel.floor_bytes / gpu.bytes_per_s
            row += [f"{bounds[bound] * 1e6:.1f} ({bounds[bound] / floor:.2f}, {bound})", OUTSTANDING]
        rows.append(row)
    return "\n".join(table(header, rows))


def read(page: str) -> dict[tuple[str, ...], dict[str, str]]:
    """Return the rows of the page's table of resources, by backend, layer, direction and dtype."""
    text = re.search(r"<!-- resources -->\n(.*?)\n<!-- end -->", page, re.DOTALL)[1]
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return {tuple(row[:4]): dict(zip(header, row, strict=True)) for row in rows}


def main() -> None:
    """Replace the tables of the page."""
    from hnn_kernels import _extensions

    triton = triton_kernels(list(ARCHITECTURES))
    library = Path(_extensions.cuda.__file__)
    kernels = {c: cuda_kernels(c, [library]) + triton[c] for c in ARCHITECTURES}
    page = PAGE.read_text()
    tables = {"resources": resource_table(kernels)} | {name: time_table(kernels, name) for name in GPUS}
    for name, text in tables.items():
        page, count = re.subn(
            rf"(<!-- {name} -->\n).*?(<!-- end -->)", rf"\g<1>{text}\n\g<2>", page, count=1, flags=re.DOTALL
        )
        assert count == 1, f"docs/gpu.md has no place for {name}"
    PAGE.write_text(page)


if __name__ == "__main__":
    main()
