"""Runs and pages of a store, for tests of the page."""

from dataclasses import replace
from datetime import datetime

from catalog_schemas.photos import QUARANTINE
from tests.toygan.generation.runs import put_manifest
from toygan.planning.settings import RunSettings
from toygan.planning.summaries import read_summaries
from toygan.publishing.nights import rebuild_nights
from toygan.publishing.store_report import Uploads, write_store_report
from toygan.storage.keys import STORE_REPORT_KEY, manifest_key
from toygan.storage.memory import MemoryStore
from toygan.storage.store import ObjectStore


def counts(**changes: int) -> dict[str, int]:
    names = ("products", "rejected_rows", "unchanged", "exhausted", "deferred", "planned", "approved")
    return dict.fromkeys((*names, "review", "rejected", "incomplete", "not_finite"), 0) | changes


def put_run(
    store: ObjectStore, number: int, settings: RunSettings, category: str, totals: dict[str, int]
) -> None:
    made = put_manifest(store, f"run-{number}", settings, commit=number, shards=0)
    full = replace(made, counts=totals, categories={category: totals})
    store.put(manifest_key(full.run_id), full.to_json().encode())


def page_of(store: MemoryStore, *retrainings: tuple[datetime, str]) -> str:
    uploads = Uploads(quarantined_at=QUARANTINE.empty_table()["seen_at"], retrainings=retrainings)
    summaries = read_summaries(store)
    nights = rebuild_nights(store, summaries)
    write_store_report(store, nights, summaries.decisions_table(), uploads)
    return store.get(STORE_REPORT_KEY).decode()
