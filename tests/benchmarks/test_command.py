"""The command line of the benchmark suite: ``hnn bench``, ``python -m benchmarks``."""

import datetime
import gc
import os
import runpy
import subprocess
import sys

import pytest

from support.fake_providers import PLAN, Fake, hasten, raising
from support.paths import ROOT
from support.targets import NEEDS_CPU

pytest.importorskip("typer", reason="the command line needs the extra 'models'")

from typer.testing import CliRunner

from benchmarks.core.cases import SUITES, Case
from benchmarks.records import record as records
from benchmarks.suite import command, instruction_set
from hnn_kernels import _extensions
from hnn_models.cli import app as cli
from hnn_models.cli import bench as cli_bench

CASES = (Case("lif", (4, 3, 50)), Case("lif_axon", (4, 3, 50)), Case("lif", (4, 3, 50), "bfloat16"))


@pytest.fixture
def small(monkeypatch):
    """A suite of three cases, and two providers, one of which has no axon."""
    monkeypatch.setattr(command, "suite", lambda device, quick: CASES[:2] if quick else CASES)
    monkeypatch.setattr(command, "providers", lambda: (Fake("fine"), Fake("poor", poor)))
    monkeypatch.setattr(command, "PLANS", dict.fromkeys((True, False), PLAN))
    monkeypatch.setattr(command.memory, "raise_when_full", lambda: None)
    hasten(monkeypatch)


def poor(run, current):
    if run(current).max() not in (0, 1):
        raise ValueError("no axon here")
    return run(current)


def bench(*arguments, code=0, app=command.app):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def test_rows_are_appended_and_shown(small, tmp_path):
    out = tmp_path / "bench.csv"
    shown = bench("--quick", "--device", "cpu", "--out", out)
    rows = records.read(out)
    assert {(row.op, row.provider) for row in rows} == {(c.op, p) for c in CASES[:2] for p in ("fine", "poor")}
    assert [row.note for row in rows if row.median_ms is None] == ["ValueError: no axon here"]
    assert "LIF with a dual-exponential axon, 4x3x50, float32" in shown.stdout
    assert "ValueError: no axon here" in shown.stdout
    assert f"2 cases, about 0 minutes; rows go to {out}" in shown.stderr
    bench("run", "--dtype", "bfloat16", "--provider", "fine", "--device", "cpu", "--out", out)
    more = records.read(out)
    assert more[: len(rows)] == rows
    assert {(row.dtype, row.provider) for row in more[len(rows) :]} == {("bfloat16", "fine")}


def test_objects_are_frozen_during_a_run_only(small, monkeypatch, tmp_path):
    frozen = []

    def change(run, current):
        frozen.append(gc.get_freeze_count())
        return run(current)

    monkeypatch.setattr(command, "providers", lambda: (Fake("fine", change),))
    before = gc.get_freeze_count()
    bench("--quick", "--device", "cpu", "--out", tmp_path / "bench.csv")
    assert min(frozen) > 10_000
    assert gc.get_freeze_count() <= before


def test_names_with_brackets_are_shown_whole(small, monkeypatch, tmp_path):
    monkeypatch.setattr(command, "providers", lambda: (Fake("loop x[t]"),))
    assert "loop x[t]" in bench("--quick", "--device", "cpu", "--out", tmp_path / "bench.csv").stdout


def test_an_interrupt_keeps_the_finished_cases(small, monkeypatch, tmp_path):
    def change(run, current):
        if run(current).max() not in (0, 1):
            raise KeyboardInterrupt
        return run(current)

    monkeypatch.setattr(command, "providers", lambda: (Fake("fine", change),))
    out = tmp_path / "bench.csv"
    assert f"interrupted; the finished cases are in {out}" in bench("--device", "cpu", "--out", out, code=130).stderr
    assert {row.op for row in records.read(out)} == {"lif"}
    new = tmp_path / "new.csv"
    shown = bench("--op", "lif_axon", "--device", "cpu", "--out", new, code=130)
    assert "interrupted; no case was finished" in shown.stderr
    assert not new.exists()


