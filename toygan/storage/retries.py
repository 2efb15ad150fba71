"""Decides how long a call to a store is repeated."""

import random
import time
from logging import Logger

from toygan.errors import StoreUnavailable, ToyganError

_LONGEST_PAUSE_S = 5.0


class Retries:
    """The pauses between the tries of one call; they grow until the patience is used up."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._began = time.monotonic()
        self._pause_s = 0.25

    def pause(self, failure: ToyganError, patience_s: float, *, is_silent: bool = False) -> bool:
        """Sleeps before the next try and returns True. Returns False if `failure` is final or `patience_s` is
        used up.

        Logs the failure, unless `is_silent`.
        """
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S) * random.uniform(0.75, 1.0)
        left_s = self._began + patience_s - time.monotonic() - self._pause_s
        if not isinstance(failure, StoreUnavailable) or left_s < 0:
            return False
        if not is_silent:
            self._log.warning("%s; trying again for %.0f s", failure, left_s)
        time.sleep(self._pause_s)
        return True
