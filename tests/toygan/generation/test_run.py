"""A run from its request to its commit, without Prefect: conflicts, deaths, and what a second start finds."""

import json
import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from catalog_schemas.images import read_current
from tests.catalog_schemas.tables import product, write_catalog
from tests.models import BATCH, CATEGORIES, TinyFiles, nan_model, tiny_model
from tests.toygan.generation.mortal_store import Died, MortalStore
from tests.toygan.generation.whole_runs import MODEL, generate, request, rows_of, write_inputs
from toygan.errors import BadInput, CatalogError, ModelError, RunConflict, RunFailed, StoreConfigError
from toygan.generation import request as request_module
from toygan.generation import run as run_module
from toygan.generation import worker_spec
from toygan.generation.request import check_request, new_run_id, resolve_run
from toygan.generation.run import run_shard, start_run
from toygan.generation.worker_spec import engine_for
from toygan.planning.finished import read_manifest, read_part
from toygan.publishing import finish
from toygan.publishing.commit import complete_open_runs
from toygan.publishing.finish import finish_run, rewrite_report
from toygan.publishing.verify import verify
from toygan.registry import promotion
from toygan.registry.models import add_model
from toygan.storage.keys import CURRENT_KEY, plan_manifest_key, report_key
from toygan.storage.memory import MemoryStore
from toygan.storage.store import ObjectStore

