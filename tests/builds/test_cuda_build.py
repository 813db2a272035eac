"""The resources of the CUDA kernels, read from their machine code without a GPU."""

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from benchmarks.gpu import page as gpu_page
from benchmarks.gpu.machine_code import resources, tool
from hnn_kernels import _extensions
from support.gpu_page import check
from support.paths import ROOT

SOURCES = ROOT / "csrc"
ARCHITECTURES = ("80", "90", "100")

# Registers per thread, by what of a layer is constant in the kernel. With 65536 on a multiprocessor, 48 let it hold 10
# blocks of 128 threads of the forward kernel, 56 let it hold 9; 80 let it hold 12 blocks of 64 threads of the backward
# kernel, and 96 let it hold 10 (launch bounds): with 8 to 16 loads of each thread in flight, more than the latency of
# the memory asks for. 128 for what learns the coefficients of a filter of three histories. float64 is for proving: it
# may have all there are, and so may the general kernels, which keep their filters in memory anyway and may spill, too.
BUDGET = {
    "forward": {"Plain": 48, "NoFilters": 48, "OnlySynapse": 56, "OnlyAxon": 56, "UsualAxon20": 56, "General": 255},
    "backward": {"Plain": 80, "NoFilters": 96, "OnlySynapse": 96, "OnlyAxon": 96, "UsualAxon20": 96, "General": 255},
}
LEARNT_AXON_21 = 128
# 48 let a multiprocessor hold 10 blocks of 128 threads.
CODING, CODING_BUDGET = ("encode_gaussian", "gaussian_backward", "encode_poisson"), 48


class Kernel(NamedTuple):
    name: str
    registers: int
    stack: int
    spilled: int

    @property
    def parameters(self) -> tuple[str, str, str, str]:
        """Direction, dtype, form, and the form's own parameters, as they are in the mangled name."""
        return re.match(
            r"_ZN8hnn_cuda\d+(forward|backward)I(d|f|N3c10\d+[A-Za-z0-9]+E)NS_\d+([A-Za-z]+?\d*)(E.*|I.*)", self.name
        ).groups()

    @property
    def coding(self) -> str | None:
        """The name of a coding's kernel."""
        found = re.match(rf"_ZN8hnn_cuda\d+({'|'.join(CODING)})I", self.name)
        return found and found[1]

    @property
    def budget(self) -> int:
        if self.coding:
            return CODING_BUDGET
        direction, dtype, form, orders = self.parameters
        if dtype == "d":
            return 255
        return LEARNT_AXON_21 if (form, orders[:15]) == ("OnlyAxon", "ILi2ELi1EEELb1E") else BUDGET[direction][form]


def absent(reason: str):
    """Skip the test for lack of a toolkit; fail it if HNN_REQUIRE asks for the CUDA kernels."""
    if "cuda" in os.environ.get("HNN_REQUIRE", "").split(","):
        pytest.fail(f"HNN_REQUIRE asks for cuda, but {reason}")
    pytest.skip(reason)


def installed(architecture: str) -> list[Kernel]:
    """The kernels in the installed module; none where it is older than its sources or lacks the architecture."""
    if _extensions.cuda is None or tool("cuobjdump") is None:
        return []
    module = Path(_extensions.cuda.__file__)
    sources = [p for folder in (SOURCES, SOURCES / "cuda") for p in folder.glob("*.*")]
    if any(p.stat().st_mtime > module.stat().st_mtime for p in sources):
        return []
    found = resources(module, "--gpu-architecture", f"sm_{architecture}")
    return [Kernel(n, r["REG"], r["STACK"], r["LOCAL"]) for n, r in found.items() if n.startswith("_ZN8hnn_cuda")]


def compiled(architecture: str, folder: Path) -> list[Kernel]:
    """The kernels as nvcc compiles them now, with the flags of setup.py that change machine code."""
    nvcc = tool("nvcc")
    if nvcc is None:
        absent("there is no CUDA toolkit")
    known = subprocess.run([nvcc, "--list-gpu-code"], capture_output=True, text=True, check=True).stdout.split()
    if f"sm_{architecture}" not in known:
        absent(f"this toolkit does not know sm_{architecture}")
    include = Path(torch.__file__).parent / "include"
    flags = ["-std=c++17", "-O3", "--fmad=false", "-DUSE_CUDA", "-DTORCH_STABLE_ONLY"]
    flags += ["-DTORCH_TARGET_VERSION=0x020b000000000000", f"-I{include}", f"-arch=sm_{architecture}", "-Xptxas=-v"]
    report = ""
    for source in sorted((SOURCES / "cuda").glob("*.cu")):
        command = [nvcc, "-cubin", *flags, str(source), "-o", str(folder / f"{source.stem}.cubin")]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        report += run.stdout + run.stderr
        assert run.returncode == 0, report
    # A kernel's name, its bytes of stack, spill stores and spill loads, and its registers.
    found = re.findall(
        r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, \d+ bytes spill loads"
        r".*?Used (\d+) registers",
        report,
        re.DOTALL,
    )
    return [Kernel(name, int(registers), int(stack), int(spilled)) for name, stack, spilled, registers in found]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def built(request, tmp_path_factory):
    """An architecture, its kernels, and the files with their machine code."""
    kernels = installed(request.param)
    if kernels:
        return request.param, kernels, [Path(_extensions.cuda.__file__)]
    folder = tmp_path_factory.mktemp("cubins")
    kernels = compiled(request.param, folder)
    return request.param, kernels, sorted(folder.glob("*.cubin"))


def test_no_specialised_kernel_spills_and_all_keep_their_budget(built):
    _, kernels, _ = built
    layer = [k for k in kernels if not k.coding]
    assert {k.parameters[::2] for k in layer} == {(d, form) for d, forms in BUDGET.items() for form in forms}
    assert {k.coding for k in kernels} == {None, *CODING}
    may_spill = {k for k in layer if k.parameters[2] == "General"}
    wrong = [k for k in kernels if k.registers > k.budget or (k not in may_spill and (k.stack or k.spilled))]
    assert not wrong, "\n".join(map(str, wrong))


def test_the_page_on_gpus_says_what_the_machine_code_does(built):
    architecture, _, files = built
    if tool("cuobjdump") is None:
        absent("there is no cuobjdump")
    for kernel in gpu_page.cuda_kernels(int(architecture), files):
        check(kernel, int(architecture))
