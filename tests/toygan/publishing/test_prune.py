"""Prune beside runs that use the keys of left-over pictures again."""

import hashlib
import itertools
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.toygan.publishing.stores import (
    check_problems,
    content,
    put_manifest,
    put_part,
    put_plan,
    put_run,
    put_shard,
    row,
)
from tests.toygan.publishing.stores import store as store
from toygan.errors import Retryable
from toygan.planning.pruning import put_mark, read_condemned, read_pruning, write_pruning
from toygan.publishing.commit_log import reserve
from toygan.publishing.verify import prune, verify
from toygan.storage import keys
from toygan.storage.memory import MemoryStore
from toygan.storage.store import ObjectInfo, ObjectStore

# prune beside runs that use the keys of left-over pictures again


def give_up(store: ObjectStore, run_id: str) -> None:
    """A run that died after its first shard, and that somebody gave up."""
    put_shard(store, run_id, 0)
    for info in list(store.list(keys.tmp_prefix(run_id))):
        store.delete(info.key)


def test_a_run_that_is_being_planned_may_need_anything(store: MemoryStore) -> None:
    give_up(store, "given-up")
    store.put(keys.planning_key("night-2"), b"")
    of_it = [keys.part_key("given-up", 0), row("given-up", 0, 2, 0, "review")[0]["image_uri"]]
    assert sorted(verify(store).left_over) == of_it
    assert prune(store) == of_it


@pytest.mark.parametrize("category", ["cars", "Toys > Cars", "积木"])
def test_pictures_that_an_open_run_has_just_put_stay(store: MemoryStore, category: str) -> None:
    """Its shard is not finished, so no table names them yet."""
    put_plan(store, "night-2", 1, category=category)
    picture = keys.image_key(category, "sku-0-1", "0" * 20, "webp")
    store.put(picture, b"picture")
    assert verify(store).left_over == ()
    assert prune(store) == []
    assert store.exists(picture)


def test_a_planning_that_holds_pruning_back_is_named(store: MemoryStore) -> None:
    give_up(store, "given-up")
    put_mark(store, "night-2")
    store.put(keys.planning_key("night-3"), b"\xff no time")
    for run_id in ("night-1", "night-4"):  # one is finished, the other planned
        put_mark(store, run_id)
    put_plan(store, "night-4", 1)
    second, third = verify(store).planning
    assert re.match(
        r"\.tmp/night-2/: the run is being planned since 20\d\d-.* UTC; .*--run-id night-2,", second
    )
    assert third.startswith(
        ".tmp/night-3/: the run is being planned; until that ends, --prune removes no picture"
    )
    pictures = [key for key in content(store) if key.startswith("images/")]
    prune(store)
    assert set(pictures) <= content(store).keys()
    for info in list(store.list(".tmp/")):
        store.delete(info.key)
    assert verify(store).planning == ()
    assert set(prune(store)) & set(pictures)


def test_what_a_prune_that_died_said_is_taken_over(store: MemoryStore) -> None:
    give_up(store, "given-up")
    condemned = ["images/cars/sku-9/a.webp", keys.part_key("given-up", 0)]
    write_pruning(store, "dead", condemned)
    assert read_condemned(store, "night-2") == set(condemned)
    with pytest.raises(Retryable, match="removing files of an earlier run given-up"):
        read_condemned(store, "given-up")
    assert len(prune(store)) == 4
    assert read_pruning(store) == (None, [])
    check_problems(store, [])


def test_a_picture_that_somebody_decided_about_stays(store: MemoryStore) -> None:
    give_up(store, "given-up")
    kept = row("given-up", 0, 2, 0, "review")[0]
    store.put("decisions/2026-11-01/1.json", f'{{"image_id": "{kept["image_id"]}"}}'.encode())
    assert kept["image_uri"] not in prune(store)
    assert store.exists(kept["image_uri"])


class Steps(MemoryStore):
    """A store that two actors change in turns: each waits before what others can see or be hurt by."""

    def __init__(self) -> None:
        super().__init__()
        self.wait: Callable[[], None] = lambda: None

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self.wait()
        return super().list(prefix)

    def put(self, key: str, data: bytes, *, content_type: str = "application/octet-stream") -> None:
        self.wait()
        super().put(key, data)

    def delete(self, key: str) -> None:
        self.wait()
        super().delete(key)

    def get(self, key: str) -> bytes:
        if key == keys.PRUNING_KEY:
            self.wait()
        return super().get(key)


