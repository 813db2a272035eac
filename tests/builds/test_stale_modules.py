"""A compiled module that does not fit its sources is refused; a reference that runs in its place says so; once."""

import importlib
import json
import os
import shutil
import subprocess
import sys
import time
from importlib.machinery import EXTENSION_SUFFIXES
from types import SimpleNamespace

import pytest
import torch

import hnn_kernels
from hnn_kernels import _extensions, _sources
from support.paths import ROOT, environment

needs_cpu = pytest.mark.skipif(_extensions.cpu is None, reason=_extensions.cpu_error)


def test_the_digest_is_of_a_modules_own_sources(tmp_path):
    csrc = tmp_path / "csrc"
    shutil.copytree(ROOT / "csrc", csrc)
    before = {name: _sources.digest(csrc, name) for name in _sources.FOLDERS}
    assert before == {name: _sources.digest(ROOT / "csrc", name) for name in _sources.FOLDERS}
    for path, changed in (
        ("neuron.h", set(before)),
        ("flags.toml", set(before)),
        ("cpu/rows.inl", {"cpu"}),
        ("cuda/lif.cu", {"cuda", "shim"}),
        ("shim/lif.cpp", {"shim"}),
        ("inspect/module.cpp", {"inspect"}),
        ("cuda/notes.txt", set()),
    ):
        with open(csrc / path, "a") as file:
            file.write("\n")
        after = {name: _sources.digest(csrc, name) for name in _sources.FOLDERS}
        assert {name for name in after if after[name] != before[name]} == changed, path
        before = after


def test_the_digest_does_not_depend_on_the_ends_of_lines(tmp_path):
    csrc = tmp_path / "csrc"
    shutil.copytree(ROOT / "csrc", csrc)
    file = csrc / "neuron.h"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert _sources.digest(csrc, "cpu") == _sources.digest(ROOT / "csrc", "cpu")


def test_the_digest_is_cheap():
    started = time.perf_counter()
    _sources.digest(ROOT / "csrc", "cpu")
    assert time.perf_counter() - started < 0.1  # 1 ms on an idle machine


def test_a_module_for_another_processor_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "hnn_kernels._cpu", SimpleNamespace(instruction_sets=list))
    module, reason = _extensions._load("_cpu")
    assert module is None
    assert reason == f"_cpu was built for another processor (HNN_BUILD=native); {_extensions.BUILD_AGAIN}"


@needs_cpu
def test_a_module_tells_the_digest_of_its_sources():
    assert _extensions.cpu.build_info()["sources"] == _sources.digest(ROOT / "csrc", "cpu")


@pytest.fixture
def clone(tmp_path):
    """A copy of the package with its compiled CPU module and of the sources."""
    folder = tmp_path / "clone"
    shutil.copytree(ROOT / "csrc", folder / "csrc")
    shutil.copytree(
        ROOT / "hnn_kernels", folder / "hnn_kernels",
        ignore=lambda _, names: [n for n in names if n.endswith(".so") and not n.startswith("_cpu")],
    )  # fmt: skip
    (folder / "hnn_kernels/_build.json").unlink(missing_ok=True)
    return folder


# An editable installation is a finder, or an entry of the path.
HIDE = f"""
import importlib.metadata, sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
sys.path = [entry for entry in sys.path if "__editable__" not in entry and entry != {str(ROOT)!r}]
def distribution(name):
    raise importlib.metadata.PackageNotFoundError(name)
importlib.metadata.distribution = distribution
"""
CALL = """
import warnings, torch, hnn_kernels
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(2):
        hnn_kernels.lif(torch.zeros(2, 1, 3), 0.5, 0.5{}); hnn_kernels.encode_poisson(torch.zeros(2, 3), 2{})
print(hnn_kernels.explain("cpu").chosen, len(caught))
for one in caught: print(one.category.__name__, one.filename, one.message)
"""


