"""verify finds each kind of damage and nothing else; prune removes what nobody needs and nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from catalog_schemas.images import CURRENT, IMAGES, read_current, write_current
from catalog_schemas.validation import read_parquet_bytes
from tests.servers import S3Server, fresh_bucket
from tests.toygan.publishing.stores import (
    NOT_LOOKED_FOR,
    SHA256,
    check_problems,
    content,
    put_live,
    put_manifest,
    put_part,
    put_run,
    row,
)
from tests.toygan.publishing.stores import store as store
from toygan.publishing.verify import prune, verify
from toygan.storage import keys
from toygan.storage.memory import MemoryStore
from toygan.storage.open_store import open_store
from toygan.storage.store import ObjectStore

APPROVED = row("night-1", 0, 0, 0, "approved")[0]


LATER = row("night-1", 1, 1, 1, "approved")[0]


TO_REVIEW = row("night-1", 0, 2, 0, "review")[0]


PART = "metadata/run=night-1/part-00000.parquet"


@pytest.mark.parametrize("kind", ["folder", "rclone"])
def test_a_whole_store_is_whole(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    server: S3Server | None = None if kind == "folder" else request.getfixturevalue("rclone")
    store = open_store(fresh_bucket(server, monkeypatch) if server else tmp_path)
    put_run(store, "night-1", 2)
    put_run(store, "night-2", 3)
    for key in ("photos/cars/sku/a.jpg", "models/aliases.json"):
        store.put(key, b"not looked at")
    before, ticks = content(store), []
    verdict = verify(store, advance=ticks.append)
    assert verdict.problems == verdict.left_over == verdict.open_runs == ()
    assert (verdict.finished_runs, verdict.pictures) == (2, 15)
    assert ticks == [1] * 15
    assert prune(store) == []
    assert content(store) == before


@pytest.mark.parametrize(
    ("damage", "wanted"),
    [
        (lambda s: s.delete(APPROVED["image_uri"]), [APPROVED["image_uri"] + ": missing.*" + PART]),
        (lambda s: s.delete(TO_REVIEW["image_uri"]), [TO_REVIEW["image_uri"] + ": missing"]),
        (
            lambda s: s.put(APPROVED["image_uri"], b"x"),
            [APPROVED["image_uri"] + ": has the sha256 2d711642b726"],
        ),
        (
            lambda s: s.put(TO_REVIEW["image_uri"], b""),
            [TO_REVIEW["image_uri"] + ": has the sha256 e3b0c44298fc"],
        ),
        (lambda s: s.put("images/cars/sku/x.webp", b"1"), ["images/cars/sku/x.webp: left over.*--prune"]),
        (lambda s: s.put("images/stray.txt", b"1"), ["images/stray.txt: left over"]),
        (lambda s: s.put("review/run=x/y.webp", b"1"), ["review/run=x/y.webp: left over"]),
        (
            lambda s: s.put("metadata/run=night-1/part-00002.parquet", s.get(PART)),
            ["part-00002.parquet: left over"],
        ),
    ],
)
def test_damage_to_objects_is_found(
    damage: Callable[[MemoryStore], None], wanted: list[str], store: MemoryStore
) -> None:
    damage(store)
    check_problems(store, wanted)


@pytest.mark.parametrize(
    ("damage", "wanted"),
    [
        (lambda s: s.delete(PART), [PART + ": missing.*restore it.*or give the run up: remove runs/night-1"]),
        (lambda s: s.put(PART, s.get(PART)[:-9]), [PART + ".*damaged.*restore it"]),
        (lambda s: s.put("runs/night-1.json", b"{}"), [r"runs/night-1\.json.*restore it"]),
        (
            lambda s: s.put("runs/night-2.json", s.get("runs/night-1.json")),
            ["night-2.json.*another run, night-1"],
        ),
        (lambda s: s.delete("runs/night-1.json"), 4 * ["current.*night-1.*finished runs approved"]),
    ],
)
def test_what_cannot_be_read_hides_what_is_left_over(
    damage: Callable[[MemoryStore], None], wanted: list[str], store: MemoryStore
) -> None:
    """Pictures of a part that is lost look like left-over ones; they must not be removed with these."""
    store.put("images/cars/sku/x.webp", b"1")
    damage(store)
    check_problems(store, [*wanted, NOT_LOOKED_FOR])
    before = content(store)
    assert prune(store) == []
    assert content(store) == before


def test_a_damaged_live_table_is_reported_and_removes_nothing(store: MemoryStore) -> None:
    store.put(keys.CURRENT_KEY, b"PAR1 but no more")
    check_problems(store, [r"current\.parquet.*damaged"])
    assert prune(store) == []


def change_part(store: ObjectStore, change: Callable[[list[dict[str, Any]]], object]) -> None:
    rows = read_parquet_bytes(store.get(PART), IMAGES, PART).to_pylist()
    change(rows)
    put_part(store, "night-1", 0, rows)


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda rows: rows.append(dict(rows[1])), ["image .* is there twice in this run"]),
        (
            lambda rows: rows[3].update(run_id="night-2"),
            ["of the run night-2", "its place is review/run=night-2"],
        ),
        (lambda rows: rows[3].update(image_uri=None), ["names None, its place is review/", "left over"]),
        (
            lambda rows: rows[1].update(image_uri="images/a"),
            ["names images/a, its place is None", "images/a: missing"],
        ),
        (
            lambda rows: rows[3].update(image_uri="../../etc/passwd"),
            ["its place is review/", "empty", "left over"],
        ),
        (lambda rows: rows[3].update(sha256=None), ["states None"]),
        (lambda rows: rows[3].update(format="gif"), ["its place is nowhere.*gif"]),
    ],
)
def test_rows_that_break_the_layout_are_found(
    change: Callable[[list[dict[str, Any]]], object], wanted: list[str], store: MemoryStore
) -> None:
    change_part(store, change)
    check_problems(store, wanted)


@pytest.mark.parametrize("shard", [0, 1])
def test_an_image_that_two_shards_of_a_run_name_is_there_twice(shard: int, store: MemoryStore) -> None:
    other = keys.part_key("night-1", 1 - shard)
    both = [
        *read_parquet_bytes(store.get(keys.part_key("night-1", shard)), IMAGES, "").to_pylist(),
        read_parquet_bytes(store.get(other), IMAGES, "").to_pylist()[0],
    ]
    put_part(store, "night-1", shard, both)
    check_problems(store, [f"{row('night-1', 1 - shard, 0, 0, 'approved')[0]['image_id']} is there twice"])


@pytest.mark.parametrize(
    "change",
    [
        {
            "image_id": TO_REVIEW["image_id"],
            "image_uri": TO_REVIEW["image_uri"],
            "sha256": TO_REVIEW["sha256"],
        },
        {"image_id": "f" * 20},
        {"sha256": SHA256},
        {"image_uri": LATER["image_uri"]},
        {"run_id": "night-0"},
        {"sku": "another"},
        {"row_fingerprint": "cd" * 32},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_live_table_names_approved_pictures_only(change: dict[str, str], store: MemoryStore) -> None:
    rows = read_current(store.get(keys.CURRENT_KEY)).to_pylist()
    rows[0].update(change)
    store.put(keys.CURRENT_KEY, write_current(pa.Table.from_pylist(rows, CURRENT)))
    check_problems(store, [r"current\.parquet.*finished runs approved", NOT_LOOKED_FOR])


def test_the_live_table_names_each_picture_once(store: MemoryStore) -> None:
    rows = read_current(store.get(keys.CURRENT_KEY)).to_pylist()
    rows.append({**rows[0], "image_index": 5})
    store.put(keys.CURRENT_KEY, write_current(pa.Table.from_pylist(rows, CURRENT)))
    assert any("is there twice" in problem for problem in verify(store).problems)


def test_two_runs_may_make_the_same_picture(store: MemoryStore) -> None:
    """As when a run is killed, its work is done under another id, and then it is taken up again after all."""
    rows = read_parquet_bytes(store.get(PART), IMAGES, PART).to_pylist()
    put_part(
        store, "night-2", 0, [{**each, "run_id": "night-2"} for each in rows if each["decision"] != "review"]
    )
    put_live(store, put_manifest(store, "night-2", 1))
    check_problems(store, [])


def test_two_runs_that_disagree_about_a_picture_are_reported(store: MemoryStore) -> None:
    rows = read_parquet_bytes(store.get(PART), IMAGES, PART).to_pylist()
    put_part(store, "night-2", 0, [{**rows[0], "run_id": "night-2", "sha256": SHA256}])
    put_manifest(store, "night-2", 1)
    check_problems(store, [f"{APPROVED['image_uri']}: has the sha256 .* in {PART} and {SHA256} in .*night-2"])
