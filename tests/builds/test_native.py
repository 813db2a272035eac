"""The C++ kernels without Python: their threads under ThreadSanitizer, and the choice of an instruction set."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support.paths import ROOT

FLAGS = ["-std=c++17", "-O1", "-g1", "-fsanitize=thread", "-DHNN_NO_X86_VARIANTS", "-Wno-psabi", "-pthread"]


def compiler_with_sanitizer(folder: Path) -> str:
    """A compiler whose ThreadSanitizer runs here; skips where there is none."""
    compiler = os.environ.get("CXX") or shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    probe = [compiler, *FLAGS, "-x", "c++", "-", "-o", folder / "probe"]
    built = subprocess.run(probe, input="int main() {}", capture_output=True, text=True).returncode == 0
    if not built or subprocess.run([folder / "probe"], capture_output=True).returncode:
        pytest.skip(f"{compiler} has no ThreadSanitizer that runs here")
    return compiler


def test_threads_share_tiles_without_a_race(tmp_path):
    """The sanitizer finds no race, and finds one in a variant whose threads get the tiles of others."""
    compiler = compiler_with_sanitizer(tmp_path)

    def compile_to(to: str, *arguments: Path | str) -> Path:
        done = subprocess.run([compiler, *FLAGS, *arguments, "-o", tmp_path / to], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return tmp_path / to

    source = ROOT / "tests/native/race.cpp"
    overlapping = tmp_path / "overlapping.cpp"
    text = source.read_text().replace("../../csrc/cpu/", "")
    overlapping.write_text(text.replace("tiles * i / 3, tiles", "0, tiles"))
    assert overlapping.read_text().count("0, tiles") == 1
    sources = sorted((ROOT / "csrc/cpu").glob("kernels_default*.cpp"))
    kernels = [compile_to(f"{path.stem}.o", "-c", path) for path in sources]
    for path, races in ((source, False), (overlapping, True)):
        program = compile_to("race", path, *kernels, "-I", ROOT / "csrc/cpu")
        done = subprocess.run([program], capture_output=True, text=True, timeout=300)
        assert ("data race" in done.stderr) == races, done.stderr[-2000:]
        assert (done.returncode != 0) == races


CHOICE = """
#include <cstdio>
#include <stdexcept>
#include "arguments.h"
const hnn::Kernels hnn::kDefaultKernels = {"default"};
int main() {
  for (const char* name : {"default", "avx2", "avx3"}) std::printf("%s: %s\\n", name, hnn::why_not(name).c_str());
  try {
    std::printf("%s\\n", hnn::kernels().name);
  } catch (const std::runtime_error& error) {
    std::printf("%s\\n", error.what());
  }
}
"""
LEFT_OUT = (
    ", which this build left out (HNN_BUILD=native); without HNN_BUILD, pip install -v --no-build-isolation of the "
    "sources builds all"
)


@pytest.mark.parametrize(
    ("left_out", "default", "names", "chosen"),
    [
        ("AVX2", "", "default", "default"),
        (
            "DEFAULT",
            f"must be one of what this processor runs (none); got 'default'{LEFT_OUT}",
            "none",
            "this module was built for another processor (HNN_BUILD=native)",
        ),
    ],
)
def test_an_instruction_set_that_was_left_out_is_told_from_one_that_the_processor_lacks(
    tmp_path, left_out, default, names, chosen
):
    compiler = os.environ.get("CXX") or shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    (tmp_path / "choice.cpp").write_text(CHOICE)
    cpu = ROOT / "csrc/cpu"
    flags = ["-std=c++17", "-DHNN_NO_X86_VARIANTS", f"-DHNN_WITHOUT_{left_out}", "-I", cpu]
    command = [compiler, *flags, tmp_path / "choice.cpp", cpu / "kernels.cpp", "-o", tmp_path / "choice"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    environment = {name: value for name, value in os.environ.items() if name != "HNN_CPU_ISA"}
    done = subprocess.run([tmp_path / "choice"], env=environment, capture_output=True, text=True)
    others = f"must be one of what this processor runs ({names}); got"
    assert done.stdout.splitlines() == [
        f"default: {default}",
        f"avx2: {others} 'avx2'{LEFT_OUT if left_out == 'AVX2' else ''}",
        f"avx3: {others} 'avx3'",
        chosen,
    ]
