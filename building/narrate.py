"""Run a command of the set-up and tell what it does: ``python building/narrate.py LOG COMMAND...``.

The whole output goes to the end of the file LOG. What concerns a reader is printed as it comes, with the seconds since
the start, and a line follows wherever nothing was told for 9 seconds. A command that fails has its last lines shown.
"""

import queue
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

# The lines of pip that tell what it is at, and those of setup.py and of building/wheel.py.
TELLING = (
    "hnn_kernels:", "+ ", "Collecting ", "Downloading ", "Using cached ", "Processing ", "Building ", "Installing ",
    "Preparing ", "Successfully ", "ERROR", "error:",
)  # fmt: skip
SILENCE = 9.0  # seconds
WIDTH = 110
LAST = 50  # lines of a command that failed


def tell(began: float, text: str) -> None:
    """Print a line with the time since the start."""
    shown = text if len(text) <= WIDTH or text.startswith("hnn_kernels:") else f"{text[: WIDTH - 3]}..."
    print(f"[{time.monotonic() - began:4.0f} s] {shown}", flush=True)


def _read(process: subprocess.Popen, lines: "queue.Queue[str | None]") -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put(None)


def narrate(log: Path, command: list[str], silence: float = SILENCE) -> int:
    """Run the command and return its exit status.

    Args:
        log: the file that the output is added to.
        command: the program and its arguments.
        silence: the seconds after which a line is due.
    """
    began = time.monotonic()
    last: deque[str] = deque(maxlen=LAST)
    lines: queue.Queue[str | None] = queue.Queue()
    at = " ".join(command[:4])
    tell(began, " ".join(command))
    with (
        log.open("a") as file,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as process,
    ):
        threading.Thread(target=_read, args=(process, lines), daemon=True).start()
        told = time.monotonic()
        while True:
            try:
                line = lines.get(timeout=max(0.0, told + silence - time.monotonic()))
            except queue.Empty:
                tell(began, f"still at: {at}")
                told = time.monotonic()
                continue
            if line is None:
                break
            file.write(line)
            file.flush()
            last.append(line)
            text = line.strip()
            if text.startswith(TELLING):
                tell(began, text)
                at, told = text, time.monotonic()
    if process.returncode:
        print("".join(last), end="", flush=True)
        tell(began, f"failed with status {process.returncode}; all of its output is in {log}")
    return process.returncode


if __name__ == "__main__":
    sys.exit(narrate(Path(sys.argv[1]), sys.argv[2:]))
