"""Decisions of people, and what follows from each."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from catalog_schemas.decisions import Decision
from catalog_schemas.images import REJECTED, REVIEW
from catalog_schemas.validation import TableError
from tests.toygan.generation.mortal_store import Died, MortalStore
from tests.toygan.review.shop import commit, live, picture
from toygan.errors import BadInput
from toygan.planning.decisions import Wishes, stored_decisions
from toygan.publishing.commit import complete_open_runs
from toygan.publishing.commit_log import read_commits
from toygan.publishing.verify import prune, verify
from toygan.review.record import Wanted, decide, find_pictures, record
from toygan.storage.keys import CURRENT_KEY, DECIDED_KEY, DECISIONS_PREFIX, decision_key
from toygan.storage.local import LocalStore
from toygan.storage.memory import MemoryStore
from toygan.storage.store import ObjectStore

GOOD, CANDIDATE = picture(0, "run-1"), picture(1, "run-1", REVIEW)
SLOT, OTHER = ("sku-0000", 0), ("sku-0001", 0)


@pytest.fixture
def store() -> MemoryStore:
    made = MemoryStore()
    commit(made, "run-1", GOOD, CANDIDATE, picture(2, "run-1", REJECTED))
    return made


def say(store: ObjectStore, decision: str, row: dict[str, object]) -> Decision:
    [made] = decide(store, decision, [str(row["image_id"])], by="Ann", reason="because")
    return made


def take_back(store: ObjectStore, earlier: Decision) -> None:
    back = Wanted(decision="undo", image_id=earlier.image_id, decided_by="Ann", undoes=earlier.decision_id)
    record(store, [back], find_pictures(store, [earlier.image_id]))


def test_an_approved_candidate_is_live_at_once(store: MemoryStore) -> None:
    made = say(store, "approve", CANDIDATE)
    assert live(store)[OTHER] == (CANDIDATE["image_id"], "Ann")
    assert live(store)[SLOT] == (GOOD["image_id"], "machine")
    [stored] = [info.key for info in store.list(DECISIONS_PREFIX)]
    assert Decision.from_json(store.get(stored), stored) == made
    assert verify(store).problems == ()


def test_a_rejected_picture_leaves_the_live_table(store: MemoryStore) -> None:
    say(store, "reject", GOOD)
    assert SLOT not in live(store)
    commit(store, "run-2", {**GOOD, "run_id": "run-2"})  # drawn once more, by accident
    assert SLOT not in live(store)
    assert verify(store).problems == ()
    assert prune(store) == []


def test_what_a_rejected_picture_replaced_stays_away(store: MemoryStore) -> None:
    better = picture(0, "run-2", attempt=1)
    commit(store, "run-2", better)
    say(store, "reject", better)
    assert SLOT not in live(store)
    assert verify(store).problems == ()


@pytest.mark.parametrize("first", ["approve", "reject"])
@pytest.mark.parametrize("row", [GOOD, CANDIDATE], ids=["live", "candidate"])
def test_a_decision_that_is_taken_back_leaves_no_trace(
    store: MemoryStore, first: str, row: dict[str, object]
) -> None:
    before = live(store)
    take_back(store, say(store, first, row))
    assert live(store) == before
    assert verify(store).problems == ()


def test_the_later_decision_counts(store: MemoryStore) -> None:
    say(store, "reject", GOOD)
    say(store, "approve", GOOD)
    assert live(store)[SLOT] == (GOOD["image_id"], "Ann")
    say(store, "redraw", GOOD)
    assert live(store)[SLOT] == (GOOD["image_id"], "Ann")
    say(store, "reject", GOOD)
    assert SLOT not in live(store)


@pytest.mark.parametrize("after", range(1, 7))
@pytest.mark.parametrize("is_last_made", [False, True], ids=["before", "after"])
def test_a_decision_whose_process_dies_is_whole_or_absent(
    store: MemoryStore, after: int, is_last_made: bool
) -> None:
    mortal = MortalStore(store, after, is_last_made=is_last_made)
    wanted = Wanted(decision="reject", image_id=GOOD["image_id"], decided_by="Ann")
    pictures = find_pictures(store, [wanted.image_id])
    with suppress(Died):
        record(mortal, [wanted], pictures)
    complete_open_runs(store)
    is_stored = any(True for _ in store.list(DECISIONS_PREFIX))
    assert (SLOT not in live(store)) == is_stored
    assert verify(store).problems == ()
    record(store, [wanted], pictures)  # the page sends it again
    assert SLOT not in live(store)
    assert stored_decisions(store).num_rows == 1
    commits = read_commits(store)
    assert commits is not None
    assert commits.open == {}
    assert verify(store).problems == ()


@pytest.mark.parametrize("key", [DECIDED_KEY, CURRENT_KEY, "state/commits.json", "state/attempts.parquet"])
def test_a_lost_summary_is_made_anew_with_the_decisions(store: MemoryStore, key: str) -> None:
    say(store, "reject", GOOD)
    say(store, "approve", CANDIDATE)
    before = live(store), stored_decisions(store), read_commits(store)
    store.delete(key)
    complete_open_runs(store)
    assert (live(store), stored_decisions(store), read_commits(store)) == before
    assert verify(store).problems == ()


def test_a_store_without_conditional_writes_loses_nothing(tmp_path: Path) -> None:
    """An entry of a summary may be lost there, so the next run reads what is not in the summary."""

    class Plain(LocalStore):
        has_conditional_writes = False

    store = Plain(tmp_path)
    commit(store, "run-1", GOOD, CANDIDATE)
    old = store.get(CURRENT_KEY)
    say(store, "reject", GOOD)
    store.put(CURRENT_KEY, old)
    store.put(DECIDED_KEY, b"")
    store.delete(DECIDED_KEY)
    complete_open_runs(store)
    assert SLOT not in live(store)
    assert verify(store).problems == ()


def test_verify_names_what_is_wrong_with_decisions(store: MemoryStore) -> None:
    say(store, "approve", CANDIDATE)
    table, current = store.get(DECIDED_KEY), store.get(CURRENT_KEY)
    say(store, "reject", GOOD)
    good = store.get(DECIDED_KEY), store.get(CURRENT_KEY)
    store.put(DECIDED_KEY, table)
    assert "some decisions of people are missing" in verify(store).problems[0]
    store.put(DECIDED_KEY, good[0])
    store.put(CURRENT_KEY, current)
    assert verify(store).problems == (
        "current.parquet: some results of finished runs or decisions are missing; remove it; the next run "
        "makes it again",
    )
    store.put(CURRENT_KEY, good[1])
    damaged = decision_key("2026-11-01", "0" * 32)
    store.put(damaged, b'{"schema": "decision/1"}')
    assert damaged in verify(store).problems[0]


def test_bad_decisions_are_refused_and_nothing_is_written(store: MemoryStore) -> None:
    unknown = picture(2, "run-1", REJECTED)["image_id"]
    complete_open_runs(store)
    before = {info.key for info in store.list()}
    with pytest.raises(BadInput, match=f"{unknown}: no finished run"):
        decide(store, "approve", [CANDIDATE["image_id"], unknown], by="Ann", reason=None)
    for by in ("", "machine", " Ann", "A\nnn", "x" * 65):
        with pytest.raises(BadInput, match="cannot be the name"):
            decide(store, "approve", [CANDIDATE["image_id"]], by=by, reason=None)
    with pytest.raises(BadInput, match="reason"):
        decide(store, "approve", [CANDIDATE["image_id"]], by="Ann", reason="x" * 501)
    store.delete(CANDIDATE["image_uri"])
    with pytest.raises(BadInput, match="is missing"):
        decide(store, "approve", [CANDIDATE["image_id"]], by="Ann", reason=None)
    assert {info.key for info in store.list()} == before - {CANDIDATE["image_uri"]}


def test_a_damaged_decision_names_the_wrong_field(store: MemoryStore) -> None:
    made = say(store, "reject", GOOD)
    for field, value in {
        "commit": 0,
        "decision": "maybe",
        "undoes": "0" * 32,
        "decided_by": "machine",
        "decided_at": "2026-11-01T00:00:00",
        "sku": "a/b",
        "image_uri": "../x.webp",
        "sha256": "no",
        "machine_decision": "rejected",
        "reason": "",
    }.items():
        with pytest.raises(TableError, match=f"the field '{field}'"):
            Decision.from_json(replace(made, **{field: value}).to_json(), "it")


def test_wishes_are_of_a_slot_and_a_row(store: MemoryStore) -> None:
    import numpy as np

    from catalog_schemas.validation import hash_strings

    rejected = say(store, "reject", GOOD)
    redrawn = say(store, "redraw", CANDIDATE)
    skus = hash_strings(pa.array(["sku-0000", "sku-0001", "sku-0001"], pa.large_string()))
    rows = hash_strings(
        pa.array([GOOD["row_fingerprint"], CANDIDATE["row_fingerprint"], "0" * 64], pa.large_string())
    )
    found = Wishes(stored_decisions(store)).of(skus, np.zeros(3, np.int32), rows)
    assert [each.tolist() for each in found] == [[0, redrawn.commit, 0], [rejected.commit, 0, 0]]
