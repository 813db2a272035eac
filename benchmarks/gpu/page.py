"""Write the tables of docs/gpu.md and docs/gpu-tables.md from the kernels' machine code. No GPU is needed.

    python -m benchmarks.gpu.page

This needs Triton, and the CUDA module of the current source with code for compute capability 9.0 and with PTX.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from ..records.report import table
from .machine_code import disassemble, resources, tables, tool
from .model import CAPABILITY, DTYPES, GPUS, STEPS, Call, Kernel
from .walk import walk

ROOT = Path(__file__).resolve().parents[2]
PAGE, TABLES = ROOT / "docs" / "gpu.md", ROOT / "docs" / "gpu-tables.md"
_ARCHITECTURE = ("--gpu-architecture", f"sm_{CAPABILITY}")


def kernels(
    backend: str,
    library: Path,
    capability: str,
    which: str = "page",
    dtypes: Iterable[str] = DTYPES,
    steps: Iterable[int] = STEPS,
    layers: Iterable[str] | None = None,
) -> list[Kernel]:
    """A backend's kernels, and their calls.

    Args:
        backend: ``"cuda"`` or ``"triton"``.
        library: the CUDA module.
        capability: the compute capability of the emulated device on which the calls are recorded, such as ``"9.0"``.
        which: ``"page"`` for those of docs/gpu.md, ``"forms"`` for every form with one neuron per thread, ``"others"``
            for layers without a CUDA kernel of their own.
        dtypes: keys of ``DTYPES``.
        steps: the time steps of the calls.
        layers: the names of the layers; all of them if None.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("TRITON_")}
    env |= {"PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}", "HNN_EMULATE": capability, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tests" / "support" / "gpu_calls.py"), backend, which]
    command += ["--dtypes", *dtypes, "--steps", *map(str, steps)]
    command += ["--layers", *layers] if layers is not None else []
    run = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[tuple[str, ...], list[dict]] = defaultdict(list)
    for line in map(json.loads, run.stdout.splitlines()):
        found[line["layer"], line["direction"], line["dtype"]].append(line)
    names = {line["name"] for lines in found.values() for line in lines}
    code = Code(library, names) if backend == "cuda" else None
    result = []
    with tempfile.TemporaryDirectory() as folder:
        for layer, lines in found.items():
            (name,) = {line["name"] for line in lines}
            here = code or Code(assembled(lines[0]["image"], Path(folder)), {name})
            calls = {}
            for line in lines:
                lanes = -(-line["neurons"] // (line["blocks"] * line["block"]))
                parameters = bytes.fromhex(line["parameters"])
                walked = walk(here.code[name], parameters, CAPABILITY, line["block"], here.tables.get(name, b""))
                calls[line["steps"]] = Call(line["steps"], lanes, line["block"], line["shared"], walked)
            use = here.resources[name]
            result.append(Kernel(backend, *layer, name, use["REG"], use["STACK"] + use["LOCAL"], calls))
    return result


class Code:
    """The machine code of some functions in a file.

    Args:
        file: a cubin of Triton, or the CUDA module.
        names: the functions.
    """

    def __init__(self, file: Path, names: Iterable[str]):
        arguments = () if file.suffix == ".cubin" else _ARCHITECTURE
        self.resources = resources(file, *arguments)
        self.code = disassemble(file, "-fun", ",".join(sorted(names)), *arguments)
        self.tables = tables(file, *arguments)


def assembled(ptx: str, folder: Path) -> Path:
    """Compile a Triton kernel's PTX as Triton does."""
    source, to = folder / "kernel.ptx", folder / "kernel.cubin"
    source.write_text(ptx)
    target = re.search(r"^\.target (\w+)", ptx, re.MULTILINE)[1]
    subprocess.run([tool("ptxas"), "--fmad=false", f"--gpu-name={target}", source, "-o", to], check=True)
    return to


def _title(kernel: Kernel) -> list[str]:
    return [kernel.backend, kernel.layer, kernel.direction, kernel.dtype]


def _each(values) -> str:
    values = [str(v) for v in values]
    return values[0] if len(set(values)) == 1 else " / ".join(values)


def resource_table(found: list[Kernel]) -> str:
    """The table of each kernel's resources. Values that differ are for 25 / 100 steps."""
    header = ["backend", "layer", "direction", "dtype", "neurons per thread", "registers", "spilled", "shared", "warps",
              "instructions", "bytes", "in flight", "sustained"]  # fmt: skip
    rows = []
    for k in found:
        shared = _each(k.calls[t].shared for t in STEPS)
        rows.append([
            *_title(k), _each(k.calls[t].lanes for t in STEPS), k.registers, k.spilled, shared,
            _each(k.warps(t) for t in STEPS), _each(f"{k.instructions(t):.1f}" for t in STEPS),
            _each(f"{k.bytes(t):.1f}" for t in STEPS), _each(f"{k.in_flight(t) / 1000:.0f}" for t in STEPS),
            _each(f"{k.sustained(t) / 1000:.0f}" for t in STEPS),
        ])  # fmt: skip
    return "\n".join(table(header, rows))


def share_table(found: list[Kernel]) -> str:
    """The table of the predicted shares of a copy, with the bound that each comes from."""
    header = ["backend", "layer", "direction", "dtype", *(f"{name}, T={t}" for name in GPUS for t in STEPS)]
    rows = []
    for kernel in found:
        shares = [kernel.share(gpu, steps) for gpu in GPUS.values() for steps in STEPS]
        rows.append([*_title(kernel), *(f"{100 * share:.0f} % ({bound})" for share, bound in shares)])
    return "\n".join(table(header, rows))


def too_few(kernel: Kernel, steps: int, share: float = 1.0) -> list[str]:
    """The GPUs whose bandwidth needs more bytes on their way than the kernel sustains; of those, ``share`` counts."""
    return [name for name, gpu in GPUS.items() if kernel.sustained(steps) < share * kernel.needed_in_flight(gpu)]


def title(kernel: Kernel, steps: int) -> str:
    """A kernel in the list of those that sustain too few bytes."""
    return f"- {' '.join(_title(kernel))}, T={steps}:"


def below(found: list[Kernel]) -> str:
    """The list of the kernels that sustain too few bytes."""
    lines = []
    for kernel in found:
        for steps in STEPS:
            if names := too_few(kernel, steps):
                sustained = kernel.sustained(steps) / 1000
                lines.append(f"{title(kernel, steps)} {sustained:.1f} kB, too few for {' and '.join(names)}")
    return "\n".join(lines)


def too_few_in_flight(found: list[Kernel], share: float = 1.0) -> str:
    """The list of the kernels that have too few bytes in flight, whatever arithmetic takes.

    It names those that have less than ``share`` of the need.
    """
    lines = []
    for kernel in found:
        for steps in kernel.calls:
            flying = kernel.in_flight(steps)
            names = [name for name, gpu in GPUS.items() if flying < share * kernel.needed_in_flight(gpu)]
            if names:
                lines.append(f"{title(kernel, steps)} {flying / 1000:.1f} kB, too few for {' and '.join(names)}")
    return "\n".join(lines)


def read(page: str, name: str = "resources") -> dict[tuple[str, ...], dict[str, str]]:
    """Return the rows of a table of resources, by backend, layer, direction and dtype."""
    text = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- end -->", page, re.DOTALL)[1]
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return {tuple(row[:4]): dict(zip(header, row, strict=True)) for row in rows}


def put(page: Path, name: str, text: str) -> None:
    """Replace a table of a page."""
    new, count = re.subn(
        rf"(<!-- {name} -->\n).*?(<!-- end -->)", rf"\g<1>{text}\n\g<2>", page.read_text(), count=1, flags=re.DOTALL
    )
    assert count == 1, f"{page.name} has no place for {name}"
    page.write_text(new)


def main() -> None:
    """Replace the tables of the pages."""
    from hnn_kernels import _extensions

    library = Path(_extensions.cuda.__file__)
    compiled = _extensions.cuda.build_info()["architectures"]
    with_ptx = re.search(r"(\d+\.\d+)\+PTX", compiled)
    if not with_ptx:
        raise SystemExit(f"the CUDA module must have PTX; it has code for {compiled}")
    machines = {"cuda": with_ptx[1], "triton": f"{CAPABILITY / 10}"}
    found = []
    for backend, machine in machines.items():
        found += kernels(backend, library, machine)
    put(PAGE, "shares", share_table(found))
    put(TABLES, "resources", resource_table(found))
    put(TABLES, "below", below(found) or "none")
    every: dict[str, list[Kernel]] = {dtype: [] for dtype in ("bf16", "fp32")}
    for dtype, walked in every.items():
        for backend, machine in machines.items():
            for which in ("forms", "others"):
                walked.extend(kernels(backend, library, machine, which, dtypes=(dtype,)))
    put(TABLES, "forms", resource_table(every["bf16"]))
    put(TABLES, "form shares", share_table(every["bf16"]))
    put(TABLES, "too few", too_few_in_flight(every["bf16"] + every["fp32"]) or "none")


if __name__ == "__main__":
    main()
