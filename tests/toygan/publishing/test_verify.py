"""verify finds each kind of damage and nothing else; prune removes what nobody needs and nothing else."""

import hashlib
import itertools
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from catalog_schemas.images import ATTEMPTS, CURRENT, IMAGES, read_current, write_current, write_images
from catalog_schemas.runs import PLAN, Manifest
from catalog_schemas.validation import parquet_bytes, read_parquet_bytes
from tests.servers import S3Server, fresh_bucket
from toygan.errors import Retryable, StoreConfigError
from toygan.planning.finished import Parts
from toygan.planning.pruning import put_mark, read_condemned, read_pruning, write_pruning
from toygan.publishing.commit import make_live, publish_manifest
from toygan.publishing.commit_log import Commits, read_commits, reserve
from toygan.publishing.verify import Verdict, prune, verify
from toygan.storage import keys
from toygan.storage.memory import MemoryStore
from toygan.storage.open_store import open_store
from toygan.storage.store import ObjectInfo, ObjectStore

SHA256 = "ab" * 32


def image_id(run_id: str, shard: int, number: int, attempt: int) -> str:
    return hashlib.sha256(f"{run_id} {shard} {number} {attempt}".encode()).hexdigest()[:20]


def row(run_id: str, shard: int, number: int, attempt: int, decision: str) -> tuple[dict[str, Any], bytes]:
    """One metadata row and its picture. Products are named by their shard and number in it."""
    sku, name = f"sku-{shard}-{number}", image_id(run_id, shard, number, attempt)
    picture = f"picture {name}".encode()
    uri = {
        "approved": keys.image_key("cars", sku, name, "webp"),
        "review": keys.review_key(run_id, name, "webp"),
        "rejected": None,
    }[decision]
    kept = uri is not None
    return {
        "image_id": name,
        "sku": sku,
        "image_index": 0,
        "category": "cars",
        "run_id": run_id,
        "decision": decision,
        "reasons": [] if decision == "approved" else ["score_below_threshold"],
        "image_uri": uri,
        "sha256": hashlib.sha256(picture).hexdigest() if kept else None,
        "width": 64 if kept else None,
        "height": 64 if kept else None,
        "format": "webp" if kept else None,
        "bytes": len(picture) if kept else None,
        "model_name": "toys",
        "model_version": "0123456789ab",
        "model_family": "dcgan",
        "seed": 1,
        "attempt": attempt,
        "batch_size": 64,
        "engine": "torch 2",
        "p_real": 0.5,
        "phash": name[:16],
        "conditions": "{}",
        "condition_sha256": [],
        "row_fingerprint": SHA256,
        "generated_at": datetime(2026, 1, 1, tzinfo=UTC),
        "pipeline_version": "0",
        "digital_source_type": "x",
    }, picture


def put_part(store: ObjectStore, run_id: str, shard: int, rows: list[dict[str, Any]]) -> None:
    store.put(keys.part_key(run_id, shard), write_images(pa.Table.from_pylist(rows, IMAGES)))


def put_shard(store: ObjectStore, run_id: str, shard: int) -> list[dict[str, Any]]:
    """Four products: two approved, one of them at its second attempt, one to review, one rejected."""
    decided = [
        (0, 0, "approved"),
        (1, 0, "rejected"),
        (1, 1, "approved"),
        (2, 0, "review"),
        (3, 0, "rejected"),
    ]
    rows = []
    for number, attempt, decision in decided:
        each, picture = row(run_id, shard, number, attempt, decision)
        rows.append(each)
        if each["image_uri"]:
            store.put(each["image_uri"], picture)
    put_part(store, run_id, shard, rows)
    return rows


def put_plan(store: ObjectStore, run_id: str, shards: int) -> None:
    for shard in range(shards):
        slots = [
            {
                "row": number,
                "sku": f"sku-{shard}-{number}",
                "image_index": 0,
                "images_wanted": 1,
                "images_kept": 0,
                "first_attempt": 0,
                "attempts": 4,
                "category": "cars",
                "title": "Car",
                "condition_sha256": [],
                "row_fingerprint": SHA256,
                "sibling_phashes": [],
            }
            for number in range(4)
        ]
        store.put(keys.plan_key(run_id, shard), parquet_bytes(pa.Table.from_pylist(slots, PLAN)))
    store.put(keys.plan_manifest_key(run_id), b"{}")


