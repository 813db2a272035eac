"""The command line ``hnn``."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .. import signals


@contextmanager
def telling(text: str, silence: float = 5.0) -> Iterator[None]:
    """Print ``text`` to stderr every ``silence`` seconds until the block ends."""
    done = threading.Event()

    def tell() -> None:
        while not done.wait(silence):
            print(text, file=sys.stderr, flush=True)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def main() -> None:
    """Run ``hnn``."""
    signals.end_at_once()  # the imports take seconds
    with telling("hnn: still loading torch and Lightning"):
        from .app import main as run  # here, so that a part of this package can be imported without the extra 'models'
    run()
