"""The variables that the build reads: an empty one is an unset one, and a wrong value is refused."""

import json
import os
import subprocess
import sys
import tomllib

import pytest

from support.paths import ROOT

NAMES = (
    "HNN_BUILD",
    "HNN_REQUIRE",
    "HNN_BUILD_SHIM",
    "HNN_WHEEL",
    "HNN_SANITIZE",
    "CXX",
    "TORCH_CUDA_ARCH_LIST",
    "MAX_JOBS",
)


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
        ({"HNN_BUILD": "gpu"}, "HNN_BUILD must be python, cpu, cuda, only-cuda or native; got 'gpu'"),
        ({"HNN_BUILD": "python,cpu"}, "HNN_BUILD must be python, cpu, cuda, only-cuda or native; got 'python,cpu'"),
        ({"HNN_WHEEL": "yes"}, "HNN_WHEEL must be 0 or 1; got 'yes'"),
        ({"HNN_BUILD_SHIM": "yes"}, "HNN_BUILD_SHIM must be 0 or 1; got 'yes'"),
        (
            {"HNN_BUILD": "python", "HNN_REQUIRE": "cpu,gpu"},
            "HNN_REQUIRE must be cpu, cuda, shim or inspect; got 'gpu'",
        ),
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


@pytest.fixture
def toolkit(tmp_path):
    """A function that makes a toolkit of torch's CUDA version, which compiles for these architectures."""
    torch = pytest.importorskip("torch")
    if torch.version.cuda is None:
        pytest.skip("this torch is built without CUDA, so CUDA kernels are never tried")

    def make(*architectures):
        nvcc = tmp_path / "bin" / "nvcc"
        nvcc.parent.mkdir()
        listed = "\\n".join(f"compute_{one}" for one in architectures)
        nvcc.write_text(
            f'#!/bin/sh\ncase "$1" in --version) echo release {torch.version.cuda}, V;; '
            f"--list-gpu-arch) printf '{listed}\\n';; esac\n"
        )
        nvcc.chmod(0o755)
        return str(tmp_path)

    return make


@pytest.mark.parametrize(
    ("known", "given", "expected"),
    [
        ((50, 70, 75, 80, 86, 89, 90), "", "for 7.5;8.0;9.0+PTX"),
        ((75, 80, 86, 90, 100, 103, 110, 120, 121), "", "for 7.5;8.0;9.0;10.0;12.0+PTX"),
        ((100, 130), "", "for 10.0+PTX"),
        ((130,), "", "no, the nvcc in {toolkit} compiles for none of 7.5, 8.0, 9.0, 10.0, 12.0"),
        ((), "", "no, the nvcc in {toolkit} compiles for none of 7.5, 8.0, 9.0, 10.0, 12.0"),
        ((75, 80), "9.0", "for 9.0"),
        ((75, 80), "9.0;8.0+PTX", "for 8.0+PTX;9.0"),
        ((75, 80), "Ampere", "for 8.0;8.6+PTX"),
    ],
)
def test_the_architectures_are_those_that_the_toolkit_knows(toolkit, known, given, expected):
    """CUDA 12.6 knows no sm_100, and CUDA 13 none below sm_75; TORCH_CUDA_ARCH_LIST is taken as it is."""
    folder = toolkit(*known)
    done = plan(HNN_BUILD="cuda", CUDA_HOME=folder, TORCH_CUDA_ARCH_LIST=given)
    assert done.returncode == 0, done.stderr
    if "pure Python" in done.stderr:
        pytest.skip("nothing is compiled here")
    (line,) = (line for line in done.stderr.splitlines() if "CUDA kernels:" in line)
    assert line.endswith(expected.format(toolkit=folder)), line


def test_an_architecture_that_torch_does_not_know_is_refused(toolkit):
    done = plan(HNN_BUILD="cuda", CUDA_HOME=toolkit(80), TORCH_CUDA_ARCH_LIST="hopper")
    if "pure Python" in done.stderr:
        pytest.skip("nothing is compiled here")
    assert done.returncode != 0
    assert "TORCH_CUDA_ARCH_LIST must be a list such as 8.0;9.0+PTX; got 'hopper'" in done.stderr


