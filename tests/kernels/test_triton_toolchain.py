"""The compiler and the headers that Triton needs beside a GPU are looked for where Triton looks."""

import os
import subprocess

import pytest

import hnn_kernels
from hnn_kernels import _dispatch as dispatch

build = pytest.importorskip("triton.runtime.build")
triton = hnn_kernels._triton
toolchain = triton.toolchain


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """A function that leaves these compilers alone on the path; they take everything."""
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))

    def install(*names):
        for name in names:
            (tmp_path / name).write_text("#!/bin/sh\n")
            (tmp_path / name).chmod(0o755)

    return install


def triton_finds_one(folder) -> bool:
    """Ask Triton's own build."""
    if hasattr(build, "_find_compiler"):
        build._find_compiler.cache_clear()
    try:
        build._build("stub", str(folder / "stub.c"), str(folder), [], [], [], [])
    except (RuntimeError, OSError, subprocess.CalledProcessError):
        return False
    finally:
        if hasattr(build, "_find_compiler"):
            build._find_compiler.cache_clear()
    return True


@pytest.mark.parametrize(
    ("names", "cc", "said"),
    [
        ((), None, "there is no gcc and no clang"),
        (("c++", "g++", "cc"), None, "there is no gcc and no clang"),
        (("gcc",), None, ""),
        (("clang",), None, ""),
        (("gcc",), "no-such-compiler", "got 'no-such-compiler'"),
        (("gcc",), "gcc -O1", "got 'gcc -O1'"),
        (("gcc",), "", "got ''"),
        (("own",), "own", ""),
    ],
)
def test_a_c_compiler_is_there_where_triton_finds_one(tools, tmp_path, monkeypatch, names, cc, said):
    tools(*names)
    if cc is not None:
        monkeypatch.setenv("CC", cc)
    missing = toolchain.missing()
    assert said in missing
    assert bool(missing) == bool(said) == (not triton_finds_one(tmp_path))


def test_the_headers_of_python_must_be_there(tools, tmp_path, monkeypatch):
    tools("gcc")
    headers = tmp_path / "include"
    monkeypatch.setattr(toolchain.sysconfig, "get_paths", lambda scheme: {"include": str(headers)})
    assert f"there is no Python.h in {headers}" in toolchain.missing()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "Python.h").touch()
    for variable in ("CPATH", "C_INCLUDE_PATH"):
        monkeypatch.setenv(variable, os.pathsep.join((str(tmp_path), str(elsewhere))))
        assert toolchain.missing() == ""
        monkeypatch.delenv(variable)
    headers.mkdir()
    (headers / "Python.h").touch()
    assert toolchain.missing() == ""


def test_a_build_of_the_users_own_needs_none(tools, monkeypatch):
    monkeypatch.setattr(toolchain.triton.knobs.build, "impl", lambda *arguments: "")
    assert toolchain.missing() == ""


def test_triton_is_not_usable_without(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(triton, "interpreted", False)
    monkeypatch.setattr(triton, "lacking", "")
    assert dispatch._triton().automatic == ("cuda", "meta")
    monkeypatch.setattr(triton, "lacking", "Triton needs a C compiler")
    assert dispatch._triton() == dispatch.Backend("triton", (), "Triton needs a C compiler")
    monkeypatch.setattr(triton, "interpreted", True)  # nothing is compiled
    assert dispatch._triton().devices == ("cpu", "cuda")
