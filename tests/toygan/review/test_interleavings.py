"""Two reviewers, a night and a reader at work at once: no decision is lost, in whatever order they work."""

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog_schemas.decisions import Decision
from catalog_schemas.images import APPROVED, REVIEW, read_current
from tests.toygan.review.shop import commit, live, picture
from tests.toygan.review.turns import Turns
from toygan.errors import ObjectNotFound
from toygan.planning.decisions import stored_decisions
from toygan.planning.finished import read_manifest
from toygan.publishing.verify import verify
from toygan.review.record import Wanted, find_pictures, record
from toygan.storage.keys import CURRENT_KEY, DECISIONS_PREFIX
from toygan.storage.memory import MemoryStore
from toygan.storage.store import ObjectStore

FIRST = [
    picture(0, "run-1"),
    picture(1, "run-1"),
    picture(2, "run-1", REVIEW),
    picture(3, "run-1", REVIEW),
]
SECOND = [picture(0, "run-2", attempt=1), picture(2, "run-2", attempt=1), picture(3, "run-2", REVIEW)]


def reviewer(name: str, seed: int, done: list[Decision]) -> Callable[[ObjectStore], None]:
    """Decides in three steps, sometimes about several pictures, and sometimes takes a decision back."""

    def act(store: ObjectStore) -> None:
        choice = random.Random(f"{name} {seed}")
        for _ in range(3):
            mine = [each for each in done if each.decided_by == name and each.decision != "undo"]
            if mine and choice.random() < 0.3:
                back = choice.choice(mine)
                wanted = [
                    Wanted(decision="undo", image_id=back.image_id, decided_by=name, undoes=back.decision_id)
                ]
            else:
                rows = choice.sample(FIRST, choice.choice([1, 2]))
                kind = choice.choice(["approve", "reject", "redraw"])
                wanted = [Wanted(decision=kind, image_id=row["image_id"], decided_by=name) for row in rows]
            pictures = find_pictures(store, [each.image_id for each in wanted])
            done.extend(record(store, wanted, pictures))

    return act


def read_twice(store: ObjectStore) -> None:
    """A reader, such as an export, always gets a whole table."""
    for _ in range(2):
        with suppress(ObjectNotFound):
            read_current(store.get(CURRENT_KEY))


def by_hand(done: list[Decision], night: int) -> dict[Any, tuple[str, str]]:
    """The live pictures by the words of the design, decision after decision."""
    undone = {each.undoes for each in done}
    holds = sorted(
        (each for each in done if each.decision in ("approve", "reject") and each.decision_id not in undone),
        key=lambda each: each.commit,
    )
    last = {each.image_id: each for each in holds}
    events: dict[Any, list[tuple[int, str, str]]] = {}
    for row in (*FIRST, *SECOND):
        if row["decision"] == APPROVED:
            number = 1 if row["run_id"] == "run-1" else night
            events.setdefault((row["sku"], 0), []).append((number, row["image_id"], "machine"))
    for each in holds:
        if each.decision == "approve":
            events.setdefault((each.sku, 0), []).append((each.commit, each.image_id, each.decided_by))
    found = {}
    for key, of_slot in events.items():
        _, image_id, who = max(of_slot)
        if image_id not in last or last[image_id].decision == "approve":
            found[key] = (image_id, who)
    return found


def play(seed: int) -> None:
    store = MemoryStore()
    commit(store, "run-1", *FIRST)
    done: list[Decision] = []
    Turns(seed).run(
        {
            "ann": reviewer("Ann", seed, done),
            "bo": reviewer("Bo", seed, done),
            "night": lambda its: commit(its, "run-2", *SECOND),
            "reader": read_twice,
        },
        store,
    )
    night = read_manifest(store, "run-2")
    assert night is not None
    objects = [Decision.from_json(store.get(info.key), info.key) for info in store.list(DECISIONS_PREFIX)]
    assert sorted(objects, key=lambda each: each.commit) == sorted(done, key=lambda each: each.commit)
    assert stored_decisions(store)["decision_id"].to_pylist() == [
        each.decision_id for each in sorted(done, key=lambda each: each.commit)
    ]
    assert live(store) == by_hand(done, night.commit)
    assert verify(store).problems == ()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
@pytest.mark.slow
def test_no_interleaving_loses_a_decision(seed: int) -> None:
    play(seed)
