"""What the last retraining has seen, so that nobody has to rely on an event arriving.

The protocol between the flows `watch-photos` and `retrain`, all of it in the store:

1. Every indexed photo has an `indexed_at` that is later than that of all photos before it.
2. A retraining takes the photo index as it is (`toygan.uploads.indexing.index_when_quiet`) as its snapshot,
   and when it is over, whether its model was promoted or not, it writes `record_retraining(store, snapshot)`.
   One that fails or is killed writes nothing.
3. Photos with an `indexed_at` after the record's `seen_until` are unseen. After each listing `watch-photos`
   asks for a retraining when enough of them are there and none is under way, whatever was asked for before:
   an event that was lost, or a retraining that was, is made up for by the next listing.
4. A retraining that was asked for by anybody, and finds no unseen photo, has nothing to do.
"""

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc

from catalog_schemas.photos import PHOTO_INDEX
from toygan.errors import BadInput, ObjectNotFound
from toygan.storage.keys import RETRAINED_KEY
from toygan.storage.store import ObjectStore

_INDEXED_AT = PHOTO_INDEX.field("indexed_at").type


@dataclass(frozen=True, kw_only=True)
class Retrained:
    """The record; `seen_until` is ISO 8601 in UTC, the `indexed_at` of the newest photo of the snapshot."""

    run_id: str
    seen_until: str
    photos: int

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Raises BadInput for anything that record_retraining did not write."""
        try:
            record = cls(**json.loads(text))
            datetime.fromisoformat(record.seen_until)
        except (TypeError, ValueError) as error:
            raise BadInput(
                f"{RETRAINED_KEY} is damaged ({error}); remove it, and the next retraining writes it anew"
            ) from error
        return record


def record_retraining(store: ObjectStore, snapshot: pa.Table, run_id: str) -> None:
    """Says that all photos of `snapshot`, a photo index with at least one row, have been trained on."""
    newest = pc.max(snapshot["indexed_at"]).as_py()
    record = Retrained(run_id=run_id, seen_until=newest.isoformat(), photos=snapshot.num_rows)
    text = json.dumps(asdict(record), indent=2, sort_keys=True) + "\n"
    store.put(RETRAINED_KEY, text.encode(), content_type="application/json")


def read_retrained(store: ObjectStore) -> Retrained | None:
    """None in a store without a retraining; raises BadInput for a damaged record."""
    try:
        return Retrained.from_json(store.get(RETRAINED_KEY))
    except ObjectNotFound:
        return None


def unseen_photos(index: pa.Table, retrained: Retrained | None) -> pa.Table:
    """The rows of the index that no finished retraining has seen."""
    if retrained is None:
        return index
    seen_until = pa.scalar(datetime.fromisoformat(retrained.seen_until), _INDEXED_AT)
    return index.filter(pc.greater(index["indexed_at"], seen_until))
