"""The record of the last retraining, and what is unseen since."""

from dataclasses import replace

import pytest

from tests.toygan.uploads.uploads import upload
from toygan.errors import BadInput
from toygan.storage.keys import RETRAINED_KEY
from toygan.storage.memory import MemoryStore
from toygan.uploads.indexing import index_uploads
from toygan.uploads.retrained import Retrained, read_retrained, record_retraining, unseen_photos


def test_everything_is_unseen_before_the_first_retraining() -> None:
    store = MemoryStore()
    upload(store, range(3))
    assert unseen_photos(index_uploads(store).index, read_retrained(store)).num_rows == 3


def test_what_came_after_the_snapshot_is_unseen() -> None:
    store = MemoryStore()
    upload(store, range(3))
    snapshot = index_uploads(store).index
    late = upload(store, range(3, 5))
    index_uploads(store)  # while the retraining is at work
    record_retraining(store, snapshot, "night-1")
    index = index_uploads(store).index
    assert unseen_photos(index, read_retrained(store))["photo_uri"].to_pylist() == late
    record_retraining(store, index, "night-2", "toys@1 was not promoted")
    record_retraining(store, index, "night-2", "toys@1 is the champion")
    assert unseen_photos(index, read_retrained(store)).num_rows == 0
    record = read_retrained(store)
    assert record is not None
    assert [each.text for each in record.results] == ["toys@1 is the champion"]
    assert replace(record, results=()) == Retrained(
        run_id="night-2",
        seen_until=max(index["indexed_at"].to_pylist()).isoformat(),
        photos=5,
        results=(),
    )


def test_a_photo_that_was_taken_out_is_not_missed() -> None:
    store = MemoryStore()
    keys = upload(store, range(3))
    record_retraining(store, index_uploads(store).index, "night-1")
    store.delete(keys[0])
    assert unseen_photos(index_uploads(store).index, read_retrained(store)).num_rows == 0


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"run_id": "a", "seen_until": "x", "photos": 1}'])
def test_a_damaged_record_is_named(text: bytes) -> None:
    store = MemoryStore()
    store.put(RETRAINED_KEY, text)
    with pytest.raises(BadInput, match=RETRAINED_KEY):
        read_retrained(store)