def called(folder, options="", code=CALL, **variables):
    """The lines that a process prints which calls the package of ``folder``, with the installed one out of sight."""
    path = os.pathsep.join([str(folder), *variables.pop("behind", ())])
    environment = os.environ | {"PYTHONPATH": path} | variables
    done = subprocess.run(
        [sys.executable, "-P", "-c", HIDE + code.format(options, options)],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@needs_cpu
def test_a_module_of_these_sources_is_taken(clone):
    assert called(clone) == ["cpu 0"]


@needs_cpu
def test_a_module_of_other_sources_is_refused_with_one_warning(clone):
    with open(clone / "csrc/neuron.h", "a") as file:
        file.write("// changed\n")
    chosen, warning = called(clone)
    assert chosen == "reference 1"
    assert warning.startswith("ReferenceWarning <string> ")  # where the call is
    assert "_cpu was built from other sources than those in" in warning
    assert f"build again: pip install -v --no-build-isolation -e {clone}" in warning
    assert "hnn_kernels.ReferenceWarning" in warning
    assert called(clone, ", backend='reference'") == ["reference 0"]
    silent = "import warnings; import hnn_kernels; warnings.simplefilter('ignore', hnn_kernels.ReferenceWarning)\n"
    silent += "import torch; hnn_kernels.lif(torch.zeros(2, 1, 3), 0.5, 0.5); print('done')"
    assert called(clone, code=silent) == ["done"]


@needs_cpu
@pytest.mark.parametrize("loads", [True, False])
def test_a_module_of_an_older_build_that_hides_the_new_one_is_named(clone, loads):
    new = clone / "hnn_kernels" / f"_cpu{EXTENSION_SUFFIXES[1]}"
    old = new.with_name(f"_cpu{EXTENSION_SUFFIXES[0]}")
    if loads:  # it is then refused for its digest
        shutil.copy(new, old)
        with open(clone / "csrc/neuron.h", "a") as file:
            file.write("// changed\n")
    else:
        old.write_bytes(b"")
    chosen, warning = called(clone)
    assert chosen == "reference 1"
    assert f"{old} is of another build and hides {new.name}; remove that file" in warning
    old.unlink()
    assert "hides" not in "".join(called(clone))


def test_a_build_removes_modules_of_older_ones(tmp_path):
    code = "import pathlib, runpy, sys, types; sys.argv = ['setup.py', '--version']\n"
    code += "setup = runpy.run_path('setup.py')\n"
    code += "one = types.SimpleNamespace(py_limited_api=True)\n"
    kept = {"_cpu.abi3.so", "_cuda13.abi3.so", "_inspect.cpython-311-x86_64-linux-gnu.so"}
    for name in kept | {"_cpu.cpython-311-x86_64-linux-gnu.so", "_cuda.cpython-312-x86_64-linux-gnu.so"}:
        (tmp_path / name).touch()
    for name in ("_cpu", "_cuda13"):
        code += f"one.name = 'hnn_kernels.{name}'; setup['forget_others'](one, pathlib.Path({str(tmp_path)!r}))\n"
    plan = environment(HNN_BUILD="python", HNN_REQUIRE="")  # which modules are built is nothing to this
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=plan, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == kept


@needs_cpu
def test_nothing_is_compared_where_there_are_no_sources(clone):
    shutil.rmtree(clone / "csrc")
    assert called(clone) == ["cpu 0"]


def remove_module(folder):
    for file in (folder / "hnn_kernels").glob("_cpu*.so"):
        file.unlink()


def test_a_package_without_kernels_that_were_never_expected_is_silent(clone):
    remove_module(clone)
    assert called(clone) == ["reference 0"]
    (clone / "hnn_kernels/_build.json").write_text(json.dumps({"expected": [], "why": "HNN_BUILD=python"}))
    assert called(clone) == ["reference 0"]


def test_kernels_that_should_have_been_built_are_missed(clone):
    remove_module(clone)
    (clone / "hnn_kernels/_build.json").write_text(json.dumps({"expected": ["cpu"], "why": "with c++"}))
    chosen, warning = called(clone)
    assert chosen == "reference 1"
    assert "_cpu was not built when this package was (with c++); build again" in warning


def test_the_cuda_kernels_that_should_have_been_built_have_the_name_of_their_file(tmp_path, monkeypatch):
    (tmp_path / "_build.json").write_text(json.dumps({"expected": ["cuda"], "why": "with a toolkit"}))
    monkeypatch.setattr(_extensions, "PACKAGE", tmp_path)
    monkeypatch.setattr(_extensions, "CUDA", "_cuda13")
    found = _extensions.missing("cuda", None, "")
    assert found.startswith("_cuda13 was not built when this package was (with a toolkit); build again")


@needs_cpu
def test_a_clone_that_shadows_an_installed_package_says_so(clone, tmp_path):
    installed = tmp_path / "site-packages"
    shutil.copytree(clone / "hnn_kernels", installed / "hnn_kernels")
    remove_module(clone)
    chosen, warning = called(clone, behind=[str(installed)])
    assert chosen == "reference 1"
    assert f"{clone / 'hnn_kernels'}, which has no compiled modules, shadows the installed {installed}" in warning


def test_the_package_can_be_imported_again():
    code = """
import importlib, sys, torch, hnn_kernels
x = torch.randn(3, 2, 4, requires_grad=True)
first = hnn_kernels.lif
wanted = torch.autograd.grad(first(x, 0.9, 0.5)[0].sum(), x)[0]
importlib.reload(hnn_kernels)
for name in [name for name in sys.modules if name.split(".")[0] == "hnn_kernels"]:
    del sys.modules[name]
import hnn_kernels as again
assert again.lif is not first
for function in (first, again.lif):
    assert torch.equal(torch.autograd.grad(function(x, 0.9, 0.5)[0].sum(), x)[0], wanted)
    assert torch.equal(torch.func.grad(lambda x: function(x, 0.9, 0.5)[0].sum())(x.detach()), wanted)
print(hnn_kernels.explain("cpu").chosen == again.explain("cpu").chosen)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "True", done.stderr


def test_an_operator_that_has_changed_is_not_taken_for_the_old_one():
    from hnn_kernels._ops.library import operators

    with pytest.raises(ImportError, match=r"hnn::lif_forward_cpu is not what it was: restart Python"):
        operators.define("lif_forward_cpu", "(Tensor x) -> Tensor")
    assert importlib.import_module("hnn_kernels") is hnn_kernels
    assert torch.ops.hnn.lif_forward_cpu.default is operators.define(
        "lif_forward_cpu", operators.schemas["lif_forward_cpu"]
    )
