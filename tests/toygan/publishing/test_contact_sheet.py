"""From a run's metadata to the page about it."""

import base64
import html
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from catalog_schemas.images import read_current
from catalog_schemas.runs import Manifest
from tests.catalog_schemas.tables import product, write_catalog
from tests.toygan.generation.whole_runs import generate, request, write_inputs
from toygan.generation.request import resolve_run
from toygan.generation.run import run_shard, start_run
from toygan.planning.finished import Parts, read_manifest, read_part
from toygan.planning.plan import FrozenPlan
from toygan.publishing import contact_sheet as module
from toygan.publishing import render
from toygan.publishing.contact_sheet import contact_sheet
from toygan.publishing.finish import finish_run, rewrite_report
from toygan.publishing.retire import NOT_IN_CATALOG, retire
from toygan.review.record import decide
from toygan.storage.keys import CURRENT_KEY, part_key, report_key
from toygan.storage.memory import MemoryStore, named_memory_store
from toygan.uploads.index import photos_so_far

HOSTILE = "<script>alert('Brick')</script> & Größe"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_inputs(tmp_path_factory.mktemp("sheet"))
    rows = [product(sku=f"brick-{number}", title=HOSTILE) for number in range(10)]
    rows += [product(sku="../../x"), product(sku="b", category="boat")]
    write_catalog(folder / "catalog.parquet", rows)
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> tuple[MemoryStore, FrozenPlan, str]:
    """A store, the plan of its run, and the page."""
    store = named_memory_store("sheet")
    started = start_run(resolve_run(request(folder, output="memory://sheet")))
    run_shard(started.worker_spec, "run-1", 0, "webp")
    finish_run(started, "3.8.8", photos_so_far=photos_so_far)
    return store, started.plan, store.get(report_key("run-1")).decode()


def rows_of(store: MemoryStore) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_part(store, "run-1", 0).to_pylist()
    return rows


def sheet(store: MemoryStore, manifest: Manifest, **options: Any) -> str:
    """The page of a run, made again."""
    parts = Parts(store, manifest.run_id, manifest.shards)
    return contact_sheet(store, manifest, parts, is_new=False, **options)


def embedded(page: str) -> list[bytes]:
    return [base64.b64decode(data) for data in re.findall(r"data:image/webp;base64,([A-Za-z0-9+/=]+)", page)]


def test_every_stored_picture_is_on_the_page(run: tuple[MemoryStore, FrozenPlan, str]) -> None:
    store, _, page = run
    kept = [row for row in rows_of(store) if row["image_uri"]]
    assert {row["decision"] for row in kept} == {"approved", "review"}
    assert sorted(embedded(page)) == sorted(store.get(row["image_uri"]) for row in kept)


def test_the_page_says_what_was_decided_and_why(run: tuple[MemoryStore, FrozenPlan, str]) -> None:
    store, _, page = run
    text = html.unescape(page)
    for row in rows_of(store):
        if row["image_uri"]:
            assert row["sku"] in text
    assert "run-1" in text
    assert f"tiny@{rows_of(store)[0]['model_version']}" in text
    assert "../../x" in text
    assert "no_model_for_category: boat" in text
    assert "category 'boat' unknown to the model, 0 of 20 photos so far" in text


def test_titles_are_text_and_stay_when_the_page_is_made_again(
    run: tuple[MemoryStore, FrozenPlan, str],
) -> None:
    store, _, page = run
    assert "<script>alert" not in page
    assert HOSTILE in html.unescape(page)
    manifest = read_manifest(store, "run-1")
    assert manifest is not None
    again = sheet(store, manifest, with_rate=True, credit=None)
    assert "<script>alert" not in again
    assert HOSTILE in html.unescape(again)


def test_nothing_is_loaded_from_elsewhere(run: tuple[MemoryStore, FrozenPlan, str]) -> None:
    store, _, page = run
    sources = re.findall(r"src=[\"']([^\"']*)", page)
    assert sources
    assert all(source.startswith("data:") for source in sources)
    links = {link for link in re.findall(r"href=[\"']([^\"']*)", page) if not link.startswith("#")}
    pictures = {f"../../{row['image_uri']}" for row in rows_of(store) if row["image_uri"]}
    assert links == {"../index.html", *pictures}


