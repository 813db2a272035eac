"""The state of a run over several calls of the script: a file beside the record."""

import hashlib
import json
import shutil
from pathlib import Path

from hnn_models import paths

from .facts import LOG, RECORD, STATE

ROOT = Path(__file__).resolve().parents[3]
# What happened to a step. One that began and has no end was cut off together with the script.
BEGUN, DONE, CUT, FAILED = "begun", "done", "cut off", "failed"
_KERNELS = (("csrc", "*"), ("hnn_kernels", "*.py"))


def sources() -> str:
    """A digest of the kernels' sources. Facts about other kernels are not continued."""
    digest = hashlib.sha256()
    for folder, pattern in _KERNELS:
        for path in sorted((ROOT / folder).rglob(pattern)):
            if path.is_file():
                digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


class State:
    """The steps that the calls of a round have done.

    A round is of one device and of the same kernels. Another one begins anew.

    Attributes:
        calls: the names of the round's calls, the last one this one's.
        steps: what happened to each step.
        notes: what there is to say about the beginning.
    """

    def __init__(self, out: Path, device: str, call: str) -> None:
        self._path = out / STATE
        self._key = {"device": device, "sources": sources()}
        self.notes: list[str] = []
        former = self._read()
        if former and any(former.get(name) != value for name, value in self._key.items()):
            self.notes.append("a round of another device or other kernels is here; this is a new one")
            former = {}
        self._machine = former.get("machine", "")
        self.calls: list[str] = [*former.get("calls", ()), call]
        self.steps: dict[str, str] = former.get("steps", {})
        if former:
            done = sum(what == DONE for what in self.steps.values())
            self.notes.append(f"continues call {', '.join(self.calls[:-1])}: {done} steps are done")
        self._write()

    def _read(self) -> dict:
        try:
            return json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            self.notes.append(f"{self._path} is damaged ({error}); this is a new round")
            return {}

    def _write(self) -> None:
        kept = self._key | {"machine": self._machine, "calls": self.calls, "steps": self.steps}
        paths.write(self._path, json.dumps(kept, indent=1) + "\n")

    def mark(self, step: str, what: str) -> None:
        """Note what happened to a step."""
        self.steps[step] = what
        self._write()

    def on(self, machine: str) -> bool:
        """Note the machine. False if the round is another machine's: then a new round began with this call."""
        same = self._machine in ("", machine)
        if not same:
            self.calls, self.steps = self.calls[-1:], {}
        self._machine = machine
        self._write()
        return same


def bring(former: Path, out: Path) -> None:
    """Copy an earlier call's record, log and state to ``out``, and its measurements.

    Raises:
        FileNotFoundError: there is no state in ``former``.
    """
    if not (former / STATE).is_file():
        raise FileNotFoundError(f"there is no {STATE} in {former}")
    for path in [*(former / name for name in (RECORD, LOG, STATE)), *former.glob("bench_*.csv")]:
        if path.is_file() and path.resolve() != (out / path.name).resolve():
            shutil.copyfile(path, out / path.name)
