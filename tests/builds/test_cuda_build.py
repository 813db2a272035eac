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
from benchmarks.gpu.model import CAPABILITY, GPUS, STEPS
from emulator import ptx_files
from emulator.__main__ import why_not
from hnn_kernels import _extensions, _triton
from support.forms import LEFT_TO_TRITON
from support.gpu_page import check
from support.paths import ROOT
from support.targets import EVERY_CASE

SOURCES = ROOT / "csrc"
# That of the tests' module, which is there. HNN_EVERY_CASE=1 takes all that setup.py builds for: compiling for one
# takes minutes.
ARCHITECTURES = ("90",)
if EVERY_CASE:
    ARCHITECTURES = ("75", "80", "90", "100", "120")

# Registers per thread, by what of a layer is constant in the kernel. With 65536 on a multiprocessor, 48 let it hold 20
# blocks of 64 threads of the forward kernel, 56 let it hold 18; 80 let it hold 12 of the backward kernel, and 96 let it
# hold 10 (launch bounds): with 4 to 8 loads of each thread in flight, more than the latency of the memory asks for.
# 128 for what learns beside a filter, and for sm_100, where ptxas needs more than 96, for what does not learn and has
# options that are no constants. The general form has two filters: 128, and 168 where it learns. float64 is for proving:
# it may have all there are, and so may the kernels for anything, which keep their filters in memory anyway.
BUDGET = {
    "forward": {
        "Plain": 48,
        "NoFilters": 48,
        "OnlySynapse": 56,
        "OnlyAxon": 56,
        "UsualAxon20": 56,
        "ReadOut": 48,
        "General": 72,
        "Anything": 128,
    },
    "backward": {
        "Plain": 80,
        "NoFilters": 96,
        "OnlySynapse": 96,
        "OnlyAxon": 96,
        "UsualAxon20": 96,
        "ReadOut": 96,
        "General": 128,
        "Anything": 255,
    },
}
LEARNT, BOTH_LEARNT = 128, 168
MORE = {"100": 128}  # what does not learn, by architecture
DEEP = {"100": 168}  # with a history of more than one value, where an architecture needs more than LEARNT
# Those of threads with several neurons, each load being of 64 bits: 64 let a multiprocessor hold 16 blocks, 80 let it
# hold 12, 96 let it hold 10, and 128 let it hold 8.
WIDE_BUDGET = {
    ("forward", "Plain"): {2: 64, 4: 64},
    ("forward", "UsualAxon20"): {2: 80, 4: 96},
    ("backward", "Plain"): {2: 128, 4: 128},
    ("backward", "UsualAxon20"): {2: 128, 4: 128},
    ("forward", "Iir20"): {2: 80, 4: 96},
    ("backward", "Iir20"): {2: 80, 4: 80},
}
# Executed per neuron-step by the plain layer over 25 steps, forward and backward.
MOST_INSTRUCTIONS = {"fp32": (16, 34), "bf16": (14, 30)}
# Of the codings, and of the sums of coefficients' gradients. 48 let a multiprocessor hold 1280 threads.
OTHERS, OTHERS_BUDGET = ("encode_gaussian", "gaussian_backward", "encode_poisson", "add_up"), 48


class Kernel(NamedTuple):
    name: str
    registers: int
    stack: int
    spilled: int

    @property
    def parameters(self) -> tuple[str, str, str, str, str]:
        """Direction, dtype, form, the form's own parameters and the neurons per thread, as in the mangled name."""
        return re.match(
            r"_ZN8hnn_cuda\d+(forward|backward)I(d|f|N3c10\d+[A-Za-z0-9]+E)NS_\d+([A-Za-z]+?\d*)((?:ILi.*E)?)E"
            r"Li(\d)E(?:Lb\dE)?EEv",
            self.name,
        ).groups()

    @property
    def other(self) -> str | None:
        """The name of a kernel that is not the layer's."""
        found = re.match(rf"_ZN8hnn_cuda\d+({'|'.join(OTHERS)})I", self.name)
        return found and found[1]

    def budget(self, architecture: str) -> int:
        """The registers that the kernel may take. With 64 the 1024 threads of an sm_75 are all there."""
        return max(self._budget(architecture), 64 if architecture == "75" else 0)

    def _budget(self, architecture: str) -> int:
        if self.other:
            return OTHERS_BUDGET
        direction, dtype, form, orders, lanes = self.parameters
        if dtype == "d":
            return 255
        if lanes != "1":
            return WIDE_BUDGET[direction, form][int(lanes)]
        large = form in ("OnlySynapse", "OnlyAxon")
        deep = large and orders != "ILi1ELi0EE"
        learns = "ELb1EEEv" in self.name
        if direction == "backward" and not learns and BUDGET[direction][form] == 96 and form != "UsualAxon20":
            return MORE.get(architecture, 96)
        if form == "General" and learns:
            return BOTH_LEARNT
        if not large or not learns:
            return BUDGET[direction][form]
        return DEEP.get(architecture, LEARNT) if deep else LEARNT


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
    """The kernels of an architecture."""
    return installed(request.param) or compiled(request.param, tmp_path_factory.mktemp("cubins"))


