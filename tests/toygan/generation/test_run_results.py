"""What runs refuse, and how they end."""

import json
import pickle
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from catalog_schemas.images import read_current
from tests.catalog_schemas.tables import product, write_catalog
from tests.models import CATEGORIES, TinyFiles, nan_model, tiny_model
from tests.toygan.generation.disturbed_runs import contents
from tests.toygan.generation.disturbed_runs import folder as folder
from tests.toygan.generation.disturbed_runs import store as store
from tests.toygan.generation.whole_runs import generate, request, rows_of
from toygan.errors import BadInput, CatalogError, ModelError, RunFailed, StoreConfigError
from toygan.generation import run as run_module
from toygan.generation.request import check_request, new_run_id, resolve_run
from toygan.generation.run import run_shard, start_run
from toygan.generation.worker_spec import engine_for
from toygan.planning.finished import read_manifest
from toygan.publishing import finish
from toygan.publishing.finish import rewrite_report
from toygan.publishing.verify import verify
from toygan.registry.models import add_model
from toygan.storage.keys import CURRENT_KEY, plan_manifest_key, report_key
from toygan.storage.memory import MemoryStore

pytestmark = pytest.mark.usefixtures("a_shard_per_category")


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
        ({"main": "nobody"}, ModelError, "there is no model 'nobody'"),
        ({"main": "/none/such"}, ModelError, "there is no such folder"),
        ({"main": CUT}, ModelError, "generator.safetensors is not a whole safetensors file"),
        ({"main": OTHER_SHAPES}, ModelError, "discriminator.safetensors .* the weights do not fit"),
        (
            {"main": TINY.with_files(calibration=None)},
            ModelError,
            "is not calibrated; run `toygan calibrate`",
        ),
        ({"main": TINY.with_files(calibration=b"{}")}, ModelError, "calibrate it again"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    folder: Path, tmp_path: Path, change: dict[str, Any], error: type[BadInput], said: str
) -> None:
    if isinstance(model := change.get("main"), TinyFiles):
        change = {**change, "main": str(model.write(tmp_path / "tiny"))}
    wanted = request(folder, **{"output": str(tmp_path / "out"), **change})
    for check in (check_request, generate):
        with pytest.raises(error, match=said):
            check(wanted)
    assert not (tmp_path / "out").exists()


def test_a_file_at_the_uri_of_the_store_is_an_error(folder: Path, tmp_path: Path) -> None:
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
    broken = request(folder, run_id="run-2", mode="all", main=str(nan_model().write(tmp_path / "tiny")))
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


def test_a_night_without_an_approval_is_green_and_the_next_is_empty(
    folder: Path, store: MemoryStore, tmp_path: Path
) -> None:
    wanted = request(folder, main=str(nothing_approved(tmp_path / "tiny")))
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
    summary = generate(request(folder, catalog=catalog, main=str(model)))
    assert {sku: tuple(has) for sku, has in summary.manifest.incomplete.items()} == {"a": (1, 3)}
    said = "1 products have fewer pictures than they want: a 1 of 3"
    assert said in summary.text()
    assert said in store.get(report_key("run-1")).decode()


def test_a_run_without_anything_to_do_is_no_failure(folder: Path, store: MemoryStore, tmp_path: Path) -> None:
    model = str(tiny_model(acceptance=1.0).write(tmp_path / "tiny"))
    generate(request(folder, main=model, limit=1, batch_size=32))
    live = read_current(store.get(CURRENT_KEY)).num_rows
    assert live == 1
    summary = generate(request(folder, main=model, run_id="run-2", limit=1))
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
    assert "Brick 2 x 4, Red" in again  # the metadata has the titles
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


def test_a_process_finds_the_engine_of_a_store_from_texts(folder: Path, store: MemoryStore) -> None:
    version = add_model(store, folder / "tiny", "toys")
    run = start_run(resolve_run(request(folder, main="toys")))
    worker_spec = pickle.loads(pickle.dumps(run.worker_spec))
    assert worker_spec == run.worker_spec
    assert engine_for(worker_spec).model.version == version
    found = run_shard(worker_spec, "run-1", 0, "webp")
    assert found[sorted(CATEGORIES)[0]]["approved"] > 0