def put_manifest(store: ObjectStore, run_id: str, shards: int) -> Manifest:
    commits = read_commits(store) or Commits()
    manifest = Manifest(
        **dict.fromkeys(("pipeline_version", "prefect_version", "catalog_uri", "catalog_sha256"), "x"),
        **dict.fromkeys(("started_at", "finished_at", "model_name", "model_version", "plan_sha256"), "x"),
        run_id=run_id,
        settings={},
        shards=shards,
        counts={},
        categories={},
        models={},
        commit=commits.open.get(run_id, commits.last + 1),
        incomplete={},
    )
    publish_manifest(store, manifest)
    return manifest


def put_live(store: ObjectStore, manifest: Manifest) -> None:
    make_live(store, manifest, Parts(store, manifest.run_id, manifest.shards))


def put_run(store: ObjectStore, run_id: str = "night-1", shards: int = 2) -> None:
    for shard in range(shards):
        put_shard(store, run_id, shard)
    store.put(keys.report_key(run_id), b"<html>")
    put_live(store, put_manifest(store, run_id, shards))


def content(store: ObjectStore) -> dict[str, bytes]:
    found = [*store.list(), *store.list(".tmp/")]
    return {info.key: store.get(info.key) for info in found}


@pytest.fixture
def store() -> MemoryStore:
    """A store with one finished run of two shards."""
    store = MemoryStore()
    put_run(store)
    return store


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
    ("damage", "told"),
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
    damage: Callable[[MemoryStore], None], told: list[str], store: MemoryStore
) -> None:
    damage(store)
    check_problems(store, told)


def check_problems(store: ObjectStore, told: list[str]) -> None:
    """The problems are exactly those told, each in a line of its own."""
    problems = verify(store).problems
    assert len(problems) == len(told), problems
    for problem, pattern in zip(problems, told, strict=True):
        assert re.search(pattern, problem), problem
        assert "\n" not in problem


NOT_LOOKED_FOR = "left-over objects were not looked for"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda s: s.delete(PART), [PART + ": missing", "current.*" + APPROVED["image_id"], "sku-0-1"]),
        (lambda s: s.put(PART, s.get(PART)[:-9]), [PART + ".*damaged", "sku-0-0", "sku-0-1"]),
        (lambda s: s.put("runs/night-1.json", b"{}"), [r"runs/night-1\.json"] + 4 * ["current"]),
        (
            lambda s: s.put("runs/night-2.json", s.get("runs/night-1.json")),
            ["night-2.json.*another run, night-1"],
        ),
        (lambda s: s.delete("runs/night-1.json"), 4 * ["current.*night-1.*finished runs approved"]),
    ],
)
def test_what_cannot_be_read_hides_what_is_left_over(
    damage: Callable[[MemoryStore], None], told: list[str], store: MemoryStore
) -> None:
    """Pictures of a part that is lost look like left-over ones; they must not be removed with these."""
    store.put("images/cars/sku/x.webp", b"1")
    damage(store)
    check_problems(store, [*told, NOT_LOOKED_FOR])
    before = content(store)
    assert prune(store) == []
    assert content(store) == before


def test_a_damaged_live_table_is_told_and_removes_nothing(store: MemoryStore) -> None:
    store.put(keys.CURRENT_KEY, b"PAR1 but no more")
    check_problems(store, [r"current\.parquet.*damaged"])
    assert prune(store) == []


def change_part(store: ObjectStore, change: Callable[[list[dict[str, Any]]], object]) -> None:
    rows = read_parquet_bytes(store.get(PART), IMAGES, PART).to_pylist()
    change(rows)
    put_part(store, "night-1", 0, rows)


@pytest.mark.parametrize(
    ("change", "told"),
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
        (lambda rows: rows[3].update(sha256=None), ["but None in"]),
        (lambda rows: rows[3].update(format="gif"), ["its place is nowhere.*gif"]),
    ],
)
def test_rows_that_break_the_layout_are_found(
    change: Callable[[list[dict[str, Any]]], object], told: list[str], store: MemoryStore
) -> None:
    change_part(store, change)
    check_problems(store, told)


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


def test_two_runs_that_disagree_about_a_picture_are_told(store: MemoryStore) -> None:
    rows = read_parquet_bytes(store.get(PART), IMAGES, PART).to_pylist()
    put_part(store, "night-2", 0, [{**rows[0], "run_id": "night-2", "sha256": SHA256}])
    put_manifest(store, "night-2", 1)
    check_problems(store, [f"{APPROVED['image_uri']}: has the sha256 .* in {PART} and {SHA256} in .*night-2"])


