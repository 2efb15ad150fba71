"""Updates objects that several processes change at the same time, such as the live table and the models'
aliases.
"""

import logging
import random
import time
from collections.abc import Callable
from typing import NamedTuple

from toygan.errors import Conflict, ObjectNotFound, StoreUnavailable
from toygan.storage.store import ObjectStore

_log = logging.getLogger(__name__)

_ATTEMPTS = 100  # an attempt fails only if another process has changed the object
_LONGEST_PAUSE_S = 1.0


class Stored(NamedTuple):
    """An object as it was read or written. Both fields are None if there was no object."""

    content: bytes | None
    version: str | None


def update(
    store: ObjectStore,
    key: str,
    change: Callable[[bytes | None], bytes | None],
    *,
    content_type: str,
    known: Stored | None = None,
) -> Stored:
    """Replaces an object by the result of `change(content)`; the content is None if there is no object.

    Returns the object afterwards. `known` is the object as it was read or written before, which spares a
    request if the object has not changed since. If `change` returns None, the object is not written. If
    another process changes the object at the same time, `change` is called again with the new content, so no
    change is lost. If the answer to a write is lost, `change` may be called again with its own earlier
    result. An exception of `change` ends the update. Raises StoreUnavailable if other processes changed the
    object during every attempt.
    """
    pause = 0.01
    for _ in range(_ATTEMPTS):
        before, version = known or read_stored(store, key)
        after = change(before)
        if after is None or after == before:
            if known is None:
                return Stored(before, version)
            known = None  # the object may have changed since
            continue
        known = None
        if not store.has_conditional_writes:
            _log.info(
                "the store %s has no conditional writes; two processes must not change %s at the same time",
                store.uri,
                key,
            )
        try:
            written = store.put_if(key, after, version, content_type=content_type)
        except Conflict:
            time.sleep(pause * random.random())
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        else:
            return Stored(after, written)
    raise StoreUnavailable(f"{store.uri}: other processes kept changing {key}; run again later")


def read_stored(store: ObjectStore, key: str) -> Stored:
    """Reads an object that need not exist."""
    try:
        return Stored(*store.get_versioned(key))
    except ObjectNotFound:
        return Stored(None, None)