pytestmark = pytest.mark.usefixtures("a_shard_per_category")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and a catalog of four products in each of its categories."""
    return write_inputs(tmp_path_factory.mktemp("run"))


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """What every URI leads to, in the modules of a run."""
    store = MemoryStore("run")
    lead_to(store, monkeypatch)
    return store


def lead_to(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (run_module, request_module, finish, worker_spec):
        monkeypatch.setattr(module, "open_store", lambda uri: store)


def contents(store: ObjectStore, *prefixes: str) -> dict[str, bytes]:
    return {info.key: store.get(info.key) for prefix in prefixes for info in store.list(prefix)}


def everything(store: ObjectStore) -> dict[str, bytes]:
    return contents(store, "", ".tmp/")


def test_a_run_leaves_a_whole_store(folder: Path, store: MemoryStore) -> None:
    summary = generate(request(folder))
    counts = summary.manifest.counts
    assert (counts["products"], counts["rejected_rows"], counts["planned"]) == (12, 1, 12)
    assert counts["approved"] + counts["review"] == 12
    assert counts["approved"] > counts["review"] > 0
    verdict = verify(store)
    assert verdict.problems == ()
    assert verdict.pictures == 12
    live = read_current(store.get(CURRENT_KEY))
    assert live.num_rows == counts["approved"]
    assert contents(store, ".tmp/") == {}
    assert summary.manifest == read_manifest(store, "run-1")
    assert summary.manifest.model_version == MODEL.version
    assert summary.manifest.categories == {
        name: summary.manifest.categories[name] for name in sorted(CATEGORIES)
    }
    for name in ("products", "planned", "approved", "review", "rejected"):
        assert sum(each[name] for each in summary.manifest.categories.values()) == counts[name]


def test_the_summary_says_what_happened(folder: Path, store: MemoryStore) -> None:
    summary = generate(request(folder))
    approved, review = (summary.manifest.counts[name] for name in ("approved", "review"))
    assert summary.report_uri == "memory://run/reports/run-1/index.html"
    text = summary.text()
    assert "run run-1: 12 products, 1 rows set aside, 0 pictures live already" in text
    assert f"planned 12, approved {approved} ({approved / 12:.0%}), for review {review}" in text
    markdown = summary.markdown()
    rejected = summary.manifest.counts["rejected"]
    assert f"| **all** | 12 | {approved} | {review} | {rejected} |" in markdown
    assert f"tiny@{MODEL.version}" in markdown
    assert [line.split(" ")[1] for line in markdown.splitlines() if line.startswith("| ")][1:4] == sorted(
        CATEGORIES
    )


def test_a_finished_run_changes_nothing_when_it_is_started_again(folder: Path, store: MemoryStore) -> None:
    first = generate(request(folder))
    before = everything(store)
    again = start_run(resolve_run(request(folder)))
    assert again.pending == ()
    assert finish_run(again, "3.8.8").manifest == first.manifest
    assert everything(store) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image_format": "png"}, "format is 'png', was 'webp'"),
        ({"mode": "all"}, "mode is 'all', was 'missing'"),
        ({"limit": 3}, "limit is 3, was None"),
        ({"images_per_product": 2}, "images_per_product is 2, was 1"),
        ({"categories": ("car",)}, r"categories is \['car'\], was \[\]"),
        ({"batch_size": 2 * BATCH}, f"batch_size is {2 * BATCH}, was {BATCH}"),
        ({"model": "../other"}, "model_name is 'other', was 'tiny'"),
        ({"catalog": "other.parquet"}, "the catalog's sha256 is"),
    ],
)
@pytest.mark.parametrize("is_finished", [False, True], ids=["planned", "finished"])
def test_a_run_id_is_good_for_one_catalog_and_one_set_of_settings(
    folder: Path,
    store: MemoryStore,
    change: dict[str, Any],
    said: str,
    is_finished: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    tiny_model().write(tmp_path / "other")
    write_catalog(Path("other.parquet"), [product()])
    start_run(resolve_run(request(folder)))
    if is_finished:
        generate(request(folder))
        complete_open_runs(store)  # the first call puts an empty table of decisions
    before = everything(store)
    for check in (check_request, generate):
        with pytest.raises(RunConflict, match=said):
            check(request(folder, **change))
    assert everything(store) == before


# deaths


def without_clocks(store: ObjectStore, shards: int) -> dict[str, Sequence[Any]]:
    """The metadata, but for when each row was made."""
    return {
        f"part {shard}": read_part(store, "run-1", shard).drop_columns("generated_at").to_pylist()
        for shard in range(shards)
    }


@pytest.mark.slow
def test_a_run_that_died_at_any_change_ends_as_an_undisturbed_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = MemoryStore("run")
    counting = MortalStore(undisturbed, 10**6, is_last_made=True)
    lead_to(counting, monkeypatch)
    generate(request(folder))
    changes = 10**6 - counting.left
    wanted = contents(undisturbed, "images/", "review/", CURRENT_KEY)
    # plan: its mark, 3 shards, rejected rows, plan.json; 12 pictures, 3 parts; the commit's number, report,
    # manifest; attempts, live table, the end of the commit; 5 deletes
    assert changes == 6 + 12 + 3 + 3 + 3 + 5
    for number in range(1, changes + 1):
        store = MemoryStore("run")
        lead_to(MortalStore(store, number, is_last_made=number % 2 == 0), monkeypatch)
        with pytest.raises(Died):
            generate(request(folder))
        lead_to(store, monkeypatch)
        generate(request(folder))
        assert contents(store, "images/", "review/", CURRENT_KEY) == wanted
        assert without_clocks(store, 3) == without_clocks(undisturbed, 3)
        assert verify(store).problems == ()
        assert contents(store, ".tmp/") == {}


@pytest.mark.slow
def test_a_store_is_whole_at_every_moment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is interrupted, what is committed is whole, and what is unfinished is taken for that."""
    for number in range(6, 32):
        store = MemoryStore("run")
        lead_to(MortalStore(store, number, is_last_made=True), monkeypatch)
        with pytest.raises(Died):
            generate(request(folder))
        verdict = verify(store)
        assert verdict.problems == ()
        assert len(verdict.open_runs) + verdict.finished_runs == 1


