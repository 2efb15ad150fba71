"""One damaged file of a store stops neither a night nor a decision; verify names it with the remedy."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from catalog_schemas.images import REVIEW
from catalog_schemas.validation import TableError
from tests.toygan.generation.runs import put_manifest, put_part
from tests.toygan.review.shop import SETTINGS, commit, live, picture
from toygan.planning.decisions import stored_decisions
from toygan.publishing.commit import complete_open_runs
from toygan.publishing.commit_log import Commits, read_commits, reserve
from toygan.publishing.verify import prune, verify
from toygan.review.record import Wanted, decide, find_pictures, record
from toygan.storage.keys import (
    ATTEMPTS_KEY,
    COMMITS_KEY,
    CURRENT_KEY,
    DECIDED_KEY,
    decision_key,
    manifest_key,
    part_key,
)
from toygan.storage.memory import MemoryStore

GOOD, OLD, CANDIDATE = picture(0, "run-2"), picture(1, "run-1"), picture(2, "run-2", REVIEW)
SLOT, OLD_SLOT, NEW_SLOT = ("sku-0000", 0), ("sku-0001", 0), ("sku-0002", 0)
STATE = (COMMITS_KEY, ATTEMPTS_KEY, DECIDED_KEY)
Damage = Callable[[MemoryStore], object]


@pytest.fixture
def store() -> MemoryStore:
    """Two runs; the files of the first one will be damaged."""
    made = MemoryStore()
    commit(made, "run-1", OLD)
    commit(made, "run-2", GOOD, CANDIDATE)
    return made


def huge(store: MemoryStore) -> None:
    content = json.loads(store.get(manifest_key("run-1"))) | {"commit": 10**30}
    store.put(manifest_key("run-1"), json.dumps(content).encode())


DAMAGED: dict[str, Damage] = {
    "a part": lambda store: store.put(part_key("run-1", 0), b"PAR1"),
    "a lost part": lambda store: store.delete(part_key("run-1", 0)),
    "a manifest": lambda store: store.put(manifest_key("run-1"), b"{"),
    "a manifest of another run": lambda store: store.put(
        manifest_key("run-1"), store.get(manifest_key("run-2"))
    ),
    "a manifest of a number too large": huge,
}


@pytest.fixture(params=DAMAGED.values(), ids=DAMAGED.keys())
def damage(request: pytest.FixtureRequest) -> Damage:
    found: Damage = request.param
    return found


def undo(store: MemoryStore, image_id: str) -> None:
    table = stored_decisions(store)
    [decision_id] = table["decision_id"].to_pylist()
    back = Wanted(decision="undo", image_id=image_id, decided_by="Ann", undoes=decision_id)
    record(store, [back], find_pictures(store, [image_id]))


def test_a_damaged_old_run_stops_no_undo(store: MemoryStore, damage: Damage) -> None:
    decide(store, "reject", [GOOD["image_id"]], by="Ann", reason=None)
    damage(store)
    assert SLOT not in live(store)
    undo(store, GOOD["image_id"])
    assert live(store)[SLOT] == (GOOD["image_id"], "machine")
    for key in (DECIDED_KEY, CURRENT_KEY):  # the night has to read everything again
        store.delete(key)
    complete_open_runs(store)
    assert live(store)[SLOT] == (GOOD["image_id"], "machine")
    assert OLD_SLOT not in live(store)


def test_a_damaged_old_run_stops_no_decision(
    store: MemoryStore, damage: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    damage(store)
    [made] = decide(store, "approve", [CANDIDATE["image_id"]], by="Ann", reason=None)
    assert live(store)[NEW_SLOT] == (made.image_id, "Ann")
    assert "run-1" in caplog.text
    assert "see `toygan verify`" in caplog.text


def test_a_run_that_is_given_up_leaves_a_whole_store(store: MemoryStore, damage: Damage) -> None:
    damage(store)
    first = verify(store).problems[0]
    assert "run-1" in first
    assert f"or give the run up: remove {manifest_key('run-1')}, {CURRENT_KEY} and state/" in first
    for key in (manifest_key("run-1"), CURRENT_KEY, *STATE):
        store.delete(key)
    complete_open_runs(store)
    assert all("left over" in problem for problem in verify(store).problems)
    prune(store)
    assert verify(store).problems == ()
    assert set(live(store)) == {SLOT}


def test_an_open_run_with_a_damaged_part_waits_for_the_part(store: MemoryStore) -> None:
    late = picture(3, "run-3")
    store.put(late["image_uri"], late["image_id"].encode())
    put_part(store, "run-3", [late])
    put_manifest(store, "run-3", SETTINGS, commit=reserve(store, "run-3"))
    whole = store.get(part_key("run-3", 0))
    for content in (b"PAR1", None):
        if content is None:
            store.delete(part_key("run-3", 0))
        else:
            store.put(part_key("run-3", 0), content)
        complete_open_runs(store)
        assert set(live(store)) == {SLOT, OLD_SLOT}
    store.put(part_key("run-3", 0), whole)
    complete_open_runs(store)
    assert live(store)["sku-0003", 0] == (late["image_id"], "machine")
    commits = read_commits(store)
    assert commits is not None
    assert commits.open == {}


@pytest.mark.parametrize(
    "change",
    [
        lambda made: b"{",
        lambda made: replace(made, commit=10**30).to_json().encode(),
        lambda made: replace(made, model_name="\ud800").to_json().replace("\ud800", "\\ud800").encode(),
    ],
    ids=["no JSON", "a number too large", "half a pair"],
)
def test_a_damaged_decision_stops_no_other_one(
    store: MemoryStore, change: Callable[..., bytes], caplog: pytest.LogCaptureFixture
) -> None:
    [made] = decide(store, "reject", [GOOD["image_id"]], by="Ann", reason=None)
    bad = decision_key("2026-11-01", "0" * 32)
    store.put(bad, change(made))
    store.delete(DECIDED_KEY)
    complete_open_runs(store)
    assert stored_decisions(store)["decision_id"].to_pylist() == [made.decision_id]
    assert SLOT not in live(store)
    assert bad in caplog.text
    [problem] = verify(store).problems
    assert problem.startswith(f"{bad}: ")
    assert problem.endswith("restore it from a copy, or remove it and decide again")


@pytest.mark.parametrize("content", [b"{", b'{"prune_id": 1}', b"[" * 100_000])
def test_verify_names_a_damaged_list_of_a_prune(store: MemoryStore, content: bytes) -> None:
    store.put("state/pruning.json", content)
    [problem] = verify(store).problems
    assert "state/pruning.json is damaged" in problem
    assert "remove it while no" in problem


def test_verify_names_every_damaged_summary(store: MemoryStore) -> None:
    for key in (*STATE, CURRENT_KEY):
        store.put(key, b"{}")
    problems = verify(store).problems
    for key in (*STATE, CURRENT_KEY):
        assert any(key in each and "remove it; the next run makes it again" in each for each in problems)


@pytest.mark.parametrize("number", ["Infinity", "1e400", "NaN", str(10**30), "-1", "true", '"7"'])
@pytest.mark.parametrize("field", ["last", "open"])
def test_a_number_that_no_commit_has_is_damage(store: MemoryStore, number: str, field: str) -> None:
    value = number if field == "last" else f'{{"run-9": {number}}}'
    text = Commits(last=2).to_json().decode()
    old = '"last": 2' if field == "last" else '"open": {}'
    assert old in text
    store.put(COMMITS_KEY, text.replace(old, f'"{field}": {value}').encode())
    assert any(f"{COMMITS_KEY} is damaged" in each for each in verify(store).problems)


@pytest.mark.parametrize("key", [*STATE, CURRENT_KEY])
@pytest.mark.parametrize("content", [b"", b"PAR1 and no more", b"{}"])
def test_a_night_makes_a_damaged_summary_again(store: MemoryStore, key: str, content: bytes) -> None:
    decide(store, "reject", [GOOD["image_id"]], by="Ann", reason=None)
    decide(store, "approve", [CANDIDATE["image_id"]], by="Bo", reason=None)
    before = complete_open_runs(store)
    store.put(key, content)
    assert complete_open_runs(store, mends=True) == before
    assert verify(store).problems == ()


def test_a_damaged_list_of_commits_hides_no_open_run(store: MemoryStore) -> None:
    late = picture(3, "run-3")
    store.put(late["image_uri"], late["image_id"].encode())
    put_part(store, "run-3", [late])
    put_manifest(store, "run-3", SETTINGS, commit=reserve(store, "run-3"))
    store.put(COMMITS_KEY, b"{")
    complete_open_runs(store, mends=True)
    assert set(live(store)) == {SLOT, OLD_SLOT, ("sku-0003", 0)}
    assert reserve(store, "run-4") == 4
    assert verify(store).problems == ()


def test_a_damaged_summary_is_kept_if_a_run_is_damaged_too(store: MemoryStore, damage: Damage) -> None:
    damage(store)
    store.put(CURRENT_KEY, b"PAR1")
    with pytest.raises(TableError, match=r"current\.parquet.*remove it; the next run makes it again"):
        complete_open_runs(store, mends=True)
    assert store.get(CURRENT_KEY) == b"PAR1"
    store.delete(CURRENT_KEY)
    complete_open_runs(store, mends=True)
    assert set(live(store)) == {SLOT}
