"""Ctrl-C and SIGTERM: for long work that ends in good order, and for a start that may be broken off."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)

AGAIN_AFTER_S = 5.0  # longer than what the first one starts takes
AGAIN_AFTER_LOSS_S = 0.5  # not at once: what lost it is still running

_STDERR = 2


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Yields a question that is true once one of `SIGNALS` has come; the next one ends the process at once.

    Only the main thread may enter.
    """
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        put_back()
        # Not through sys.stderr: the signal may have come in the middle of a write to it.
        os.write(_STDERR, b"\nstopping in good order; once more stops at once\n")

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
    """SIGTERM raises SystemExit here, until somebody else sets a handler for it.

    An exception that a handler raises, be it this one or Prefect's, is lost where a destructor or a weak
    reference's callback is running. So the signal comes again, to whoever handles it then, until this block
    is left: once after a while where this handler had it, and where Python says that a SystemExit was lost.
    Only the main thread may enter.
    """
    report = sys.unraisablehook

    def end(number: int, frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, AGAIN_AFTER_S)
        sys.exit(0)

    def again(number: int, frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGTERM)

    def lost(unraisable: "sys.UnraisableHookArgs") -> None:
        report(unraisable)
        # Handlers run in the main thread only.
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