def test_a_record_is_made_in_parts(small, monkeypatch, tmp_path):
    """With a day the cases are left out that all of the providers have in the record since then, on this machine."""
    out, day = tmp_path / "bench.csv", datetime.date.today()
    arguments = ("--device", "cpu", "--out", out, "--since")
    bench("--quick", *arguments, day)
    assert "1 cases, about" in bench(*arguments, day).stderr
    rows = records.read(out)
    assert {(row.dtype, row.provider) for row in rows[-4:]} == {("bfloat16", "fine"), ("bfloat16", "poor")}
    assert "all of these cases are in" in bench(*arguments, day).stderr
    assert "3 cases, about" in bench(*arguments, day + datetime.timedelta(1)).stderr
    monkeypatch.setattr(command, "providers", lambda: (Fake("fine"), Fake("new")))
    assert "all of these cases are in" in bench("--provider", "fine", *arguments, day).stderr
    assert "3 cases, about" in bench(*arguments, day).stderr


@NEEDS_CPU
def test_another_instruction_set_begins_the_program_again(monkeypatch):
    """All that computes is held to it, and nothing is left of another one."""
    begun = []
    monkeypatch.setattr(os, "execve", lambda *how: begun.append(how))
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "benchmarks", "--isa", "default"])
    for name in {name for variables in instruction_set.SETS.values() for name in variables}:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    instruction_set.hold("default")
    ((program, arguments, environment),) = begun
    assert (program, arguments[1:]) == (sys.executable, ["-m", "benchmarks", "--isa", "default"])
    for name, value in instruction_set.SETS["default"].items():
        assert environment[name] == value
        monkeypatch.setenv(name, value)
    instruction_set.hold("default")  # in the program that began
    instruction_set.hold(None)
    assert len(begun) == 1
    monkeypatch.delenv("ATEN_CPU_CAPABILITY")
    with pytest.raises(ValueError, match="HNN_CPU_ISA=default holds our kernels alone; --isa default"):
        instruction_set.hold(None)


@NEEDS_CPU
def test_a_run_goes_through_the_instruction_sets(tmp_path):
    """Each in a program of its own, which knows what the record lacks of its set."""
    out, sets = tmp_path / "bench.csv", [name for name in instruction_set.SETS if not _extensions.cpu.why_not(name)]
    chosen = ["--quick", "--op", "lif", "--dtype", "float32", "--provider", "cpu", "--device", "cpu", "--out", out]

    def bench(*options):
        command = [sys.executable, "-m", "benchmarks", *chosen, *options]
        return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)

    bench("--isa", "default")
    assert {row.device.rpartition(", ")[2] for row in records.read(out)} == {"DEFAULT"}
    shown = bench("--isa=every", "--list", "--since", str(datetime.date.today() - datetime.timedelta(1)))
    assert [line for line in shown.stderr.splitlines() if line.startswith("instruction set")] == [
        f"instruction set {name}" for name in sets
    ]
    assert shown.stdout.count("25x64x500") == len(sets) - 1  # the record has that of one set


@NEEDS_CPU
def test_a_set_that_fails_ends_the_run_through_the_sets(monkeypatch):
    begun = []

    class Process:
        def __init__(self, arguments, env):
            begun.append((arguments, env["HNN_CPU_ISA"]))

        def __enter__(self):
            return self

        def __exit__(self, *what):
            pass

        def wait(self):
            return -9

    monkeypatch.setattr(subprocess, "Popen", Process)
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "benchmarks", "--isa", "every", "--out", "every"])
    assert instruction_set.in_turn() == 137
    (((program, *arguments), name),) = begun
    assert name == next(name for name in instruction_set.SETS if not _extensions.cpu.why_not(name))
    assert (program, arguments) == (sys.executable, ["-m", "benchmarks", "--isa", name, "--out", "every"])