def test_the_cuda_module_alone():
    done = plan(HNN_BUILD="only-cuda", HNN_REQUIRE="cpu")
    if "pure Python" in done.stderr:
        pytest.skip("nothing is compiled here")
    assert "C++ CPU kernels: no, HNN_BUILD=only-cuda" in done.stderr
    assert "HNN_REQUIRE asks for cpu, which this machine cannot build" in done.stderr.splitlines()[-1]
    assert plan(HNN_BUILD="only-cuda").returncode == 0


def test_without_pybind11_the_kernels_are_built_all_the_same():
    """A host with a GPU may lack it; only the inspection module needs it."""
    hidden = "import runpy, sys; sys.modules['pybind11'] = None; runpy.run_path('setup.py')"
    environment = {name: value for name, value in os.environ.items() if name not in NAMES} | {"HNN_BUILD": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", hidden, "--version"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    if "pure Python" in done.stderr:
        pytest.skip("nothing is compiled here")
    assert "C++ CPU kernels: yes" in done.stderr
    assert "inspection module: no, there is no pybind11" in done.stderr


# Cases are decided in one process, because each imports torch.
DECIDE = """
import contextlib, io, json, os, runpy, sys
import torch
found = []
for gpu, asked in json.loads(sys.argv.pop()):
    torch.cuda.is_available = lambda: gpu
    os.environ.update(asked)
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        runpy.run_path("setup.py")
    for name in asked:
        del os.environ[name]
    found.append(next((line for line in said.getvalue().splitlines() if "CUDA kernels:" in line), "pure Python"))
print(json.dumps(found))
"""


def test_cuda_kernels_are_built_when_asked_for_where_a_gpu_is_or_for_a_wheel(toolkit):
    lists = {"TORCH_CUDA_ARCH_LIST": "8.0"}
    cases = [
        (False, lists, False),
        (False, lists | {"HNN_BUILD": "native"}, False),
        (False, lists | {"HNN_BUILD": "cuda"}, True),
        (False, lists | {"HNN_BUILD": "only-cuda"}, True),
        (False, lists | {"HNN_REQUIRE": "cuda"}, True),
        (False, lists | {"HNN_WHEEL": "1"}, True),
        (False, lists | {"HNN_WHEEL": "1", "HNN_BUILD": "cpu"}, False),
        (True, lists, True),
        (True, lists | {"HNN_BUILD": "native"}, True),
        (True, lists | {"HNN_BUILD": "cpu"}, False),
    ]
    environment = {name: value for name, value in os.environ.items() if name not in NAMES}
    done = subprocess.run(
        [sys.executable, "-c", DECIDE, "--version", json.dumps([case[:2] for case in cases])],
        cwd=ROOT, env=environment | {"CUDA_HOME": toolkit(80)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    if "pure Python" in said:
        pytest.skip("nothing is compiled here")
    assert [("yes" in line, *case) for line, case in zip(said, cases, strict=True)] == [
        (built, gpu, asked, built) for gpu, asked, built in cases
    ], said
    assert said[0].endswith("there is no GPU here; HNN_BUILD=cuda builds them all the same")


def test_a_build_for_this_machine_takes_one_instruction_set():
    done = plan(HNN_BUILD="native")
    assert done.returncode == 0, done.stderr
    if "pure Python" in done.stderr:
        pytest.skip("nothing is compiled here")
    names = list(tomllib.loads((ROOT / "csrc/flags.toml").read_text())["instruction_sets"])
    (line,) = (line for line in done.stderr.splitlines() if "instruction sets" in line)
    assert len(names) - sum(name in line for name in names) == 1, line
    from hnn_kernels import _extensions

    if _extensions.cpu is not None:  # the compiler and the processor tell alike
        assert _extensions.cpu.instruction_sets()[0] not in line
