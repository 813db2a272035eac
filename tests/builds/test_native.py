"""The threads of the C++ kernels, under ThreadSanitizer."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support.paths import ROOT

FLAGS = ["-std=c++17", "-O1", "-g", "-fsanitize=thread", "-DHNN_NO_X86_VARIANTS", "-Wno-psabi", "-pthread"]


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
    kernels = compile_to("kernels.o", "-c", ROOT / "csrc/cpu/kernels_default.cpp")
    for path, races in ((source, False), (overlapping, True)):
        program = compile_to("race", path, kernels, "-I", ROOT / "csrc/cpu")
        done = subprocess.run([program], capture_output=True, text=True, timeout=300)
        assert ("data race" in done.stderr) == races, done.stderr[-2000:]
        assert (done.returncode != 0) == races