def test_the_record_is_in_the_clone_or_in_the_current_folder(small, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    bench("--quick", "--device", "cpu")
    assert (tmp_path / "bench_cpu.csv").exists()
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    bench("--quick", "--device", "cpu")
    assert (tmp_path / "benchmarks" / "results" / "bench_cpu.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--op", "nothing"], "--op must be one of lif, lif_axon"),
        (["--provider", "nobody"], "--provider must be one of fine, poor; got 'nobody'"),
        (["--dtype", "int8"], "--dtype must be one of float32"),
        (["--device", "tpu"], "device must be 'auto', 'cpu' or 'cuda'; got 'tpu'"),
        (["--size", "25x64x501"], "there is no such case in this suite"),
        (["--dtype", "tf32"], "there is no such case in this suite"),
        (["--out", "nowhere/bench.csv"], "--out must be in a folder that exists"),
        (["--out", "bench.md"], "--out must be a CSV file, its page has the suffix .md; got 'bench.md'"),
        (["--out", "/"], "--out must be a file, but / is a folder"),
        (["--out", "s3://bucket/bench.csv"], "--out must be a path of this machine, not an address"),
        (["--out", ""], "--out must name a path; got an empty one"),
        (["--isa", "avx3"], "--isa must be one of what this processor runs ("),
        (["--since", "May"], "--since must be a day such as 2026-01-31; got 'May'"),
        (["--nonsense"], "No such option"),
    ],
)
def test_wrong_arguments_are_refused(small, arguments, words):
    code = 2 if arguments == ["--nonsense"] else 1
    device = () if "--device" in arguments else ("--device", "cpu")
    assert words in bench(*arguments, *device, code=code).stderr


def test_a_damaged_record_is_refused_before_anything_is_measured(small, monkeypatch, tmp_path):
    monkeypatch.setattr(command.runner, "run", raising(AssertionError("it was measured")))
    out = tmp_path / "bench.csv"
    out.write_text(",".join(records.Row._fields) + "\nonly,this\n")
    assert "damaged in line 2" in bench("--device", "cpu", "--out", out, code=1).stderr
    with pytest.raises(ValueError, match="damaged in line 2"):
        records.append(out, [])


def test_list_shows_cases_and_providers_and_measures_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = bench("--quick", "--list", "--device", "cpu").stdout
    for case in SUITES["quick"]:
        assert f"{case.op:18} {case.name:18} {case.dtype}" in shown
    assert "providers: cpu, cuda, triton, reference, " in shown
    assert ", cpu built-in, cuda built-in, triton built-in, loop, " in shown
    assert list(tmp_path.iterdir()) == []


def test_report_plots_and_compare_accept_a_record_of_run(small, tmp_path):
    pytest.importorskip("matplotlib")
    out = tmp_path / "bench.csv"
    bench("--quick", "--device", "cpu", "--out", out)
    bench("report", out)
    assert "poor" in out.with_suffix(".md").read_text()
    bench("plots", out, tmp_path / "plots")
    assert list((tmp_path / "plots").glob("*.png"))
    assert "changed beyond noise" in bench("compare", out, out).stdout
    assert "has no run or commit 'then'" in bench("compare", out, f"{out}@then", code=1).stderr


def test_hnn_bench_is_the_same_command(small, monkeypatch, tmp_path):
    # If the package is also installed, this process would import the suite twice.
    monkeypatch.setattr(cli_bench.importlib.util, "find_spec", lambda name: None)
    out = tmp_path / "bench.csv"
    bench("bench", "--quick", "--provider", "fine", "--device", "cpu", "--out", out, app=cli.app)
    assert {row.provider for row in records.read(out)} == {"fine"}
    assert "Usage: hnn bench" in bench("bench", "--help", app=cli.app).stdout
    assert "got 'nobody'" in bench("bench", "run", "--provider", "nobody", code=1, app=cli.app).stderr


def test_python_m_benchmarks_is_the_same_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module("benchmarks", run_name="__main__")
    assert "python -m benchmarks" in capsys.readouterr().out
