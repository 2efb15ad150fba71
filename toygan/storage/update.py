"""Objects that many processes read, change and write back: the live table, the aliases of the models."""

import logging
import random
import time
from collections.abc import Callable

from toygan.errors import Conflict, ObjectNotFound, StoreUnavailable
from toygan.storage.store import ObjectStore

_log = logging.getLogger(__name__)

_ATTEMPTS = 100  # each that fails means that somebody else's has succeeded
_LONGEST_PAUSE_S = 1.0


def update(
    store: ObjectStore, key: str, change: Callable[[bytes | None], bytes | None], *, content_type: str
) -> None:
    """Replace an object by what `change` makes of its content, None where there is none; None leaves it.

    Nothing that another process did meanwhile is lost: then `change` is called again with what lies there
    now, which may even be what it made itself, where the answer to a write was lost. Whatever `change` raises
    ends this, too. Raises StoreUnavailable when others were quicker again and again.
    """
    pause = 0.01
    for _ in range(_ATTEMPTS):
        before, version = _read(store, key)
        after = change(before)
        if after is None or after == before:
            return
        if not store.has_conditional_writes:
            _log.info(
                "%s: no conditional writes here; let no two processes change %s at once", store.uri, key
            )
        try:
            store.put_if(key, after, version, content_type=content_type)
        except Conflict:
            time.sleep(pause * random.random())
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        else:
            return
    raise StoreUnavailable(f"{store.uri}: {key} is changed by others all the time; run again")


def _read(store: ObjectStore, key: str) -> tuple[bytes | None, str | None]:
    try:
        return store.get_versioned(key)
    except ObjectNotFound:
        return None, None
