"""Programs in processes of their own that need not import torch again: forks of one process that has imported it."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from support.paths import environment

# A fork of a process whose threads hold no lock: torch starts its threads at the first parallel work, in the fork.
_SERVER = """
import json, os, runpy, sys, tempfile, traceback
import hnn_kernels, torch
assert len(os.listdir("/proc/self/task")) == 1, "an import started threads"
asked, answers = sys.stdin, os.fdopen(os.dup(1), "w")
for line in asked:
    call = json.loads(line)
    out, err = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")
    child = os.fork()
    if not child:
        os.dup2(out.fileno(), 1), os.dup2(err.fileno(), 2), os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(call["cwd"])
        sys.path[0], sys.argv = call["cwd"], [call["path"], *call["arguments"]]
        status = 0
        try:
            if call["text"] is None:
                runpy.run_path(call["path"], run_name="__main__")
            else:
                main = type(sys)("__main__")
                sys.modules["__main__"] = main
                exec(compile(call["text"], call["path"], "exec"), vars(main))
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
            status = 1
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)
    _, status = os.waitpid(child, 0)
    out.seek(0), err.seek(0)
    print(json.dumps([os.waitstatus_to_exitcode(status), out.read(), err.read()]), file=answers, flush=True)
"""


class Done(NamedTuple):
    """The end of a program."""

    returncode: int
    stdout: str
    stderr: str


class Forks:
    """A process that waits for programs and runs each in a fork of itself, one after the other."""

    def __init__(self) -> None:
        # NumPy's OpenBLAS would start its threads when it is imported.
        self._server = subprocess.Popen(
            [sys.executable, "-c", _SERVER], env=environment(OPENBLAS_NUM_THREADS="1"),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, path: Path | str, cwd: Path, arguments: Sequence[str] = (), text: str | None = None) -> Done:
        """Run the Python file at ``path``, or ``text`` in its place, in the folder ``cwd``."""
        call = {"path": str(path), "cwd": os.fspath(cwd), "arguments": list(arguments), "text": text}
        assert self._server.stdin
        assert self._server.stdout
        print(json.dumps(call), file=self._server.stdin, flush=True)
        return Done(*json.loads(self._server.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        self._server.communicate()
