"""Which commit is measured, and on what."""

import shutil
import subprocess

import pytest

from hnn_models.training import provenance


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A repository of one commit in the place of this one."""
    if shutil.which("git") is None:
        pytest.skip("there is no git")
    monkeypatch.setattr(provenance, "_ROOT", tmp_path)
    for path in ("code.py", "benchmarks/results/tables.csv"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("old")
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "first"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    return tmp_path


def test_commit(clone):
    head = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=clone, capture_output=True, text=True, check=True
    )
    assert provenance.commit() == head.stdout.strip()
    (clone / "new.txt").write_text("not of the repository")
    (clone / "benchmarks/results/tables.csv").write_text("new")
    assert provenance.commit() == head.stdout.strip()
    (clone / "code.py").write_text("new")
    assert provenance.commit() == f"{head.stdout.strip()}-dirty"


def test_commit_outside_a_clone(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "_ROOT", tmp_path)
    monkeypatch.delenv("HNN_COMMIT", raising=False)
    assert provenance.commit() == "unknown"
    monkeypatch.setenv("HNN_COMMIT", "abc")
    assert provenance.commit() == "abc"
