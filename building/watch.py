"""Tell what a running build compiles. ``setup.py`` runs this file on its own."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

SILENCE = 8.0  # seconds


class Watch:
    """A context in which every compiled file is told with its time, and at least a line comes every 8 seconds.

    ninja notes each file that it has compiled in ``.ninja_log``: when it began and ended, in milliseconds, and the
    object's path. A build without ninja has the lines of its silence alone.

    Args:
        folder: where ninja works.
        sources: the names of the module's sources.
        say: prints a line.
        silence: the seconds after which a line is due.
    """

    def __init__(self, folder: Path, sources: list[str], say: Callable[[str], None], silence: float = SILENCE) -> None:
        self._log, self._sources, self._say, self._silence = folder / ".ninja_log", sources, say, silence
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._known = set(self._lines())
        self._compiled: list[str] = []

    def __enter__(self) -> "Watch":
        self._began = self._told = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._look()

    def _lines(self) -> list[str]:
        text = self._log.read_text() if self._log.exists() else ""
        # A line without its end is being written.
        return [line for line in text.splitlines(keepends=True) if line.endswith("\n") and not line.startswith("#")]

    def _tell(self, text: str) -> None:
        self._say(text)
        self._told = time.monotonic()

    def _look(self) -> None:
        for line in self._lines():
            if line in self._known:
                continue
            self._known.add(line)
            begin, end, _, path, *_ = line.split("\t")
            names = [name for name in self._sources if Path(name).stem == Path(path).stem]
            if names:
                self._compiled += names
                self._tell(f"compiled {names[0]} in {(int(end) - int(begin)) / 1e3:.1f} s")

    def _run(self) -> None:
        while not self._end.wait(min(1.0, self._silence / 2)):
            self._look()
            if time.monotonic() - self._told >= self._silence:
                left = [name for name in self._sources if name not in self._compiled]
                at = f"compiling {', '.join(left)}" if left else "linking"
                self._tell(f"{at} ({time.monotonic() - self._began:.0f} s so far)")