def test_only_the_shards_that_are_not_done_are_computed_again(
    folder: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start_run(resolve_run(request(folder)))
    assert run.pending == (0, 1, 2)
    run_shard(run.worker_spec, "run-1", 1, "webp")
    again = start_run(resolve_run(request(folder)))
    assert again.pending == (0, 2)
    assert again.plan == run.plan


@pytest.mark.slow
def test_a_run_goes_on_with_its_model_whatever_is_promoted_meanwhile(
    folder: Path, store: MemoryStore, tmp_path: Path
) -> None:
    first = add_model(store, folder / "tiny", "toys")
    second = add_model(store, tiny_model(seed=1).write(tmp_path / "new"), "toys")
    promotion.promote(store, "toys", first)
    start_run(resolve_run(request(folder, model=None)))
    promotion.promote(store, "toys", second)
    assert generate(request(folder, model=None)).manifest.model_version == first
    assert generate(request(folder, model=None)).manifest.model_version == first
    assert generate(request(folder, model=None, run_id="run-2")).manifest.model_version == second


def test_a_folder_whose_model_changed_is_not_gone_on_with(
    folder: Path, store: MemoryStore, tmp_path: Path
) -> None:
    model = tiny_model().write(tmp_path / "tiny")
    run = start_run(resolve_run(request(folder, model=str(model))))
    for name, data in tiny_model(seed=1).files.items():
        (model / name).write_bytes(data)
    with pytest.raises(RunConflict, match="model_version"):
        start_run(resolve_run(request(folder, model=str(model))))
    stale = replace(run.worker_spec, device="cpu")  # another process
    with pytest.raises(ModelError, match=f"is now {tiny_model(seed=1).version}, the run began with"):
        run_shard(stale, "run-1", 0, "webp")


@pytest.mark.parametrize("reference", [".", "./", "../tiny", "../tiny/"])
def test_a_folder_may_be_named_from_where_the_user_stands(
    folder: Path, store: MemoryStore, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder / "tiny")
    run = start_run(resolve_run(request(folder, model=reference)))
    monkeypatch.chdir("/")
    run_shard(run.worker_spec, "run-1", 0, "webp")
    assert run.plan.settings.model_name == "tiny"


def test_the_model_is_loaded_once(folder: Path, store: MemoryStore) -> None:
    engines = set()
    for run_id in ("run-1", "run-2"):
        run = start_run(resolve_run(request(folder, run_id=run_id)))
        engines.add(id(engine_for(run.worker_spec)))
    assert len(engines) == 1


# bad input: nothing is written


TINY = tiny_model()
CUT = TINY.with_files(generator=TINY.files["generator.safetensors"][:-50])
OTHER_SHAPES = TINY.with_files(
    discriminator=tiny_model(categories=("brick",)).files["discriminator.safetensors"]
)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"catalog": "/none"}, CatalogError, "No such file"),
        ({"run_id": "../x"}, BadInput, r"the run id '\.\./x' is not"),
        ({"device": "tpu"}, BadInput, "unknown device 'tpu'"),
        ({"limit": 0}, BadInput, "the limit is 0"),
        ({"batch_size": 0}, BadInput, "the batch size is 0 pictures; it must be 1 to 4096"),
        ({"batch_size": 4097}, BadInput, "the batch size is 4097 pictures"),
        ({"images_per_product": 65}, BadInput, "images per product is 65"),
        ({"categories": ("boat",)}, BadInput, "makes no pictures of boat; known are brick, car, wheel"),
        ({"output": "ftp://x"}, StoreConfigError, "unknown kind of store 'ftp'"),
        ({"model": "nobody"}, ModelError, "there is no model 'nobody'"),
        ({"model": "/none/such"}, ModelError, "there is no such folder"),
        ({"model": CUT}, ModelError, "generator.safetensors is not a whole safetensors file"),
        ({"model": OTHER_SHAPES}, ModelError, "discriminator.safetensors .* the weights do not fit"),
        (
            {"model": TINY.with_files(calibration=None)},
            ModelError,
            "is not calibrated; run `toygan calibrate`",
        ),
        ({"model": TINY.with_files(calibration=b"{}")}, ModelError, "calibrate it again"),
    ],
)
def test_bad_input_is_told_before_anything_is_written(
    folder: Path, tmp_path: Path, change: dict[str, Any], error: type[BadInput], said: str
) -> None:
    if isinstance(model := change.get("model"), TinyFiles):
        change = {**change, "model": str(model.write(tmp_path / "tiny"))}
    wanted = request(folder, **{"output": str(tmp_path / "out"), **change})
    for check in (check_request, generate):
        with pytest.raises(error, match=said):
            check(wanted)
    assert not (tmp_path / "out").exists()


