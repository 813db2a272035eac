"""The Triton kernels as ptxas compiles them, without a GPU: no spills, few registers, no FMA, no float64."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("triton")

from support import triton_aot as aot
from support.paths import environment

# Registers per thread, of 65536 on a multiprocessor: what was seen with Triton 3.6 and 3.9, and some room. 64 let 1024
# neurons run on one, 96 let 640, 128 let 512, each with all loads of a segment in flight. The last column is for
# compute capability 80, where ptxas hoists more addresses.
FORWARD_REGISTERS = {
    "fp64": (64, None),
    "fp32": (48, 48),
    "bf16": (48, None),
    "fp16": (48, None),
    "fp32 constant": (32, None),
    "fp32 count": (40, None),
    "bf16 constant count": (32, None),
    "fp32 smooth": (48, None),
    "fp32 coefficients strided state": (48, None),
    "fp32 axon": (48, None),
    "fp32 axon learnt": (48, None),
    "fp32 potential": (48, None),
    "fp32 maximum alone": (40, None),
    "fp32 zero": (48, None),
    "fp32 iir": (48, None),
    "fp64 iir": (64, None),
    "fp32 checkpoints": (48, None),
}
BACKWARD_REGISTERS = {
    "fp64": (168, None),
    "fp32": (96, 128),
    "fp32 T=8": (56, None),
    "fp32 T=16": (96, None),
    "bf16": (96, None),
    "fp16 T=8": (56, None),
    "fp32 one_step T=8": (56, None),
    "fp32 detach T=8": (56, None),
    "fp32 constant": (72, None),
    "fp32 count": (72, None),
    "bf16 constant count": (48, None),
    "fp32 smooth": (96, None),
    "fp32 decay": (120, None),
    # The reset variable is kept in registers beside the potential.
    "fp32 coefficients": (136, None),
    "bf16 coefficients strided state": (136, 176),
    "fp64 coefficients state": (248, None),
    "fp32 axon": (104, None),
    # Segments of 8 steps: what went through a filter is kept beside the potential.
    "fp32 axon learnt": (96, None),
    "fp32 all learnt": (160, None),
    "fp32 potential": (104, None),
    "fp32 maximum alone": (80, None),
    "fp32 zero": (96, None),
    "fp32 zero learnt": (104, None),
    # Nothing is recomputed, and the input is not read.
    "fp32 iir": (64, None),
    "fp32 iir learnt": (80, None),
    # Windows of 8 steps are segments of 8.
    "fp32 checkpoints": (56, None),
}
# 40 let 1536 elements run on a multiprocessor, each with four steps' loads or stores in flight; 32 were seen, and 39 in
# float64.
CODING_REGISTERS = {"fp32": 40, "bf16": 40, "fp64": 48}
# Two states and two outputs: 48 and 168 were seen. A segment of 16 steps keeps in registers the states before each
# step, the input, and the gradient of each output. 170 let 384 neurons run on a multiprocessor.
DEFINED_REGISTERS = {"defined": 56, "defined backward": 170}
CAPABILITIES = (80, 90, 100)


def _cases(kernels):
    for kernel, cases in kernels.items():
        for capability in CAPABILITIES:
            for case in cases:
                if capability == aot.MAIN_CAPABILITY or case in aot.ELSEWHERE:
                    yield kernel, case, capability


@pytest.fixture(scope="module")
def kernels():
    """The resources of every compiled kernel, from a process in which Triton compiles instead of interpreting."""
    env = {name: value for name, value in environment().items() if name != "TRITON_INTERPRET"}
    run = subprocess.run(
        [sys.executable, aot.__file__, *map(str, CAPABILITIES)], env=env, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    return {(line["kernel"], line["case"], line["capability"]): line for line in lines}


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("kernel", "case", "capability"), list(_cases(aot.LAYER)))
def test_compiles_to_what_was_meant(kernels, kernel, case, capability):
    facts = kernels[kernel, case, capability]
    assert facts["LOCAL"] == 0
    assert facts["STACK"] == 0
    registers = {"forward": FORWARD_REGISTERS, "backward": BACKWARD_REGISTERS}[kernel][case][capability == 80]
    assert facts["REG"] <= registers
    assert facts["float64"] == case.startswith("fp64")
    # A fused multiply-add would round the potential once where the reference rounds twice. The erf of smooth and the
    # float64 exponential are library code, made of them.
    library = "smooth" in case or (kernel == "backward" and case.startswith("fp64"))
    assert (facts["fused"] > 0) == library
    # Another T or batch is not another kernel.
    assert facts.get("reused", True)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("kernel", "case", "capability"), list(_cases(aot.CODING)))
def test_codings_compile_to_what_was_meant(kernels, kernel, case, capability):
    facts = kernels[kernel, case, capability]
    dtype = case.split()[0]
    assert facts["LOCAL"] == 0
    assert facts["STACK"] == 0
    assert facts["REG"] <= CODING_REGISTERS[dtype]
    assert facts["float64"] == (dtype == "fp64")
    # Only within a square root, which takes three or four; and in the library's exponential in float64.
    assert facts["roots"] == (0 if kernel == "poisson" or case == "fp32 mean" else 2)
    assert dtype == "fp64" or facts["fused"] <= 4 * facts["roots"]
    assert facts["reused"]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", aot.DEFINED)
@pytest.mark.parametrize("kernel", DEFINED_REGISTERS)
def test_neurons_by_definition_compile_to_what_was_meant(kernels, kernel, case):
    facts = kernels[kernel, case, aot.MAIN_CAPABILITY]
    assert facts["LOCAL"] == 0
    assert facts["STACK"] == 0
    assert facts["REG"] <= DEFINED_REGISTERS[kernel]
    assert not facts["float64"]
    # Forward has none, for the spikes. In backward they are the division in the surrogate's derivative, which is
    # rounded as the reference's.
    assert (facts["fused"] > 0) == (kernel == "defined backward")
    assert facts["reused"]
