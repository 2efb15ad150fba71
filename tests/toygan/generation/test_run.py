"""A run from its request to its commit, without Prefect: conflicts, deaths, and what a second start finds."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from catalog_schemas.images import read_current
from tests.catalog_schemas.tables import product, write_catalog
from tests.models import BATCH, CATEGORIES, tiny_model
from tests.toygan.generation.disturbed_runs import contents, lead_to
from tests.toygan.generation.disturbed_runs import folder as folder
from tests.toygan.generation.disturbed_runs import store as store
from tests.toygan.generation.mortal_store import Died, MortalStore
from tests.toygan.generation.whole_runs import MODEL, generate, request
from toygan.errors import ModelError, RunConflict
from toygan.generation.request import check_request, resolve_run
from toygan.generation.run import run_shard, start_run
from toygan.generation.worker_spec import engine_for
from toygan.planning.finished import read_manifest, read_part
from toygan.publishing.commit import complete_open_runs
from toygan.publishing.finish import finish_run
from toygan.publishing.verify import verify
from toygan.registry import promotion
from toygan.registry.models import add_model
from toygan.storage.keys import CURRENT_KEY
from toygan.storage.memory import MemoryStore
from toygan.storage.store import ObjectStore

pytestmark = pytest.mark.usefixtures("a_shard_per_category")


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
    assert "run run-1: 12 products, 1 row set aside, 0 pictures live already" in text
    assert f"planned 12, approved {approved} ({approved / 12:.0%}), for review {review}" in text
    markdown = summary.markdown()
    rejected = summary.manifest.counts["rejected"]
    assert f"| **all** | 12 | {approved} | {review} | {rejected} |" in markdown
    assert f"tiny@{MODEL.version}" in markdown
    assert [line.split(" ")[1] for line in markdown.splitlines() if line.startswith("| ")][1:4] == sorted(
        CATEGORIES
    )
    odd = replace(summary.manifest, categories={"a | <b>": summary.manifest.categories["car"]})
    assert r"| a \| \<b\> | 4 |" in replace(summary, manifest=odd).markdown()


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
        ({"image_format": "png"}, "format is 'png', but was 'webp'"),
        ({"mode": "all"}, "mode is 'all', but was 'missing'"),
        ({"limit": 3}, "limit is 3, but was None"),
        ({"images_per_product": 2}, "images_per_product is 2, but was 1"),
        ({"categories": ("car",)}, r"categories is \['car'\], but was \[\]"),
        ({"batch_size": 2 * BATCH}, f"batch_size is {2 * BATCH}, but was {BATCH}"),
        ({"main": "../other"}, "the main model is 'other@"),
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
    start_run(resolve_run(request(folder, main=None)))
    promotion.promote(store, "toys", second)
    assert generate(request(folder, main=None)).manifest.model_version == first
    assert generate(request(folder, main=None)).manifest.model_version == first
    assert generate(request(folder, main=None, run_id="run-2")).manifest.model_version == second


def test_a_folder_whose_model_changed_is_not_gone_on_with(
    folder: Path, store: MemoryStore, tmp_path: Path
) -> None:
    model = tiny_model().write(tmp_path / "tiny")
    run = start_run(resolve_run(request(folder, main=str(model))))
    for name, data in tiny_model(seed=1).files.items():
        (model / name).write_bytes(data)
    with pytest.raises(RunConflict, match="the main model is"):
        start_run(resolve_run(request(folder, main=str(model))))
    stale = replace(run.worker_spec, device="cpu")  # another process
    with pytest.raises(ModelError, match=f"is now {tiny_model(seed=1).version}, but the run began with"):
        run_shard(stale, "run-1", 0, "webp")


@pytest.mark.parametrize("reference", [".", "./", "../tiny", "../tiny/"])
def test_a_folder_may_be_named_from_where_the_user_stands(
    folder: Path, store: MemoryStore, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder / "tiny")
    run = start_run(resolve_run(request(folder, main=reference)))
    monkeypatch.chdir("/")
    run_shard(run.worker_spec, "run-1", 0, "webp")
    assert run.plan.settings.models["main"].startswith("tiny@")


def test_the_model_is_loaded_once(folder: Path, store: MemoryStore) -> None:
    engines = set()
    for run_id in ("run-1", "run-2"):
        run = start_run(resolve_run(request(folder, run_id=run_id)))
        engines.add(id(engine_for(run.worker_spec)))
    assert len(engines) == 1