def test_a_store_in_whose_place_a_file_stands_is_told_at_the_first_write(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("precious")
    with pytest.raises(StoreConfigError, match="something else is in the object's place"):
        start_run(resolve_run(request(folder, output=str(tmp_path / "out"))))
    assert (tmp_path / "out").read_text() == "precious"


def test_a_good_request_passes_and_nothing_is_written(folder: Path, tmp_path: Path) -> None:
    check_request(request(folder, output=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


# runs that have nothing to show, or nothing to do


def test_a_generator_that_returns_nan_fails_the_run_and_replaces_nothing(
    folder: Path, store: MemoryStore, tmp_path: Path
) -> None:
    generate(request(folder))
    before = contents(store, "images/", "review/", CURRENT_KEY)
    broken = request(folder, run_id="run-2", mode="all", model=str(nan_model().write(tmp_path / "tiny")))
    for _ in range(2):
        with pytest.raises(RunFailed, match=r"48 pictures were generated and none is finite.*run-2"):
            generate(broken)
        assert contents(store, "images/", "review/", CURRENT_KEY) == before
        assert verify(store).problems == ()
    manifest = read_manifest(store, "run-2")
    assert manifest is not None
    assert [manifest.counts[name] for name in ("planned", "approved", "review", "rejected")] == [12, 0, 0, 48]
    assert {tuple(row["reasons"]) for row in rows_of(store, "run-2")} == {("not_finite",)}


def nothing_approved(folder: Path) -> Path:
    """A model that sends everything to review."""
    calibration = json.loads(TINY.files["calibration.json"])
    for category in calibration["categories"].values():
        category["threshold"] = 1.0
    return TINY.with_files(calibration=json.dumps(calibration).encode()).write(folder)


def test_a_night_of_which_none_is_approved_is_green_and_the_next_one_has_nothing_to_do(
    folder: Path, store: MemoryStore, tmp_path: Path
) -> None:
    wanted = request(folder, model=str(nothing_approved(tmp_path / "tiny")))
    first = generate(wanted)
    counts = first.manifest.counts
    assert (counts["planned"], counts["approved"], counts["review"]) == (12, 0, 12)
    assert "12 pictures were planned and none was approved" in first.text()
    assert "12 pictures were planned and none was approved" in store.get(report_key("run-1")).decode()
    review = contents(store, "review/")
    second = generate(replace(wanted, run_id="run-2"))
    counts = second.manifest.counts
    assert (counts["planned"], counts["exhausted"], counts["unchanged"]) == (0, 12, 0)
    assert "12 pictures were left alone" in second.markdown()
    assert contents(store, "review/") == review
    asked = generate(replace(wanted, run_id="run-3", mode="retry"))
    assert (asked.manifest.counts["planned"], asked.manifest.counts["exhausted"]) == (12, 0)
    assert {row["attempt"] for row in rows_of(store, "run-3")} == {4, 5, 6, 7}
    assert len(review) == 12 < len(contents(store, "review/")) < 24  # those that are better than the first
    assert generate(replace(wanted, run_id="run-4")).manifest.counts["exhausted"] == 12
    assert verify(store).problems == ()


def test_what_is_live_follows_the_order_of_commits_and_not_the_clock(
    folder: Path, store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class TwoHoursBack(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) - timedelta(hours=2)

    generate(request(folder))
    for module in (run_module, finish):
        monkeypatch.setattr(module, "datetime", TwoHoursBack)
    rows = [product(sku=f"brick-{number}", title="Another", colour_hex=None) for number in range(4)]
    changed = str(write_catalog(tmp_path / "changed.parquet", rows))
    second = generate(request(folder, run_id="run-2", catalog=changed))
    approved = second.manifest.counts["approved"]
    assert approved > 0
    live = Counter(read_current(store.get(CURRENT_KEY))["run_id"].to_pylist())
    assert live["run-2"] == approved
    third = generate(request(folder, run_id="run-3", catalog=changed))
    assert third.manifest.counts["planned"] == 0
    assert verify(store).problems == ()


def test_a_product_that_got_fewer_pictures_than_it_wants_is_named(
    folder: Path, store: MemoryStore, tmp_path: Path
) -> None:
    """Without latents the second is a copy of the first."""
    model = tiny_model(truncation=0.0, acceptance=1.0).write(tmp_path / "tiny")
    rows = [product(sku="a", images_wanted=3), product(sku="b")]
    catalog = str(write_catalog(tmp_path / "c.parquet", rows))
    summary = generate(request(folder, catalog=catalog, model=str(model)))
    assert {sku: tuple(has) for sku, has in summary.manifest.incomplete.items()} == {"a": (1, 3)}
    said = "1 products have fewer pictures than they want: a 1 of 3"
    assert said in summary.text()
    assert said in store.get(report_key("run-1")).decode()


def test_a_run_without_anything_to_do_is_no_failure(folder: Path, store: MemoryStore, tmp_path: Path) -> None:
    model = str(tiny_model(acceptance=1.0).write(tmp_path / "tiny"))
    generate(request(folder, model=model, limit=1, batch_size=32))
    live = read_current(store.get(CURRENT_KEY)).num_rows
    assert live == 1
    summary = generate(request(folder, model=model, run_id="run-2", limit=1))
    assert (summary.manifest.counts["planned"], summary.manifest.counts["unchanged"]) == (0, 1)
    assert summary.manifest.shards == 0
    assert "planned 0, approved 0, for review 0" in summary.text()
    assert verify(store).problems == ()


# the report again


def test_a_report_can_be_written_again(folder: Path, store: MemoryStore) -> None:
    generate(request(folder))
    first = store.get(report_key("run-1")).decode()
    store.delete(report_key("run-1"))
    assert rewrite_report(store, "run-1") == "memory://run/reports/run-1/index.html"
    again = store.get(report_key("run-1")).decode()
    assert "Brick 2 x 4, Red" in first
    assert "Brick 2 x 4, Red" not in again  # titles are swept with the plan
    assert again.count("data:image/webp;base64,") == first.count("data:image/webp;base64,") == 12


def test_only_a_finished_run_has_a_report(folder: Path, store: MemoryStore) -> None:
    start_run(resolve_run(request(folder)))
    for run_id in ("run-1", "run-2"):
        with pytest.raises(BadInput, match=f"memory://run has no finished run {run_id}"):
            rewrite_report(store, run_id)


def test_run_ids_sort_by_time_and_differ() -> None:
    made = [new_run_id() for _ in range(50)]
    assert len(set(made)) == 50
    assert [each[:16] for each in made] == sorted(each[:16] for each in made)
    assert plan_manifest_key(made[0]) == f".tmp/{made[0]}/plan.json"


def test_the_engine_of_a_store_is_found_by_a_process_that_knows_texts_only(
    folder: Path, store: MemoryStore
) -> None:
    version = add_model(store, folder / "tiny", "toys")
    run = start_run(resolve_run(request(folder, model="toys")))
    worker_spec = pickle.loads(pickle.dumps(run.worker_spec))
    assert worker_spec == run.worker_spec
    assert engine_for(worker_spec).model.version == version
    found = run_shard(worker_spec, "run-1", 0, "webp")
    assert found[sorted(CATEGORIES)[0]]["approved"] > 0
