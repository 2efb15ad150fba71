"""Lists the objects that `verify --prune` is removing, so that no run and no approval relies on any of them.

An abandoned run leaves pictures with keys that a later run would use again. No store can delete an object on
the condition that nobody uses its key. So the prune and the run each announce their intent before they check
the other. A prune writes the list of keys to remove, checks again what is needed, and removes only the keys
that are still not needed. A run writes its mark, and only then reads the list. Whichever of the two announces
itself later sees the other. Either the prune sees the mark and keeps the objects that the run may use, or the
run sees the list and leaves products with such objects to the next run.

A retired picture may become live again while its file is there. A run that brings it back, and a person who
approves it, announce that by a mark, too. The mark stays until the decision or the plan is stored.
"""

import json
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from toygan.errors import BadInput, ObjectNotFound, Retryable
from toygan.storage.keys import PRUNING_KEY, metadata_prefix, planning_key, review_prefix, tmp_prefix
from toygan.storage.store import ObjectStore

_APPROVAL = "approval-"  # the marks of approvals begin with this in place of a run id


def put_mark(store: ObjectStore, run_id: str) -> None:
    """Writes the mark of a run that is being planned, with the time.

    From then on, no prune removes objects that the run may need.
    """
    store.put(planning_key(run_id), datetime.now(UTC).isoformat(timespec="seconds").encode())


def read_mark(store: ObjectStore, run_id: str) -> datetime | None:
    """Returns the time when the planning of a run began; None if the run's mark is gone or holds no time."""
    try:
        since = datetime.fromisoformat(store.get(planning_key(run_id)).decode())
    except (ObjectNotFound, ValueError):
        return None
    return since if since.tzinfo else None


@contextmanager
def marked_approval(store: ObjectStore) -> Iterator[frozenset[str]]:
    """Keeps each prune that begins in the block from removing retired pictures.

    Yields the keys that a prune is removing already.
    """
    name = f"{_APPROVAL}{secrets.token_hex(8)}"
    put_mark(store, name)
    try:
        yield frozenset(read_pruning(store)[1])
    finally:
        store.delete(planning_key(name))


def describe_mark(store: ObjectStore, name: str) -> str:
    """Says in one line what holds a prune back, and what to do if its process died."""
    since = read_mark(store, name)
    when = f" since {since.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if since else ""
    what, remedy = "the run is being planned", f"run it again with --run-id {name}, or remove this folder"
    if name.startswith(_APPROVAL):
        what, remedy = "a retired picture is being approved", "remove this folder"
    return (
        f"{tmp_prefix(name)}: {what}{when}; until that ends, --prune removes no picture. "
        f"If its process died, {remedy}"
    )


def read_condemned(store: ObjectStore, run_id: str) -> frozenset[str]:
    """Returns the keys that a prune is removing. Call it after put_mark.

    Raises Retryable if some of these keys belong to an earlier run with the id `run_id`.
    """
    keys = frozenset(read_pruning(store)[1])
    own = (metadata_prefix(run_id), review_prefix(run_id))
    if any(key.startswith(own) for key in keys):
        raise Retryable(
            f"`toygan verify {store.uri} --prune` is removing files of an earlier run {run_id}; wait until "
            "that ends, or use another run id"
        )
    return keys


def read_pruning(store: ObjectStore) -> tuple[str | None, list[str]]:
    """Returns the id and the keys of the active prune; the id is None if there is no prune.

    Raises BadInput if the file is damaged.
    """
    try:
        content = json.loads(store.get(PRUNING_KEY))
        return str(content["prune_id"]), [str(key) for key in content["keys"]]
    except ObjectNotFound:
        return None, []
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadInput(
            f"{PRUNING_KEY} is damaged ({error!r}); remove it while no `toygan verify --prune` is running"
        ) from None


def write_pruning(store: ObjectStore, prune_id: str, keys: Iterable[str]) -> None:
    """Writes the list of the keys that are going to be removed."""
    content = json.dumps({"prune_id": prune_id, "keys": sorted(keys)})
    store.put(PRUNING_KEY, content.encode(), content_type="application/json")
