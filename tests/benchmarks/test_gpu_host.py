"""The script for a GPU host: its order, its limits, its second call, and what it makes of other programs' words."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from types import SimpleNamespace

import pytest

from benchmarks.gpu.host import facts, memcheck, profile, run, state, times
from benchmarks.gpu.host.run import LEAST_SECONDS, Run
from benchmarks.gpu.host.steps import STEPS, Step
from benchmarks.gpu.host.versions import PACKAGES, PROGRAMS
from hnn_kernels import _extensions
from support import each_form
from support.bench_rows import row
from support.paths import ROOT

# What the steps of a test do: a program that says facts, and then ends, fails, or hangs whatever signal it gets.
STUB = """
import json, signal, subprocess, sys, time
from benchmarks.gpu.host import facts
say, _ = facts.given("")
script = json.load(open(say.out / "stub.json")).get(say.step, {})
for fact, value in script.get("says", {}).items():
    say.say(fact, value)
end = script.get("end")
if end == "hang":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    say.say("child", child.pid)
    time.sleep(60)
if end == "raise":
    raise OSError("a broken machine")
sys.exit(end)
"""


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Run steps that do what they are told; return the names of those that began, in order."""
    (tmp_path / "stub.py").write_text(STUB)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("benchmarks.gpu.host.run.GRACE", (0.2, 5.0))
    out = tmp_path / "out"
    out.mkdir()
    calls = iter(range(100))

    def run(steps, script=None, seconds=60.0, device="cuda") -> list[str]:
        (out / "stub.json").write_text(json.dumps(script or {}))
        # Two calls of a test are within a second; a name each.
        started = time.time() + next(calls)
        log = out / facts.LOG
        before = log.stat().st_size if log.exists() else 0
        run.code = Run(steps, device, out, seconds, started).all()
        return [line[3:].partition(":")[0] for line in log.read_text()[before:].splitlines() if line.startswith("== ")]

    run.out = out
    return run


def stub(name: str, limit: float = 20.0, **options) -> Step:
    return Step(name, limit, "stub", **options)


def said(out) -> list[tuple[str, str, str]]:
    """Step, fact and value of every row of the record."""
    text = (out / facts.RECORD).read_text().splitlines()[1:]
    return [tuple(line.split(",", 4)[2:]) for line in text]


def gone(pid: int) -> bool:
    """True if there is no such process, or it has ended and nobody has asked for its end."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_step_that_hangs_is_ended_with_its_children_and_the_next_one_runs(call, capfd):
    began = time.time()
    script = {"a": {"says": {"x": "1"}, "end": "hang"}, "b": {"says": {"y": "2"}}}
    assert call([stub("a", limit=4.0), stub("b")], script) == ["a", "b"]
    assert time.time() - began < 20
    assert call.code == 1
    rows = said(call.out)
    assert [one for one in rows if one[1] in "xy"] == [("a", "x", "1"), ("b", "y", "2")]
    child = next(int(value) for _, fact, value in rows if fact == "child")
    assert gone(child)
    assert any(step == "a" and value.strip('"').startswith("cut off at its limit of 4 s") for step, _, value in rows)
    assert 'stub.py", line 13' in (call.out / facts.LOG).read_text(), "the log says where it hung"
    lines = capfd.readouterr().out.splitlines()
    assert [line.split()[2:] for line in lines if " x: " in line] == [["a", "x:", "1"]]


def test_a_second_call_does_what_the_first_did_not_then_what_was_cut_off_then_what_failed(call):
    steps = [stub("always", always=True), stub("fails"), stub("hangs", limit=3.0), stub("done"), stub("late")]
    first = {"fails": {"end": "raise"}, "hangs": {"end": "hang"}}
    # "late" is left out as if the time were over.
    assert call(steps[:-1], first) == ["always", "fails", "hangs", "done"]
    assert call(steps) == ["always", "late", "hangs", "fails"]
    assert call.code == 0
    assert call(steps) == ["always"], "all is done"


def test_a_step_knows_the_facts_of_former_calls(call):
    call([stub("a")], {"a": {"says": {"x": "1"}, "end": 1}})
    calls = json.loads((call.out / facts.STATE).read_text())["calls"]
    call([stub("a")], {"a": {"says": {"y": "2"}}})
    both = json.loads((call.out / facts.STATE).read_text())["calls"]
    assert both[:1] == calls
    one = facts.Facts("a", "cuda", call.out, both[-1], tuple(both), 0.0)
    assert one.known().items() >= {("x", "1"), ("y", "2")}
    assert "x" not in one.known(here=True)


def test_nothing_begins_when_the_time_is_over(call, capfd):
    """The end of a step that hangs takes time, too. It is within the script's."""
    began, seconds = time.time(), LEAST_SECONDS + 1 + sum(run.GRACE)
    assert call([stub("a"), stub("b")], {"a": {"end": "hang"}}, seconds=seconds) == ["a"]
    rows = [value for step, fact, value in said(call.out) if (step, fact) == ("a", "step")]
    assert rows[0].strip('"').startswith(f"cut off at its limit of {LEAST_SECONDS + 1} s"), rows
    assert time.time() - began < seconds
    assert "b             not run: no time is left" in capfd.readouterr().out


