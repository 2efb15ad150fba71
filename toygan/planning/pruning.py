"""Which objects `verify --prune` is removing at this moment, so that no run relies on one of them.

A run that was given up leaves pictures whose keys a later run would use again, and no store deletes on the
condition that nobody uses a key. So both say what they are about to do before they look at the other: a prune
writes what it is going to remove, looks again at what is needed, and removes only what still is not; a run
puts a mark where its plan will lie, and only then reads what is being removed. Whichever comes second sees
the other: the prune spares what the run may use, or the run leaves such products to the next one.
"""

import json
from collections.abc import Iterable
from datetime import UTC, datetime

from toygan.errors import BadInput, ObjectNotFound, Retryable
from toygan.storage.keys import PRUNING_KEY, metadata_prefix, planning_key, review_prefix
from toygan.storage.store import ObjectStore


def put_mark(store: ObjectStore, run_id: str) -> None:
    """Say that a run is being planned, and since when: no prune removes what it may come to need."""
    store.put(planning_key(run_id), datetime.now(UTC).isoformat(timespec="seconds").encode())


def read_mark(store: ObjectStore, run_id: str) -> datetime | None:
    """Since when a run is being planned; None where it is not any more, or the mark does not say."""
    try:
        since = datetime.fromisoformat(store.get(planning_key(run_id)).decode())
    except (ObjectNotFound, ValueError):
        return None
    return since if since.tzinfo else None


def read_condemned(store: ObjectStore, run_id: str) -> frozenset[str]:
    """Keys that are being removed; to be read after the run's mark is put.

    Raises Retryable where they are those of an earlier run of this id.
    """
    keys = frozenset(read_pruning(store)[1])
    own = (metadata_prefix(run_id), review_prefix(run_id))
    if any(key.startswith(own) for key in keys):
        raise Retryable(
            f"`toygan verify {store.uri} --prune` is removing what an earlier run {run_id} left; let it end, "
            "or use another run id"
        )
    return keys


def read_pruning(store: ObjectStore) -> tuple[str | None, list[str]]:
    """Whose list it is, None where nothing is being removed, and the keys; raises BadInput if damaged."""
    try:
        content = json.loads(store.get(PRUNING_KEY))
        return str(content["prune_id"]), [str(key) for key in content["keys"]]
    except ObjectNotFound:
        return None, []
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadInput(
            f"{PRUNING_KEY} is damaged ({error!r}); remove it while no `toygan verify --prune` is at work"
        ) from None


def write_pruning(store: ObjectStore, prune_id: str, keys: Iterable[str]) -> None:
    """Say what is going to be removed."""
    content = json.dumps({"prune_id": prune_id, "keys": sorted(keys)})
    store.put(PRUNING_KEY, content.encode(), content_type="application/json")
