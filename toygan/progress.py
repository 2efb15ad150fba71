"""Shows progress on stderr: a bar on a terminal, else a plain line every few seconds."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import NoReturn, Self, TextIO

from tqdm import tqdm

PLAIN_EVERY_S = 5.0


class Progress:
    """A context that counts finished units of work and shows their rate.

    `total` is None if the number of units is unknown. `done` is the number of units that an earlier process
    finished; the rate leaves them out. Not thread-safe: only one thread may call `advance`.
    """

    def __init__(
        self,
        *,
        total: int | None,
        unit: str,
        description: str,
        done: int = 0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total = total
        self.unit = unit
        self.description = description
        self.done = done
        self._done_before = done
        self._detail = ""
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._started_s = self._shown_s = clock()
        self._shown_done: int | None = None
        self._bar: tqdm[NoReturn] | None = None

    def __enter__(self) -> Self:
        if self._stream.isatty():
            self._bar = tqdm(
                desc=self.description,
                total=self.total,
                initial=self.done,
                unit=f" {self.unit}",
                file=self._stream,
                dynamic_ncols=True,
            )
        self._started_s = self._shown_s = self._clock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._shown_done != self.done:
            self._show()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the context was entered."""
        return self._clock() - self._started_s

    @property
    def per_s(self) -> float:
        """Finished units per second since the context was entered."""
        return (self.done - self._done_before) / max(self.elapsed_s, 1e-9)

    def advance(self, count: int = 1) -> None:
        """Adds `count` finished units."""
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
        elif self._clock() - self._shown_s >= PLAIN_EVERY_S:
            self._show()

    def restart(self, done: int) -> None:
        """Sets the count back to `done`, because the work on later units was lost.

        The measuring of the rate starts again.
        """
        self.done = self._done_before = done
        if self._bar is not None:
            self._bar.reset(self.total)
            self._bar.update(done)

    def note(self, detail: str) -> None:
        """Sets a short text, which is shown after the figures from now on."""
        self._detail = detail
        if self._bar is not None:
            self._bar.set_postfix_str(detail, refresh=False)

    def _show(self) -> None:
        self._shown_s, self._shown_done = self._clock(), self.done
        counts = f"{self.done:,}"
        if self.total is not None:
            share = self.done / self.total if self.total else 1.0
            counts += f" of {self.total:,} {self.unit} ({share:.0%})"
        else:
            counts += f" {self.unit}"
        line = f"{self.description}: {counts}, {self.per_s:.1f} {self.unit}/s, {self.elapsed_s:.0f} s"
        print(f"{line}, {self._detail}" if self._detail else line, file=self._stream, flush=True)
