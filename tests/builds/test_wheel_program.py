"""The programs that build a release's wheel: the parts of them that take no minutes."""

import re
import runpy
import subprocess
import sys
import zipfile

import pytest

from support.paths import ROOT


@pytest.fixture
def aarch64():
    return runpy.run_path(str(ROOT / "building/aarch64.py"))


def test_the_sums_are_those_of_what_is_in_the_folder(tmp_path):
    (tmp_path / "one.tar.gz").write_bytes(b"one")
    with zipfile.ZipFile(tmp_path / "two.whl", "w"):
        pass
    (tmp_path / "notes.txt").write_text("not a part of a release")
    done = subprocess.run(
        [sys.executable, ROOT / "building/wheel.py", "--sums", "--out", tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    checked = subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=tmp_path, capture_output=True, text=True)
    assert checked.stdout.splitlines() == ["one.tar.gz: OK", "two.whl: OK"]


def test_what_a_trial_for_aarch64_lacks_is_named(aarch64, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert re.match(r"there is no qemu-aarch64, apt-get|it is for another machine", aarch64["why_not"]())


def test_the_workflow_of_changes_runs_what_is_there():
    text = (ROOT / ".github/workflows/ci.yml").read_text()
    commands = re.findall(r"command: (.*)}", text)
    assert commands == [".ci/run", "make test-oldest"]
    assert (ROOT / ".ci/run").exists()
    assert re.search(r"^test-oldest:", (ROOT / "Makefile").read_text(), re.MULTILINE)