def killed_run(store: ObjectStore) -> None:
    """A run of two shards, killed in the second."""
    put_plan(store, "night-2", 2)
    put_shard(store, "night-2", 0)
    put_shard(store, "night-2", 1)
    store.delete(keys.part_key("night-2", 1))


def test_an_unfinished_run_is_no_problem_and_prune_spares_it(store: MemoryStore) -> None:
    killed_run(store)
    store.put("images/cars/sku-elsewhere/x.webp", b"1")
    before = content(store)
    verdict = verify(store)
    assert verdict.open_runs == ("night-2",)
    assert verdict.left_over == ("images/cars/sku-elsewhere/x.webp",)
    assert prune(store) == ["images/cars/sku-elsewhere/x.webp"]
    del before["images/cars/sku-elsewhere/x.webp"]
    assert content(store) == before
    put_run(store, "night-2", 2)
    check_problems(store, [])


def test_a_finished_shard_of_an_unfinished_run_has_its_pictures(store: MemoryStore) -> None:
    killed_run(store)
    gone = row("night-2", 0, 0, 0, "approved")[0]["image_uri"]
    store.delete(gone)
    check_problems(store, [f"{gone}: missing, although metadata/run=night-2/part-00000"])


def test_a_plan_that_cannot_be_read_hides_what_is_left_over(store: MemoryStore) -> None:
    killed_run(store)
    store.put(keys.plan_key("night-2", 1), b"broken")
    check_problems(store, ["plan/00001.parquet.*damaged", NOT_LOOKED_FOR])
    assert prune(store) == []


def test_a_run_that_was_given_up_is_left_over(store: MemoryStore) -> None:
    whole = content(store)
    killed_run(store)
    for info in list(store.list(".tmp/")):
        store.delete(info.key)
    made = sorted(content(store).keys() - whole.keys())
    verdict = verify(store)
    assert list(verdict.left_over) == made
    assert len(verdict.problems) == len(made) == 7
    removed = prune(store)
    assert sorted(removed) == made
    assert removed[0] == "metadata/run=night-2/part-00000.parquet"
    assert content(store) == whole
    check_problems(store, [])


def test_unfinished_files_of_a_finished_run_are_swept_silently(store: MemoryStore) -> None:
    whole = content(store)
    put_plan(store, "night-1", 2)
    store.put(".tmp/night-3/plan/00000.parquet", b"a plan that is still being written")
    check_problems(store, [])
    assert prune(store) == [
        ".tmp/night-1/plan.json",
        ".tmp/night-1/plan/00000.parquet",
        ".tmp/night-1/plan/00001.parquet",
    ]
    assert content(store).keys() == {*whole, ".tmp/night-3/plan/00000.parquet"}


def test_older_pictures_of_finished_runs_stay(store: MemoryStore) -> None:
    """A later run replaces rows of the live table; the pictures that were live before keep their run."""
    put_run(store, "night-2", 2)
    assert not set(read_current(store.get(keys.CURRENT_KEY))["run_id"].to_pylist()) & {"night-1"}
    check_problems(store, [])
    assert prune(store) == []


def test_nothing_at_all_is_a_mistyped_address(tmp_path: Path) -> None:
    for store in (MemoryStore(), open_store(tmp_path / "nowhere")):
        for call in (verify, prune):
            with pytest.raises(StoreConfigError, match="nothing here"):
                call(store)
    assert not (tmp_path / "nowhere").exists()


def test_a_store_without_runs_is_whole() -> None:
    store = MemoryStore()
    store.put("models/aliases.json", b"{}")
    verdict = verify(store)
    assert (verdict.problems, verdict.finished_runs, verdict.pictures) == ((), 0, 0)


class BusyStore(MemoryStore):
    """A store in which other people's work goes on after the n-th read of whoever looks at it."""

    def __init__(self, work: Callable[[MemoryStore], None], after_reads: int) -> None:
        super().__init__()
        self._work, self._left, self._counting = work, after_reads, threading.RLock()
        self.armed = False

    def _count(self) -> None:
        with self._counting:
            if not self.armed:
                return
            self._left -= 1
            if self._left == 0:
                self.armed = False
                self._work(self)

    def get(self, key: str) -> bytes:
        data = super().get(key)
        self._count()
        return data

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        found = list(super().list(prefix))
        self._count()
        return iter(found)


