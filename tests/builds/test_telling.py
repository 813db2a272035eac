"""The set-up tells what it is at: lines of files with their times, and never a long silence."""

import runpy
import subprocess
import sys
import time

import pytest

from support.paths import ROOT


@pytest.fixture
def watch():
    return runpy.run_path(str(ROOT / "building/watch.py"))["Watch"]


def test_every_compiled_file_is_told_with_its_time(tmp_path, watch):
    log, said = tmp_path / ".ninja_log", []
    log.write_text("# ninja log v6\n0\t900\t1\tcsrc/cpu/lif.o\tabc\n")  # of an earlier build
    with watch(tmp_path, ["lif.cpp", "coding.cpp"], said.append), log.open("a") as file:
        file.write("0\t1500\t2\tcsrc/cpu/coding.o\tdef\n5\t2600\t3\tcsrc/cpu/lif.o\tabc\n7\t9\t3\tcsrc/cpu/module")
    assert said == ["compiled coding.cpp in 1.5 s", "compiled lif.cpp in 2.6 s"]


def test_what_is_being_compiled_is_told_in_a_silence(tmp_path, watch):
    said = []
    with watch(tmp_path, ["lif.cpp", "coding.cpp"], said.append, silence=0.1):
        (tmp_path / ".ninja_log").write_text("0\t1500\t2\tcsrc/cpu/coding.o\tdef\n")
        time.sleep(0.5)
    assert said[0] == "compiled coding.cpp in 1.5 s"
    assert said[1].startswith("compiling lif.cpp (")
    assert len(said) > 2


NOISY = "import time; print('Collecting torch', flush=True); print('noise', flush=True); time.sleep(0.8)"


def narrate(tmp_path, code):
    call = f"sys.exit(narrate.narrate(pathlib.Path(sys.argv[1]), [sys.executable, '-c', {code!r}], silence=0.3))"
    return subprocess.run(
        [sys.executable, "-c", f"import pathlib, sys; import narrate; {call}", tmp_path / "log"],
        cwd=ROOT / "building", capture_output=True, text=True,
    )  # fmt: skip


def test_a_command_of_the_set_up_is_never_silent(tmp_path):
    (tmp_path / "log").write_text("before\n")
    done = narrate(tmp_path, NOISY)
    assert done.returncode == 0, done.stderr
    told = [line.partition("] ")[2] for line in done.stdout.splitlines()]
    assert "still at: Collecting torch" in told[told.index("Collecting torch") :]
    assert "noise" not in told
    assert (tmp_path / "log").read_text() == "before\nCollecting torch\nnoise\n"


def test_the_end_of_a_command_that_failed_is_shown(tmp_path):
    done = narrate(tmp_path, "print('the reason'); raise SystemExit(3)")
    assert done.returncode == 3
    assert "the reason" in done.stdout
    assert "failed with status 3" in done.stdout