def test_the_rate_and_the_credit_are_optional(run: tuple[MemoryStore, FrozenPlan, str]) -> None:
    store, _, _ = run
    manifest = read_manifest(store, "run-1")
    assert manifest is not None
    ten_s = replace(manifest, started_at="2026-11-01T00:00:00+00:00", finished_at="2026-11-01T00:00:10+00:00")
    html = sheet(store, ten_s, with_rate=True, credit="Photos: Jane Doe, CC BY 4.0")
    rate = f"{len(rows_of(store)) / 10:.1f} pictures a second"
    assert rate in html
    assert "Photos: Jane Doe, CC BY 4.0" in html
    without = sheet(store, ten_s, with_rate=False, credit=None)
    assert "pictures a second" not in without
    assert "Photos: Jane Doe" not in without


def test_a_sheet_shows_a_limited_number_of_each_category(
    run: tuple[MemoryStore, FrozenPlan, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _, _ = run
    manifest = read_manifest(store, "run-1")
    assert manifest is not None
    monkeypatch.setattr(module, "sheet_sizes", lambda categories: (2, 1))
    page = sheet(store, manifest, with_rate=True, credit=None)
    kept = rows_of(store)
    first = [row for row in kept if row["decision"] == "approved"][:2]
    first += [row for row in kept if row["decision"] == "review"][:1]
    assert sorted(embedded(page)) == sorted(store.get(row["image_uri"]) for row in first)


def test_few_files_are_in_memory_at_a_time(
    run: tuple[MemoryStore, FrozenPlan, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two thousand snapshots of phones would fill the memory."""
    store, _, _ = run
    manifest = read_manifest(store, "run-1")
    assert manifest is not None
    waiting = most = 0
    read, show = module._picture, render._picture

    def reading(*arguments: Any) -> Any:
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        return read(*arguments)

    def showing(picture: render.ReportPicture) -> Any:
        nonlocal waiting
        waiting -= 1
        return show(picture)

    monkeypatch.setattr(module, "_READERS", 2)
    monkeypatch.setattr(module, "_picture", reading)
    monkeypatch.setattr(render, "_picture", showing)
    monkeypatch.setattr(render, "usable_cores", lambda: 1)
    page = sheet(store, manifest, with_rate=False, credit=None)
    assert len(embedded(page)) > 5
    assert waiting == 0
    assert most <= 2 + 2  # read ahead, and waiting for the thread that makes thumbnails


def test_a_lost_or_damaged_picture_is_named_on_the_page(folder: Path) -> None:
    store = named_memory_store("sheet-2")
    generate(request(folder, output="memory://sheet-2"))
    gone, damaged, *rest = (row["image_uri"] for row in rows_of(store) if row["decision"] == "approved")
    store.delete(gone)
    store.put(damaged, b"RIFF")
    rewrite_report(store, "run-1")
    page = store.get(report_key("run-1")).decode()
    assert f"missing or damaged pictures: {gone}, {damaged}; see `toygan verify`" in html.unescape(page)
    assert len(embedded(page)) >= len(rest)
    for content in (b"PAR1", None):  # the part is damaged, then lost, too
        part = part_key("run-1", 0)
        store.delete(part)
        if content is not None:
            store.put(part, content)
        rewrite_report(store, "run-1")
        assert embedded(store.get(report_key("run-1")).decode()) == []


def test_the_page_shows_decisions_and_leaves_out_what_was_retired(folder: Path) -> None:
    store = named_memory_store("sheet-3")
    summary = generate(request(folder, output="memory://sheet-3"))
    live = read_current(store.get(CURRENT_KEY))
    first, second = live["image_id"].to_pylist()[:2]
    decide(store, "reject", [first], by="Ann", reason="<b>wrong</b>")
    is_second = pc.equal(live["image_id"], second)
    retire(store, "run-2", {NOT_IN_CATALOG: live.filter(is_second)})
    before = embedded(sheet(store, summary.manifest, with_rate=True, credit=None))
    store.delete(live.filter(is_second)["image_uri"][0].as_py())
    page = sheet(store, summary.manifest, with_rate=True, credit=None)
    assert "rejected by Ann: &lt;b&gt;wrong&lt;/b&gt;" in page
    assert len(embedded(page)) == len(before) - 1
