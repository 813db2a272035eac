"""The variables that the build reads: an empty one is an unset one, and a wrong value is refused."""

import os
import subprocess
import sys

import pytest

from support.paths import ROOT

NAMES = ("HNN_BUILD", "HNN_REQUIRE", "HNN_BUILD_SHIM", "HNN_SANITIZE", "CXX", "TORCH_CUDA_ARCH_LIST", "MAX_JOBS")


def plan(**variables):
    """The output of setup.py when it is asked for the version."""
    environment = {name: value for name, value in os.environ.items() if name not in NAMES} | variables
    return subprocess.run(
        [sys.executable, "setup.py", "--version"], cwd=ROOT, env=environment, capture_output=True, text=True
    )


def test_an_empty_variable_is_an_unset_one():
    decided = []
    for variables in ({}, dict.fromkeys(NAMES, "")):
        done = plan(**variables)
        assert done.returncode == 0, done.stderr
        decided.append([line for line in done.stderr.splitlines() if line.startswith("hnn_kernels: ")])
    assert decided[0] == decided[1] != []


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"HNN_BUILD": "gpu"}, "HNN_BUILD must be python, cpu or cuda; got 'gpu'"),
        ({"HNN_BUILD": "python,cpu"}, "HNN_BUILD must be python, cpu or cuda; got 'python,cpu'"),
        ({"HNN_BUILD_SHIM": "yes"}, "HNN_BUILD_SHIM must be 0 or 1; got 'yes'"),
        ({"HNN_BUILD": "python", "HNN_REQUIRE": "cpu,gpu"}, "HNN_REQUIRE must be cpu, cuda or shim; got 'gpu'"),
        ({"CXX": "no-such-compiler"}, "CXX must be the command of a C++ compiler; there is no 'no-such-compiler'"),
        ({"HNN_SANITIZE": "adress"}, "HNN_SANITIZE must be address, undefined, leak or thread; got 'adress'"),
        ({"MAX_JOBS": "many"}, "MAX_JOBS must be a whole number of at least 1; got 'many'"),
    ],
)
def test_a_wrong_value_is_refused(variables, message):
    done = plan(**variables)
    if variables.keys() & {"HNN_SANITIZE", "MAX_JOBS"} and "pure Python" in done.stderr:
        pytest.skip("nothing is compiled here")
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1] == message
