"""Handles Ctrl-C and SIGTERM. Long work can end cleanly, and a start can be interrupted."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)

AGAIN_AFTER_S = 5.0  # longer than the shutdown takes after the first signal
AGAIN_AFTER_LOSS_S = 0.5  # not at once, because the code that lost the exception is still running

_STDERR = 2


def say_in_handler(text: str) -> None:
    """Writes a line to stderr from a signal handler.

    A write to sys.stderr would raise an error if the signal has come in the middle of another one.
    """
    with suppress(OSError):  # nobody reads it any more
        os.write(_STDERR, f"{text}\n".encode())


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Yields a function that returns whether one of `SIGNALS` has come. A second signal ends the process.

    Only the main thread may enter.
    """
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        put_back()
        say_in_handler("\nstopping cleanly; a second signal stops at once")

    before = {number: signal.signal(number, note) for number in SIGNALS}

    def put_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    try:
        yield lambda: bool(came)
    finally:
        put_back()


@contextmanager
def ends_at_sigterm() -> Iterator[None]:
    """Makes SIGTERM raise SystemExit in this block, until other code sets another handler for SIGTERM.

    If a signal handler raises while a destructor or a weak reference's callback runs, Python drops the
    exception. This can happen to this handler and to Prefect's. So SIGTERM is sent again until this block is
    left: AGAIN_AFTER_S after this handler ran, and AGAIN_AFTER_LOSS_S after Python reported a lost
    SystemExit. Only the main thread may enter.
    """
    report = sys.unraisablehook

    def end(number: int, frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, AGAIN_AFTER_S)
        sys.exit(0)

    def again(number: int, frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGTERM)

    def lost(unraisable: "sys.UnraisableHookArgs") -> None:
        report(unraisable)
        # Signal handlers can be set only in the main thread.
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and isinstance(unraisable.exc_value, SystemExit):
            signal.setitimer(signal.ITIMER_REAL, AGAIN_AFTER_LOSS_S)

    sys.unraisablehook = lost
    signal.signal(signal.SIGALRM, again)
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        sys.unraisablehook = report
        signal.setitimer(signal.ITIMER_REAL, 0)
