"""Run the steps: each in a process of its own, ended when its time is over, none begun when the script's time is."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from . import facts
from .facts import HAS, LOG, TOLD, Facts
from .state import BEGUN, CUT, DONE, FAILED, ROOT, State
from .steps import Step

LEAST_SECONDS = 5  # a step that would have less is left to the next call
GRACE = (2.0, 5.0)  # seconds between the two signals, and after the second
SHOWN = 6  # lines of the log that a step shows when it fails


class Run:
    """A call of the script.

    Args:
        steps: the steps, in order.
        device: ``"cuda"``, or ``"cpu"`` for a rehearsal.
        out: the folder of the record.
        seconds: the time for all of it.
        started: when the script began, by :func:`time.time`.
    """

    def __init__(self, steps: Sequence[Step], device: str, out: Path, seconds: float, started: float) -> None:
        self._steps, self._device, self._out, self._started = steps, device, out, started
        self._end = started + seconds - sum(GRACE)  # of the last step, which may have to be ended
        self._call = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(started))
        self._state = State(out, device, self._call)
        self._ran: dict[str, str] = {}
        self._own = Facts("script", device, out, self._call, (), started)

    def all(self) -> int:
        """Run what there is time for; return the number of steps that failed or were cut off."""
        for note in self._state.notes:
            self._own.say("round", note)
        while (step := self._next()) is not None:
            left = self._end - time.time()
            if left < LEAST_SECONDS:
                break
            self._one(step, min(step.limit, left))
            self._same_machine()
        self._summary()
        return sum(what != DONE for what in self._ran.values())

    # -- which step is next ------------------------------------------------------------------------------------------

    def _has(self) -> set[str]:
        told = [row["value"] for row in facts.rows(self._out, (self._call,)) if row["fact"] == HAS]
        found = {word for words in told for word in words.split(", ")}
        return found | {"kernels"} if found & {"cuda", "triton", "cpu"} else found

    def _next(self) -> Step | None:
        """The first step that can run and has not; then those that were cut off in another call; then those failed."""
        has, before = self._has(), self._state.steps
        able = [step for step in self._steps if step.name not in self._ran and not step.lacks(has)]
        for wanted in ((None,), (BEGUN, CUT), (FAILED,)):
            for step in able:
                if step.always or before.get(step.name) in wanted:
                    return step
        return None

    def _same_machine(self) -> None:
        found = {row["fact"]: row["value"] for row in facts.rows(self._out, (self._call,))}
        if not self._state.on(found.get("machine", "")) and "machine" in found:
            self._own.say("round", "the former calls were on another machine; this is a new round")

    # -- one step ----------------------------------------------------------------------------------------------------

    def _one(self, step: Step, limit: float) -> None:
        began = time.time()
        self._state.mark(step.name, BEGUN)
        given = facts.arguments(step.name, self._device, self._out, tuple(self._state.calls), self._started, limit)
        command = [sys.executable, "-u", "-m", step.module, *step.arguments, *given]
        with (self._out / LOG).open("ab") as log:
            log.write(f"== {step.name}: {' '.join(command)}\n".encode())
            log.flush()
            start = log.tell()
            code = _until(command, limit, log)
        what = {0: DONE, None: CUT}.get(code, FAILED)
        self._ran[step.name] = what
        self._state.mark(step.name, what)
        says = Facts(step.name, self._device, self._out, self._call, (), self._started)
        if what == FAILED and code != TOLD:
            with (self._out / LOG).open("rb") as log:
                log.seek(start)
                for line in log.read().decode(errors="replace").strip().splitlines()[-SHOWN:]:
                    print(f"          | {line}", flush=True)
        reason = {CUT: f" at its limit of {limit:.0f} s", FAILED: f", exit code {code}"}.get(what, "")
        says.say("step", f"{what}{reason}, {time.time() - began:.1f} s")

    # -- the end -----------------------------------------------------------------------------------------------------

    def _summary(self) -> None:
        has = self._has()
        for step in self._steps:
            if step.name in self._ran or self._state.steps.get(step.name) == DONE:
                continue
            lacks = step.lacks(has)
            why = f"needs {', '.join(lacks)}" if lacks else "no time is left: call the script again"
            print(f"          {step.name:13} not run: {why}", flush=True)
        bad = [f"{name} {what}" for name, what in self._ran.items() if what != DONE]
        self._own.say(
            "end", f"{len(self._ran)} steps in {time.time() - self._started:.0f} s; {', '.join(bad) or 'all done'}"
        )


def _until(command: list[str], limit: float, log: IO[bytes]) -> int | None:
    """The exit code of a command; None if it was ended at its limit.

    What it prints goes to the screen, its errors to the log. Its whole process group is ended. One that waits for a
    kernel that never ends ignores the first signal, and may not even end at the second. Nobody waits for it then.
    """
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stderr=log, start_new_session=True
    )
    try:
        return process.wait(limit)
    except subprocess.TimeoutExpired:
        return None
    finally:  # also when the script itself is interrupted
        for number, seconds in zip((signal.SIGTERM, signal.SIGKILL), GRACE, strict=True):
            _signal(process.pid, number)
            try:
                process.wait(seconds if process.poll() is None else 0)
            except subprocess.TimeoutExpired:
                continue


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
