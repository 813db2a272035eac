"""The facts that a step finds: each is a line on the screen and a row of the record, at once.

A row is there when its line is. So whatever ends a step, or the whole run, the facts before it are kept. Neither this
module nor the one that runs the steps imports torch, which may be what does not work.
"""

import argparse
import csv
import faulthandler
import io
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple, NoReturn

from hnn_models import paths

RECORD, LOG, STATE = "gpu_host.csv", "gpu_host.log", "gpu_host.json"
COLUMNS = ("call", "seconds", "step", "fact", "value")
TOLD = 3  # the exit code of a step that failed, and said as a fact why
HAS = "has"  # the fact that some things are there, with commas between; a step may need them


class Facts(NamedTuple):
    """The facts of one step in one call of the script.

    Attributes:
        step: the step's name.
        device: ``"cuda"``, or ``"cpu"`` for a rehearsal.
        out: the folder of the record.
        call: the name of this call of the script.
        round: the names of the calls that this one continues, and its own.
        started: when the script began, by the clock :func:`time.time`.
    """

    step: str
    device: str
    out: Path
    call: str
    round: tuple[str, ...]
    started: float

    def say(self, fact: str, value: object) -> None:
        """Write a fact's row, and print it."""
        seconds = f"{time.time() - self.started:.1f}"
        text, path = io.StringIO(newline=""), self.out / RECORD
        writer = csv.writer(text, lineterminator="\n")
        if not path.exists():
            writer.writerow(COLUMNS)
        writer.writerow((self.call, seconds, self.step, fact, value))
        paths.append(path, text.getvalue().encode())
        print(f"{seconds:>6} s  {self.step:13} {fact}: {value}", file=sys.__stdout__, flush=True)

    def known(self, here: bool = False) -> dict[str, str]:
        """The facts that this step found in this round; with ``here``, in this call of the script."""
        calls = (self.call,) if here else self.round
        return {row["fact"]: row["value"] for row in rows(self.out, calls) if row["step"] == self.step}


def leave(code: int | None) -> NoReturn:
    """End a step's program at once. What it had to say is said, and the end of a driver or of its threads may hang."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


def rows(out: Path, calls: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows of the record in ``out`` that are of ``calls``."""
    path = out / RECORD
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["call"] in calls]


def arguments(step: str, device: str, out: Path, calls: tuple[str, ...], started: float, limit: float) -> list[str]:
    """The arguments by which a step's program gets its :class:`Facts`; the last of ``calls`` is this one."""
    given = ["--step", step, "--device", device, "--out", str(out), "--limit", f"{limit:.1f}"]
    return [*given, "--started", repr(started), "--calls", *calls]


def given(description: str | None, *options: tuple[str, dict]) -> tuple[Facts, argparse.Namespace]:
    """Read the arguments of a step's program, and those that it has besides.

    A second before its limit the program writes to the log where it is.
    """
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    for name in ("--step", "--device"):
        parser.add_argument(name, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=float, required=True)
    parser.add_argument("--started", type=float, required=True)
    parser.add_argument("--calls", nargs="+", required=True)
    for name, settings in options:
        parser.add_argument(name, **settings)
    found = parser.parse_args()
    faulthandler.dump_traceback_later(max(1.0, found.limit - 1), file=sys.stderr)
    calls = tuple(found.calls)
    return Facts(found.step, found.device, found.out, calls[-1], calls, found.started), found