def test_the_end_of_the_log_is_shown_where_a_step_breaks_and_not_where_it_told_why(call, capfd):
    call([stub("breaks"), stub("tells")], {"breaks": {"end": "raise"}, "tells": {"end": facts.TOLD}})
    out = capfd.readouterr().out
    assert "          | OSError: a broken machine" in out
    assert out.count("          | ") == out.count("          | ", 0, out.index("tells"))
    assert call.code == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda out, monkeypatch: monkeypatch.setattr(state, "sources", lambda: "other kernels"),
        lambda out, monkeypatch: (out / facts.STATE).write_text("{"),
    ],
    ids=["other kernels", "a damaged state"],
)
def test_a_new_round(call, monkeypatch, change, capfd):
    assert call([stub("a")]) == ["a"]
    change(call.out, monkeypatch)
    assert call([stub("a")]) == ["a"]
    assert "this is a new" in capfd.readouterr().out


def test_another_machine_is_a_new_round(call):
    steps = [stub("versions", always=True), stub("a")]
    for machine, expected in (("H100", ["versions", "a"]), ("H100", ["versions"]), ("H200", ["versions", "a"])):
        assert call(steps, {"versions": {"says": {"machine": machine}}}) == expected, machine


# -- the list of steps ------------------------------------------------------------------------------------------------


def in_order(call, has: str, builds: str = "", device: str = "cuda") -> list[str]:
    """The steps that run where the machine has these things, all as stubs."""
    script = {
        "versions": {"says": {"has": has}},
        "module": {"says": {"has": builds}, "end": 0 if builds else facts.TOLD},
    }
    return call([step._replace(module="stub", arguments=()) for step in STEPS], script, device=device)


EVERYTHING = "gpu, nvcc, c++, ncu, compute-sanitizer, pytest, "
LATER = ["times", "host", "profile", "tests", "suite", "memcheck", "source"]


def test_with_a_module_nothing_is_built_before_the_last_step(call):
    found = in_order(call, EVERYTHING + "cuda, triton")
    assert found == ["versions", "forms-cuda", "forms-triton", *LATER]


def test_without_a_module_triton_is_proved_before_one_is_built(call):
    found = in_order(call, EVERYTHING + "triton", builds="cuda")
    assert found == ["versions", "forms-triton", "module", "forms-cuda", *LATER]


def test_where_no_module_can_be_built_triton_is_measured(call):
    assert in_order(call, EVERYTHING + "triton") == ["versions", "forms-triton", "module", *LATER]


def test_with_nothing_but_triton(call):
    assert in_order(call, "gpu, triton") == ["versions", "forms-triton", "times", "host", "suite"]


def test_without_kernels_nothing_but_the_versions(call, capfd):
    assert in_order(call, "pytest") == ["versions"]
    assert "times         not run: needs kernels" in capfd.readouterr().out


def test_the_list_of_steps():
    assert len({step.name for step in STEPS}) == len(STEPS)
    for step in STEPS:
        assert find_spec(step.module), step.module
        assert max(len(step.name), 13) == 13, "the column of names"
    words = {"gpu", "kernels", "cuda", "triton", *PROGRAMS, *PACKAGES}
    assert {need.removeprefix("no ") for step in STEPS for need in step.needs} <= words
    # The first facts do not wait for a build.
    assert sum(step.limit for step in STEPS if "nvcc" not in step.needs) <= 520


# -- the script itself ------------------------------------------------------------------------------------------------


