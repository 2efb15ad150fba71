"""Ctrl-C and SIGTERM for long work that ends in good order: it asks now and then whether to stop."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)

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