def test_no_kernel_spills_and_all_keep_their_budget(built, request):
    architecture = request.node.callspec.params["built"]
    layer = [k for k in built if not k.other]
    forms = {(direction, form) for direction, known in BUDGET.items() for form in known} | set(WIDE_BUDGET)
    assert {(k.parameters[0], k.parameters[2]) for k in layer} == forms
    assert {k.parameters[4] for k in layer} == {"1", "2", "4"}
    assert {k.other for k in built} == {None, *OTHERS}

    wrong = [k for k in built if k.registers > k.budget(architecture) or k.stack or k.spilled]
    assert not wrong, "\n".join(map(str, wrong))


def test_each_source_of_the_layer_has_one_dtype():
    """Each source with kernels of the layer instantiates one dtype, so that several compile at once."""
    text = {p: re.sub(r"//.*", "", p.read_text()) for p in (SOURCES / "cuda").glob("*.cu")}
    layers = {p: re.findall(r"^template\b.*\bkernels_of<([\w:]+)>", code, re.MULTILINE) for p, code in text.items()}
    assert [p.name for p, found in layers.items() if "instances.cuh" in text[p] and len(found) != 1] == []
    dtypes = sorted(one for found in layers.values() for one in found)
    assert dtypes == ["double", "float", "hnn_cuda::BFloat16", "hnn_cuda::Half"]


@pytest.fixture
def recorder():
    """The emulated device on which the calls of the built module are recorded."""
    if why_not():
        pytest.skip(f"no emulator, which records the calls: {why_not()}")
    if not installed(str(CAPABILITY)) or not ptx_files.targets():
        absent(f"the CUDA module has no code for sm_{CAPABILITY}, or no PTX, by which calls are recorded")
    return f"{ptx_files.targets()[-1] / 10}"


def test_the_page_on_gpus_says_what_the_machine_code_does(recorder):
    """A walk through the machine code with the parameters of calls through the real host code."""
    steps = STEPS if EVERY_CASE else STEPS[:1]  # a long walk takes its time
    for kernel in gpu_page.kernels("cuda", Path(_extensions.cuda.__file__), recorder, steps=steps):
        check(kernel)
        check_in_flight(kernel)
        if kernel.layer == "lif":
            forward = kernel.direction == "forward"
            assert kernel.instructions(25) <= MOST_INSTRUCTIONS[kernel.dtype][0 if forward else 1]


def check_in_flight(kernel: gpu_page.Kernel) -> None:
    """Check that enough is on its way for the whole bandwidth, if only the memory's latency takes time.

    Where arithmetic does, too, and it is too few, the page names the kernel. Another ptxas is off by a few per cent.
    """
    for steps in kernel.calls:
        for gpu in GPUS.values():
            assert kernel.in_flight(steps) > kernel.needed_in_flight(gpu), (kernel, steps)
        if gpu_page.too_few(kernel, steps, 0.95):
            assert gpu_page.title(kernel, steps) in gpu_page.TABLES.read_text()


def test_the_page_has_every_form_of_the_layer(recorder):
    """In bfloat16, where a load brings the fewest bytes; each kernel is in one of the tables, and is walked through."""
    library, page = Path(_extensions.cuda.__file__), gpu_page.TABLES.read_text()
    found = gpu_page.kernels("cuda", library, recorder, "forms", dtypes=("bf16",), steps=(25,))
    layers = [k for k in installed(str(CAPABILITY)) if not k.other and "BFloat16" in k.name and k.parameters[4] == "1"]
    assert {k.name for k in layers} == {k.name for k in found}
    if EVERY_CASE:
        found += gpu_page.kernels("cuda", library, recorder, "others", dtypes=("bf16",), steps=(25,))
    assert {call.lanes for kernel in found for call in kernel.calls.values()} == {1}
    names = {kernel.layer for kernel in found} | {name + end for name in LEFT_TO_TRITON for end in ("", ", learnt")}
    rows = {(one, name, d, "bf16") for one in ("cuda", "triton") for name in names for d in ("forward", "backward")}
    assert set(gpu_page.read(page, "forms")) == rows
    assert set(gpu_page.read(page, "form shares")) == rows
    for kernel in found:
        assert kernel.spilled == 0
        if gpu_page.too_few_in_flight([kernel], 0.95):
            assert gpu_page.title(kernel, 25) in page, kernel.layer


# Triton compiles for seconds each: one for each way in which backward finds room for its loads.
CHOSEN = ("read-out, axon (2, 0)", "synapse (3, 0)", "smooth, axon (2, 0)")


@pytest.mark.skipif(_triton.import_error is not None, reason=f"no Triton: {_triton.import_error}")
@pytest.mark.skipif(bool(why_not()), reason=f"no emulator, which records the calls: {why_not()}")
@pytest.mark.timeout(900)
def test_triton_has_enough_in_flight_in_every_form():
    """In bfloat16, where a load brings the fewest bytes, and over few steps, which a start without loads is part of."""
    found = []
    for which in ("forms", "others") if EVERY_CASE else ("others",):
        found += gpu_page.kernels(
            "triton", Path(), f"{CAPABILITY / 10}", which, ("bf16",), (25,), None if EVERY_CASE else CHOSEN
        )
    assert {kernel.layer for kernel in found} >= set(CHOSEN)
    for kernel in found:
        assert kernel.spilled == 0, kernel.layer
        if gpu_page.too_few_in_flight([kernel]):
            # The issue of their instructions alone takes longer than the loads may.
            assert kernel.layer in ("smooth, learnt", "smooth, axon (2, 0), learnt"), kernel
            assert {kernel.share(gpu, 25)[1] for gpu in GPUS.values()} == {"issue"}
            assert gpu_page.title(kernel, 25) in gpu_page.TABLES.read_text()
