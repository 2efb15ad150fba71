"""A store with pictures to decide about, without a model."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from catalog_schemas.images import APPROVED, FILE_COLUMNS, REJECTED, REVIEW, read_current
from tests.toygan.generation.runs import candidate, put_manifest, put_part
from tests.toygan.generation.slots import slot
from toygan.errors import ObjectNotFound
from toygan.planning.finished import Parts
from toygan.planning.plan import RunSettings
from toygan.publishing.commit import make_live
from toygan.publishing.commit_log import reserve
from toygan.storage.keys import CURRENT_KEY, review_key
from toygan.storage.store import ObjectStore

SETTINGS = RunSettings(models={"main": "toybricks@0123456789ab"})


def picture(number: int, run_id: str, decision: str = APPROVED, **changes: Any) -> dict[str, Any]:
    """The metadata row of a candidate; its file is its own id."""
    row = candidate(slot(number), run_id, **changes)
    row["sha256"] = sha256(row["image_id"].encode()).hexdigest()
    if decision == REVIEW:
        row["image_uri"] = review_key(run_id, row["image_id"], "webp")
        row["reasons"] = ["score_below_threshold"]
    if decision == REJECTED:
        row |= dict.fromkeys(FILE_COLUMNS)
    return row | {"decision": decision}


def commit(
    store: ObjectStore, run_id: str, *rows: Mapping[str, Any], files: Mapping[str, bytes] | None = None
) -> None:
    """What a night does at its end. `files` are the pictures by id; without them a file is its own id."""
    for row in rows:
        if row["image_uri"]:
            image_id = row["image_id"]
            store.put(row["image_uri"], image_id.encode() if files is None else files[image_id])
    put_part(store, run_id, rows)
    manifest = put_manifest(store, run_id, SETTINGS, commit=reserve(store, run_id))
    make_live(store, manifest, Parts(store, run_id, 1))


def live(store: ObjectStore) -> dict[tuple[str, int], tuple[str, str]]:
    """Id of each live picture, and who decided."""
    try:
        rows = read_current(store.get(CURRENT_KEY)).to_pylist()
    except ObjectNotFound:
        return {}
    return {(row["sku"], row["image_index"]): (row["image_id"], row["decided_by"]) for row in rows}