def nightly_run(store: ObjectStore, picture: dict[str, Any]) -> Iterator[None]:
    """A run that draws the very picture that another one left; it pauses before each of its steps."""
    yield
    store.put(keys.planning_key("nightly"), b"")
    yield
    if picture["image_uri"] in read_condemned(store, "nightly"):
        return  # it waits for the next night
    yield
    put_plan(store, "nightly", 1)
    yield
    store.put(picture["image_uri"], b"drawn again")
    yield
    digest = hashlib.sha256(b"drawn again").hexdigest()
    put_part(store, "nightly", 0, [{**picture, "run_id": "nightly", "sha256": digest}])
    reserve(store, "nightly")
    yield
    put_manifest(store, "nightly", 1)
    yield
    for info in list(store.list(keys.tmp_prefix("nightly"))):
        store.delete(info.key)


STEPS = 7  # of the run above


def interleave(turns: list[int]) -> tuple[bool, int]:
    """Prune and the run take turns: before its n-th step prune lets the run make `turns[n]` steps.

    Returns whether the run committed, with all that it names in the store, and how many steps prune made.
    """
    store = Steps()
    give_up(store, "given-up")
    picture = row("given-up", 0, 0, 0, "approved")[0]
    run, made, busy = nightly_run(store, picture), 0, threading.RLock()
    actor: list[threading.Thread | None] = [None]

    def wait() -> None:
        nonlocal made
        with busy:
            if threading.current_thread() is actor[0]:
                return  # the run's own steps
            before, actor[0] = actor[0], threading.current_thread()
            for _ in range(turns[made] if made < len(turns) else 0):
                next(run, None)
            made += 1
            actor[0] = before

    store.wait = wait
    prune(store)
    store.wait = lambda: None
    deque(run, maxlen=0)
    is_committed = store.exists(keys.manifest_key("nightly"))
    if is_committed:
        assert store.get(picture["image_uri"]) == b"drawn again", turns
        assert store.exists(keys.part_key("nightly", 0)), turns
    assert not store.exists(keys.PRUNING_KEY)
    return is_committed, made


def orders(moments: int, *, changes: int) -> Iterator[list[int]]:
    """The run goes on at several moments of the prune, and ends after it, in every order."""
    for places in itertools.combinations(range(moments), changes):
        for cuts in itertools.combinations(range(1, STEPS + 1), changes):
            turns = [0] * moments
            for place, size in zip(places, np.diff((0, *cuts)).tolist(), strict=True):
                turns[place] = size
            yield turns


@pytest.mark.slow
def test_prune_removes_nothing_of_a_run_that_begins_at_any_moment_of_it() -> None:
    _, moments = interleave([])
    assert {interleave(turns)[0] for turns in orders(moments, changes=1)} == {True, False}


@pytest.mark.slow
def test_prune_removes_nothing_of_a_run_in_any_order_of_their_steps() -> None:
    _, moments = interleave([])
    for turns in orders(moments, changes=2):
        interleave(turns)


@pytest.mark.slow
def test_two_prunes_at_once_remove_only_what_nobody_needs() -> None:
    """The second one runs as a whole at each step of the first one."""
    ends = set()
    for moment in itertools.count(1):
        store, made, busy = Steps(), 0, threading.RLock()
        put_run(store)
        give_up(store, "given-up")

        def wait(store: Steps = store, moment: int = moment, busy: Any = busy) -> None:
            nonlocal made
            with busy:
                made += 1
                if made == moment:
                    store.wait = lambda: None
                    prune(store)

        store.wait = wait
        try:
            prune(store)
            ends.add("done")
        except Retryable as error:
            ends.add(str(error))
        store.wait = lambda: None
        assert (verify(store).problems, verify(store).left_over) == ((), ())
        assert read_pruning(store) == (None, [])
        if made < moment:
            break
    ends.remove("done")
    (said,) = ends
    assert "has taken over; run one at a time" in said
