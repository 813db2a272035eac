"""Signals that end a process: as exceptions, so that what is inside can leave its files whole."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


_received: int | None = None


def _leave(number: int, frame: FrameType | None) -> None:
    global _received
    _received = number
    leave_if_told()


def leave_if_told() -> None:
    """Raise the exception of a signal once more: KeyboardInterrupt for Ctrl-C, ``SystemExit`` for another.

    Python drops an exception that is raised in a finalizer (``__del__``), and the handler may have run in one.
    """
    if _received is not None:
        raise KeyboardInterrupt if _received == signal.SIGINT else SystemExit(128 + _received)


def _leave_at_once(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


def end_at_once() -> None:
    """End this process at once, and without a stack trace, on Ctrl-C, SIGTERM and SIGHUP.

    This is for the time of imports: there is nothing yet to tidy up. :func:`end_with_exceptions` ends that time.
    """
    for number in (signal.SIGINT, *_ENDING):
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _leave_at_once)


def end_with_exceptions() -> None:
    """Have Ctrl-C raise KeyboardInterrupt, and SIGTERM and SIGHUP raise ``SystemExit(128 + number)``.

    A signal that is ignored (``nohup``), or that has a handler of somebody else, is left alone.
    """
    if signal.getsignal(signal.SIGINT) is _leave_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in _ENDING:
        if signal.getsignal(number) in (signal.SIG_DFL, _leave_at_once):
            signal.signal(number, _leave)


_wanted: dict[int, Any] = {}


@contextmanager
def kept() -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP raise what :func:`leave_if_told` raises, where the user has no handler of their own.

    Handlers of the user stay in force, and afterwards all are as they were. Outside the main thread nothing is changed:
    only the main thread gets signals.
    """
    global _received, _wanted
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *_ENDING)}
    outer = _wanted
    usual = (signal.SIG_DFL, signal.default_int_handler)
    _wanted = {number: _leave if handler in usual else handler for number, handler in before.items()}
    if before[signal.SIGINT] is signal.SIG_DFL:  # the process wants to end without an exception
        _wanted[signal.SIGINT] = signal.SIG_DFL
    try:
        put_back()
        yield
    finally:
        _wanted = outer
        if not outer:  # an evaluation within a training run leaves the signal to the run
            _received = None
        _set(before)


def put_back() -> None:
    """Put the handlers of :func:`kept` in force again, after a library has set its own."""
    if threading.current_thread() is threading.main_thread():
        _set(_wanted)


def _set(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        if handler is not None and signal.getsignal(number) is not handler:  # None: not set from Python
            signal.signal(number, handler)