def script(out, *arguments: str, **environment: str) -> subprocess.Popen:
    mine = {"PYTHON": sys.executable, "OUT": str(out), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [ROOT / "benchmarks/gpu_host.sh", *arguments], env=os.environ | mine | environment, cwd=out.parent, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def test_two_calls_of_the_script(tmp_path):
    pytest.importorskip("hnn_kernels._cpu", reason="no CPU kernels")
    first, second = tmp_path / "first", tmp_path / "second"
    out, _ = (one := script(first, "--device", "cpu", "--only", "host")).communicate(timeout=120)
    assert one.returncode == 0, out
    assert "versions      machine: cpu" in out
    assert " us over the no-op" in out
    again = ("--device", "cpu", "--only", "host", "--continue", str(first))
    out, _ = (two := script(second, *again)).communicate(timeout=120)
    assert two.returncode == 0, out
    assert "continues call" in out
    assert "over the no-op" not in out, "it was done"
    assert (second / facts.RECORD).read_text().startswith((first / facts.RECORD).read_text())


def test_wrong_arguments_of_the_script(tmp_path):
    for arguments, words in (
        (("--device", "tpu"), "invalid choice"),
        (("--only", "nothing"), "invalid choice"),
        (("--continue", str(tmp_path)), f"there is no {facts.STATE} in {tmp_path}"),
    ):
        out, _ = (one := script(tmp_path / "out", *arguments)).communicate(timeout=60)
        assert one.returncode == 2
        assert words in out
    out, _ = script(tmp_path / "out", "--help").communicate(timeout=60)
    assert "HNN_BUILD=only-cuda" in out


def test_an_interrupted_script_ends_its_step(tmp_path):
    out = tmp_path / "out"
    one = script(out, "--device", "cpu", "--only", "host")
    for line in one.stdout:
        if "system:" in line:
            one.send_signal(signal.SIGTERM)
            break
    rest, _ = one.communicate(timeout=30)
    assert one.returncode == 128 + signal.SIGTERM, rest
    assert json.loads((out / facts.STATE).read_text())["steps"] == {"versions": state.BEGUN}


def test_a_module_that_came_along_alone_has_no_attributes(monkeypatch):
    """The inspection module is for one Python, so it is left where it was built."""
    monkeypatch.setattr(_extensions, "inspection", None)
    monkeypatch.setattr(_extensions, "inspection_error", "it is not here")
    told = []
    each_form.attributes(SimpleNamespace(say=lambda fact, value: told.append((fact, value))))
    assert told == [("kernels", "no attributes without the inspection module: it is not here")]


# -- the words of other programs --------------------------------------------------------------------------------------

# As the profiler prints it: lines of its own before the table, a row for each counter of each kernel.
COUNTERS = """==PROF== Connected to process 12
"ID","Process ID","Kernel Name","Metric Name","Metric Unit","Metric Value"
"0","12","forward","gpu__time_duration.sum","us","12.5"
"0","12","forward","dram__throughput.avg.pct_of_peak_sustained_elapsed","%","91.25"
"1","12","backward","gpu__time_duration.sum","us","20.5"
"""


def test_the_profilers_table():
    (first, counters), (second, _) = profile.table(COUNTERS)
    assert (first, second) == ("forward", "backward")
    assert counters == {"gpu__time_duration.sum": "12.5 us",
                        "dram__throughput.avg.pct_of_peak_sustained_elapsed": "91.25 %"}  # fmt: skip
    assert profile.table("==ERROR== no counters\n") == []


@pytest.mark.parametrize(
    ("report", "verdict"),
    [
        ("========= COMPUTE-SANITIZER\n========= ERROR SUMMARY: 0 errors\n", "0 errors"),
        (
            "========= Invalid __global__ write of size 4 bytes\n========= ERROR SUMMARY: 1 error\n",
            "1 error; Invalid __global__ write of size 4 bytes",
        ),
        ("", "no verdict"),
    ],
)
def test_the_memory_checkers_verdict(report, verdict):
    assert memcheck.errors(report) == verdict


def test_the_times_of_a_case_in_words():
    rows = [
        row("cuda", 0.2, mode=mode, buffers="graph")._replace(share_of_copy=0.9, gb_per_s=1800.0)
        for mode in ("forward", "backward", "both")
    ]
    assert times.words(rows) == "forward 0.2000 ms (90%), backward 0.2000 ms (90%)"
    assert times.copy_speed(rows) == pytest.approx(2000)
    assert times.words([row("cuda", None, note="out of memory")]) == ""
