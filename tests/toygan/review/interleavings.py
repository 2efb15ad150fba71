"""Two reviewers, a night and an export at work at once, in an order that a seed determines."""

import random
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from catalog_schemas.decisions import Decision
from catalog_schemas.images import APPROVED, REVIEW
from tests.toygan.review.shop import commit, live, picture
from tests.toygan.review.turns import Turns
from toygan.channels import export as exporting
from toygan.channels.export import ExportRequest, export
from toygan.channels.state import read_state
from toygan.errors import ObjectNotFound
from toygan.images import encode
from toygan.planning.decisions import stored_decisions
from toygan.planning.finished import read_manifest
from toygan.publishing.verify import verify
from toygan.review.record import Wanted, find_pictures, record
from toygan.storage.keys import DECISIONS_PREFIX
from toygan.storage.local import LocalStore
from toygan.storage.store import ObjectStore

SIDE = 64  # pixels of a picture
# A channel that costs little.
CHANNEL = """
name = "small"
title = "small"
version = 2026-11-29
role = "main"
role_reason = "for tests"
most_bytes = 100_000
most_pictures = 8
alt_letters = 125
feeds = ["pictures-csv"]
rules = [{ of = ["role"], says = "nothing", kind = "chosen", source = "toygan", checked = 2026-11-29 }]

[[frames]]
name = "white"
aspect = [1, 1]
size = { least = 16, advised = 64 }
share = { least = 0.1, wanted = 0.5, most = 1.0 }
ground = "white"
shadow = true
formats = ["jpg"]
quality = 80
"""


def block(number: int) -> bytes:
    """A picture that differs for each number."""
    pixels = np.full((SIDE, SIDE, 3), 255, np.uint8)
    pixels[16 : 30 + 3 * number, 16:48] = (180, 20 * number, 40)
    return encode(pixels, "webp")


FIRST = [
    picture(0, "run-1"),
    picture(1, "run-1"),
    picture(2, "run-1", REVIEW),
    picture(3, "run-1", REVIEW),
]
SECOND = [picture(0, "run-2", attempt=1), picture(2, "run-2", attempt=1), picture(3, "run-2", REVIEW)]
FILES = {row["image_id"]: block(number) for number, row in enumerate((*FIRST, *SECOND))}
for row in (*FIRST, *SECOND):
    file = FILES[row["image_id"]]
    row |= {"sha256": sha256(file).hexdigest(), "bytes": len(file), "width": SIDE, "height": SIDE}


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


class Exporting:
    """Exports to a folder, from a store that it shares with others."""

    def __init__(self, folder: Path) -> None:
        self._channel, self._place = folder / "small.toml", folder / "exports"
        self._channel.write_text(CHANNEL)

    def act(self, store: ObjectStore) -> None:
        """Runs one export. The store it gets may show a picture as live that is rejected a moment later."""
        request = ExportRequest(channel=str(self._channel), output="memory://shop", to=str(self._place))

        def open_store(uri: str) -> ObjectStore:
            return LocalStore(Path(uri)) if uri == str(self._place) else store

        with patch.object(exporting, "open_store", open_store), suppress(ObjectNotFound):
            export(request)

    def exported(self) -> set[str]:
        """The ids of the pictures that lie there; nothing else does."""
        rows = read_state(LocalStore(self._place), "small").rows
        named = {file.key for row in rows.values() for file in row.files}
        there = {path.relative_to(self._place).as_posix() for path in self._place.rglob("*.jpg")}
        assert there == named
        return {image_id for image_id, row in rows.items() if row.files}


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


def play(seed: int, store: ObjectStore, folder: Path) -> None:
    """Lets all work in an order that the seed determines, then compares the store with the design."""
    commit(store, "run-1", *FIRST, files=FILES)
    done: list[Decision] = []
    exporting_to = Exporting(folder)
    Turns(seed).run(
        {
            "ann": reviewer("Ann", seed, done),
            "bo": reviewer("Bo", seed, done),
            "night": lambda its: commit(its, "run-2", *SECOND, files=FILES),
            "export": exporting_to.act,
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
    wanted = by_hand(done, night.commit)
    assert live(store) == wanted
    assert verify(store).problems == ()
    exporting_to.act(store)
    assert exporting_to.exported() == {image_id for image_id, _ in wanted.values()}