def steps_of_a_run(run_id: str) -> list[Callable[[ObjectStore], object]]:
    """A run of two shards, as far as the store sees it."""

    def pictures(shard: int, store: ObjectStore) -> None:
        put_shard(store, run_id, shard)
        store.delete(keys.part_key(run_id, shard))

    def commit(store: ObjectStore) -> None:
        put_live(store, Manifest.from_json(store.get(keys.manifest_key(run_id))))

    def sweep(store: ObjectStore) -> None:
        for info in list(store.list(keys.tmp_prefix(run_id))):
            store.delete(info.key)

    return [
        lambda store: store.put(keys.planning_key(run_id), b""),
        lambda store: put_plan(store, run_id, 2),
        lambda store: pictures(0, store),
        lambda store: put_shard(store, run_id, 0),
        lambda store: pictures(1, store),
        lambda store: put_shard(store, run_id, 1),
        lambda store: reserve(store, run_id),
        lambda store: put_manifest(store, run_id, 2),
        commit,
        sweep,
    ]


@pytest.mark.parametrize("look", [verify, prune])
@pytest.mark.parametrize(
    "first_steps", [2, 7, *(pytest.param(each, marks=pytest.mark.slow) for each in (0, 1, 3, 4, 5, 6, 8, 9))]
)
def test_a_run_that_is_finished_meanwhile_is_neither_hurt_nor_blamed(
    look: Callable[[ObjectStore], object], first_steps: int
) -> None:
    steps = steps_of_a_run("night-2")

    def finish(store: ObjectStore) -> None:
        for step in steps[first_steps:]:
            step(store)

    for after_reads in itertools.count(1):
        store = BusyStore(finish, after_reads)
        put_run(store, "night-1", 1)
        for step in steps[:first_steps]:
            step(store)
        store.armed = True
        found = look(store)
        if store.armed:  # it needed fewer reads than that: every moment has had its turn
            break
        if isinstance(found, Verdict):
            assert found.problems == ()
        check_problems(store, [])
        assert len(list(store.list(keys.IMAGES_PREFIX))) == 6


# summaries


def change_table(
    store: ObjectStore, key: str, schema: pa.Schema, change: Callable[[list[dict[str, Any]]], object]
) -> None:
    rows = read_parquet_bytes(store.get(key), schema, key).to_pylist()
    change(rows)
    store.put(key, parquet_bytes(pa.Table.from_pylist(rows, schema)))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda rows: rows.pop(), "some results of finished runs are missing"),
        (lambda rows: rows[0].update(attempts=0), "some results of finished runs are missing"),
        (lambda rows: rows[0].update(attempts=9), "holds results that no finished run has"),
        (lambda rows: rows.append({**rows[0], "sku": "x"}), "holds results that no finished run has"),
    ],
)
def test_attempts_that_do_not_agree_with_the_metadata_are_told(
    change: Callable[[list[dict[str, Any]]], object], told: str, store: MemoryStore
) -> None:
    change_table(store, keys.ATTEMPTS_KEY, ATTEMPTS, change)
    check_problems(store, [f"attempts.parquet: {told}.*remove it, the next run makes it anew"])


def test_a_picture_that_is_older_than_the_last_commit_is_told(store: MemoryStore) -> None:
    """As clocks once had it: the run is finished, and what it approved is not live."""
    before = store.get(keys.CURRENT_KEY)
    put_run(store, "night-2")
    store.put(keys.CURRENT_KEY, before)
    check_problems(store, ["current.parquet: some results of finished runs or decisions are missing"])


def test_commits_that_are_lost_are_told(store: MemoryStore) -> None:
    store.delete(keys.COMMITS_KEY)
    check_problems(store, ["commits.json: missing; the next run makes it anew"])


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
    """The run goes on at so many moments of the prune, and to its end behind it, in every way."""
    for places in itertools.combinations(range(moments), changes):
        for cuts in itertools.combinations(range(1, STEPS + 1), changes):
            turns = [0] * moments
            for place, size in zip(places, np.diff((0, *cuts)).tolist(), strict=True):
                turns[place] = size
            yield turns


def test_prune_removes_nothing_of_a_run_that_begins_at_any_moment_of_it() -> None:
    _, moments = interleave([])
    assert {interleave(turns)[0] for turns in orders(moments, changes=1)} == {True, False}


@pytest.mark.slow
def test_prune_removes_nothing_of_a_run_in_any_order_of_their_steps() -> None:
    _, moments = interleave([])
    for turns in orders(moments, changes=2):
        interleave(turns)


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
