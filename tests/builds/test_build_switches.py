"""The variables that the build reads: an empty one is an unset one, and a wrong value is refused."""

import json
import os
import subprocess
import sys
import tomllib
from typing import NamedTuple

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


class Plan(NamedTuple):
    """The outcome of setup.py.

    Attributes:
        refused: the message that ends it; None if nothing is wrong.
        said: the lines that it prints before.
    """

    refused: str | None
    said: list[str]


# One process for many cases, because each imports torch.
DECIDE = """
import contextlib, io, json, os, runpy, sys
import torch
hidden, cases = json.loads(sys.argv.pop())
sys.modules.update(dict.fromkeys(hidden))
for gpu, variables in cases:
    torch.cuda.is_available = lambda: gpu
    os.environ.update(variables)
    said, refused = io.StringIO(), None
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            runpy.run_path("setup.py")
        except SystemExit as end:
            refused = str(end)
    for name in variables:
        del os.environ[name]
    lines = [line for line in said.getvalue().splitlines() if line.startswith("hnn_kernels: ")]
    print(json.dumps([refused, lines]))
"""


def plans(cases, gpus=None, hidden=(), **everywhere):
    """Ask setup.py for the version with each of some dictionaries of variables, and return what it says.

    Args:
        cases: the variables; ``everywhere`` are those of all of them.
        gpus: for each case, whether there is a GPU; by default for none.
        hidden: modules that are not there.
    """
    environment = {name: value for name, value in os.environ.items() if name not in NAMES} | everywhere
    asked = list(zip(gpus or [False] * len(cases), cases, strict=True))
    done = subprocess.run(
        [sys.executable, "-c", DECIDE, "--version", json.dumps([hidden, asked])],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [Plan(*json.loads(line)) for line in done.stdout.splitlines()]
    assert len(found) == len(cases)
    return found


def compiled(found):
    """Return ``found``; skip the test where nothing is compiled."""
    if any("pure Python" in line for one in found for line in one.said):
        pytest.skip("nothing is compiled here")
    return found


def test_an_empty_variable_is_an_unset_one():
    unset, empty = plans([{}, dict.fromkeys(NAMES, "")])
    assert unset.refused is empty.refused is None
    assert unset.said == empty.said != []


def test_a_wrong_value_is_refused():
    cases = [
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
    ]
    plain, *found = plans([{}, *(variables for variables, _ in cases)])
    if any("pure Python" in line for line in plain.said):  # only a compiler's build reads the last two
        found, cases = found[:-2], cases[:-2]
    assert [one.refused for one in found] == [message for _, message in cases]


@pytest.fixture
def toolkit(tmp_path):
    """The folder of a toolkit of torch's CUDA version. It compiles for the architectures that a variable lists."""
    torch = pytest.importorskip("torch")
    if torch.version.cuda is None:
        pytest.skip("this torch is built without CUDA, so CUDA kernels are never tried")
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text(
        f'#!/bin/sh\ncase "$1" in --version) echo release {torch.version.cuda}, V;; '
        "--list-gpu-arch) for one in $KNOWN; do echo compute_$one; done;; esac\n"
    )
    nvcc.chmod(0o755)
    return str(tmp_path)


def about_cuda(found):
    """The line on the CUDA kernels."""
    (line,) = (line for line in found.said if "CUDA kernels:" in line)
    return line


def test_the_architectures_are_those_that_the_toolkit_knows(toolkit):
    """CUDA 12.6 knows no sm_100, and CUDA 13 none below sm_75; TORCH_CUDA_ARCH_LIST is taken as it is."""
    none = f"no, the nvcc in {toolkit} compiles for none of 7.5, 8.0, 9.0, 10.0, 12.0"
    cases = [
        ("50 70 75 80 86 89 90", "", "for 7.5;8.0;9.0+PTX"),
        ("75 80 86 90 100 103 110 120 121", "", "for 7.5;8.0;9.0;10.0;12.0+PTX"),
        ("100 130", "", "for 10.0+PTX"),
        ("130", "", none),
        ("", "", none),
        ("75 80", "9.0", "for 9.0"),
        ("75 80", "9.0;8.0+PTX", "for 8.0+PTX;9.0"),
        ("75 80", "Ampere", "for 8.0;8.6+PTX"),
    ]
    variables = [{"KNOWN": known, "TORCH_CUDA_ARCH_LIST": given} for known, given, _ in cases]
    found = compiled(plans(variables, HNN_BUILD="cuda", CUDA_HOME=toolkit))
    assert [one.refused for one in found] == [None] * len(cases)
    said = [about_cuda(one) for one in found]
    assert [line.endswith(case[-1]) for line, case in zip(said, cases, strict=True)] == [True] * len(cases), said


def test_an_architecture_that_torch_does_not_know_is_refused(toolkit):
    (found,) = compiled(plans([{"TORCH_CUDA_ARCH_LIST": "hopper"}], HNN_BUILD="cuda", CUDA_HOME=toolkit, KNOWN="80"))
    assert found.refused.startswith("TORCH_CUDA_ARCH_LIST must be a list such as 8.0;9.0+PTX; got 'hopper'")


def test_the_cuda_module_alone():
    asked, alone = compiled(plans([{"HNN_REQUIRE": "cpu"}, {}], HNN_BUILD="only-cuda"))
    assert any("C++ CPU kernels: no, HNN_BUILD=only-cuda" in line for line in asked.said)
    assert "HNN_REQUIRE asks for cpu, which this machine cannot build" in asked.refused
    assert alone.refused is None


def test_without_pybind11_the_kernels_are_built_all_the_same():
    """A host with a GPU may lack it; only the inspection module needs it."""
    (found,) = compiled(plans([{"HNN_BUILD": "cpu"}], hidden=["pybind11"]))
    assert found.refused is None
    said = "\n".join(found.said)
    assert "C++ CPU kernels: yes" in said
    assert "inspection module: no, there is no pybind11" in said


def test_cuda_kernels_are_built_when_asked_for_where_a_gpu_is_or_for_a_wheel(toolkit):
    cases = [
        (False, {}, False),
        (False, {"HNN_BUILD": "native"}, False),
        (False, {"HNN_BUILD": "cuda"}, True),
        (False, {"HNN_BUILD": "only-cuda"}, True),
        (False, {"HNN_REQUIRE": "cuda"}, True),
        (False, {"HNN_WHEEL": "1"}, True),
        (False, {"HNN_WHEEL": "1", "HNN_BUILD": "cpu"}, False),
        (True, {}, True),
        (True, {"HNN_BUILD": "native"}, True),
        (True, {"HNN_BUILD": "cpu"}, False),
    ]
    gpus, variables, _ = zip(*cases, strict=True)
    found = compiled(plans(variables, gpus, CUDA_HOME=toolkit, KNOWN="80", TORCH_CUDA_ARCH_LIST="8.0"))
    said = [about_cuda(one) for one in found]
    assert [("yes" in line, *case) for line, case in zip(said, cases, strict=True)] == [
        (built, gpu, asked, built) for gpu, asked, built in cases
    ], said
    assert said[0].endswith("there is no GPU here; HNN_BUILD=cuda builds them all the same")


def test_a_build_for_this_machine_takes_one_instruction_set():
    (found,) = compiled(plans([{"HNN_BUILD": "native"}]))
    assert found.refused is None
    names = list(tomllib.loads((ROOT / "csrc/flags.toml").read_text())["instruction_sets"])
    (line,) = (line for line in found.said if "instruction sets" in line)
    assert len(names) - sum(name in line for name in names) == 1, line
    from hnn_kernels import _extensions

    if _extensions.cpu is not None:  # the compiler and the processor tell alike
        assert _extensions.cpu.instruction_sets()[0] not in line
