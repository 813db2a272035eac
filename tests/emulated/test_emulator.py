"""The chosen part of the emulator's tests: what nvcc and Triton compiled runs in every form, dtype and direction.

Each compiler and architecture is a process of its own, in which torch finds a device that is not there. All of it is
`make emulate`.
"""

import csv
import os
import re
import subprocess
import sys

import pytest

from emulator import ptx_files
from emulator.__main__ import CHOSEN, ROOT, TRITON_ARCHITECTURES, Run, why_not
from hnn_kernels import _extensions, _triton
from support.forms import FORMS

pytestmark = [pytest.mark.emulated, pytest.mark.skipif(bool(why_not()), reason=f"no emulator: {why_not()}")]


def chosen(run: Run, files=CHOSEN) -> re.Match:
    """Run the tests, which must pass; return the numbers of tests, launches and kernels."""
    command, environment = run.command(files, "-q", "-p", "no:cacheprovider", "-p", "no:xdist", every_case=False)
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    found = re.search(r"emulated: (\d+) launches of (\d+) kernels.*?(\d+) passed", done.stdout, re.DOTALL)
    assert found, done.stdout
    return found


@pytest.mark.skipif(_extensions.cuda is None, reason=f"no CUDA module: {_extensions.cuda_error}")
def test_every_kernel_of_the_cuda_module():
    if not ptx_files.targets():
        pytest.skip("the CUDA module has no PTX: TORCH_CUDA_ARCH_LIST had no +PTX")
    architecture = ptx_files.targets()[-1]
    ran = chosen(Run("cuda", f"{architecture // 10}.{architecture % 10}"))
    assert int(ran[2]) == len(ptx_files.of_cuda_module(architecture)) >= 12


@pytest.mark.skipif(_extensions.cuda is None, reason=f"no CUDA module: {_extensions.cuda_error}")
def test_the_first_steps_of_the_script_for_a_gpu_host(tmp_path):
    """The first call has time for a few forms at most; the calls after it prove the others."""
    if not ptx_files.targets():
        pytest.skip("the CUDA module has no PTX: TORCH_CUDA_ARCH_LIST had no +PTX")
    path = os.pathsep.join(str(ROOT / folder) for folder in ("tests/emulator/startup", "tests", "."))
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "TRITON_"))}
    mine |= {"HNN_EMULATE": str(ptx_files.targets()[-1] / 10), "PYTHONPATH": path, "PYTHON": sys.executable}
    mine |= {"OUT": str(tmp_path), "OMP_NUM_THREADS": "1"}
    for seconds in ("21", "67", "127", "127"):  # a busy machine takes longer
        command = [ROOT / "benchmarks/gpu_host.sh", "--only", "forms-cuda", "--seconds", seconds]
        done = subprocess.run(command, env=mine, capture_output=True, text=True, timeout=180, check=False)
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stdout + done.stderr
    with (tmp_path / "gpu_host.csv").open(newline="") as file:
        said = [(row["step"], row["fact"]) for row in csv.DictReader(file) if row["value"].startswith("agrees in")]
    assert sorted(said) == sorted(("forms-cuda", form) for form in FORMS), "each once"


@pytest.mark.skipif(_triton.import_error is not None, reason=f"no Triton: {_triton.import_error}")
@pytest.mark.parametrize("architecture", TRITON_ARCHITECTURES)
def test_triton(architecture):
    # The broken kernels and the device are those of one architecture.
    ran = chosen(Run("triton", architecture), CHOSEN if architecture == "9.0" else CHOSEN[:1])
    # Each form in one dtype, forward and backward.
    assert int(ran[2]) >= 2 * len(FORMS)
