"""Records which photos the last retraining has seen, so that no retraining depends on an event.

The protocol between the flows `watch-photos` and `retrain` is in the store:

1. Every indexed photo has a later `indexed_at` than all photos before it.
2. A retraining takes the present photo index (`toygan.uploads.indexing.index_when_quiet`) as its snapshot. At
   its end it calls `record_retraining(store, snapshot)`, even if its model was not promoted. A retraining
   that fails or is killed writes nothing.
3. Photos with an `indexed_at` after the record's `seen_until` are unseen. After each listing `watch-photos`
   asks for a retraining if enough photos are unseen and no retraining is active. It asks again even if it has
   asked before. So the next listing makes up for a lost event or a lost retraining.
4. A retraining that finds no unseen photo has nothing to do.
"""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc

from catalog_schemas.photos import PHOTO_INDEX
from toygan.errors import BadInput, ObjectNotFound
from toygan.storage.keys import RETRAINED_KEY
from toygan.storage.store import ObjectStore

MOST_RESULTS = 100

_INDEXED_AT = PHOTO_INDEX.field("indexed_at").type


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of a retraining in words; `ended_at` is ISO 8601 in UTC."""

    run_id: str
    ended_at: str
    text: str

    def __post_init__(self) -> None:
        datetime.fromisoformat(self.ended_at)


@dataclass(frozen=True, kw_only=True)
class Retrained:
    """The record; `seen_until` is the `indexed_at` of the snapshot's newest photo, ISO 8601 in UTC."""

    run_id: str
    seen_until: str
    photos: int
    # the results of the last MOST_RESULTS retrainings that trained a model, the oldest first
    results: tuple[Result, ...]

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Reads the record; raises BadInput for anything that record_retraining did not write."""
        try:
            content = json.loads(text)
            results = tuple(Result(**each) for each in content["results"])
            record = cls(**{**content, "results": results})
            datetime.fromisoformat(record.seen_until)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise BadInput(
                f"{RETRAINED_KEY} is damaged ({error}); remove it, and the next retraining writes it again"
            ) from error
        return record


def record_retraining(store: ObjectStore, snapshot: pa.Table, run_id: str, result: str | None = None) -> None:
    """Records that all photos of `snapshot`, a photo index with at least one row, have been seen.

    `result` is a text for people, None if no model was trained. A second call with the same run id replaces
    the result.
    """
    newest = pc.max(snapshot["indexed_at"]).as_py()
    before = read_retrained(store)
    results = [each for each in (before.results if before else ()) if each.run_id != run_id]
    if result is not None:
        results.append(Result(run_id=run_id, ended_at=datetime.now(UTC).isoformat(), text=result))
    record = Retrained(
        run_id=run_id,
        seen_until=newest.isoformat(),
        photos=snapshot.num_rows,
        results=tuple(results[-MOST_RESULTS:]),
    )
    text = json.dumps(asdict(record), indent=2, sort_keys=True) + "\n"
    store.put(RETRAINED_KEY, text.encode(), content_type="application/json")


def read_retrained(store: ObjectStore) -> Retrained | None:
    """Returns the record, None in a store without one; raises BadInput if it is damaged."""
    try:
        return Retrained.from_json(store.get(RETRAINED_KEY))
    except ObjectNotFound:
        return None


def unseen_photos(index: pa.Table, retrained: Retrained | None) -> pa.Table:
    """Returns the rows of the index that no finished retraining has seen."""
    if retrained is None:
        return index
    seen_until = pa.scalar(datetime.fromisoformat(retrained.seen_until), _INDEXED_AT)
    return index.filter(pc.greater(index["indexed_at"], seen_until))
