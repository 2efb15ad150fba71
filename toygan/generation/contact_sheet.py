"""From a run's metadata to its report: which pictures are shown, and what is said of them."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from catalog_schemas.images import APPROVED, REJECTED, REVIEW
from catalog_schemas.runs import Manifest
from catalog_schemas.validation import REJECTED_ROWS, read_parquet_bytes
from toygan.errors import ObjectNotFound
from toygan.generation.plan import FrozenPlan, Slot, load_shard
from toygan.generation.publish import read_part
from toygan.report.render import (
    MOST_ROWS,
    ReportCategory,
    ReportPicture,
    ReportRow,
    ReportRun,
    render_report,
    sheet_sizes,
)
from toygan.storage.keys import rejected_rows_key
from toygan.storage.store import ObjectStore

_READERS = 16


def contact_sheet(
    store: ObjectStore, manifest: Manifest, *, plan: FrozenPlan | None, tell_rate: bool, credit: str | None
) -> str:
    """The report of a run whose parts are all written, as one HTML document.

    Titles come from the frozen plan; once that is swept, `plan` is None and the pictures go without. `credit`
    names whom the model's training pictures oblige to name.
    """
    most_approved, most_review = sheet_sizes(len(manifest.categories))
    chosen: dict[str, dict[str, list[dict[str, Any]]]] = {
        name: {APPROVED: [], REVIEW: []} for name in manifest.categories
    }
    titles: dict[str, Slot] = {}
    for shard in range(manifest.shards):
        part = read_part(store, manifest.run_id, shard).to_pylist()
        taken = False
        for row in part:
            if row["decision"] == REJECTED:
                continue
            rows = chosen[row["category"]][row["decision"]]
            if len(rows) < (most_approved if row["decision"] == APPROVED else most_review):
                rows.append(row)
                taken = True
        if taken and plan is not None:
            titles |= {slot.sku: slot for slot in load_shard(store, manifest.run_id, shard)}
    with ThreadPoolExecutor(_READERS) as readers:
        categories = [
            ReportCategory(
                name=name,
                wanted=counts["planned"],
                approved=counts[APPROVED],
                review=counts[REVIEW],
                rejected=counts[REJECTED],
                approved_pictures=list(
                    readers.map(lambda row: _picture(store, row, titles), chosen[name][APPROVED])
                ),
                review_pictures=list(
                    readers.map(lambda row: _picture(store, row, titles), chosen[name][REVIEW])
                ),
            )
            for name, counts in manifest.categories.items()
        ]
    began, ended = (datetime.fromisoformat(text) for text in (manifest.started_at, manifest.finished_at))
    elapsed_s = (ended - began).total_seconds()
    candidates = sum(manifest.counts[decision] for decision in (APPROVED, REVIEW, REJECTED))
    return render_report(
        ReportRun(
            run_id=manifest.run_id,
            model=f"{manifest.model_name}@{manifest.model_version}",
            catalog_uri=manifest.catalog_uri,
            started_at=manifest.started_at,
            elapsed_s=elapsed_s,
            images_per_s=candidates / elapsed_s if tell_rate and elapsed_s and candidates else None,
            products=manifest.counts["products"],
            unchanged=manifest.counts["unchanged"],
            settings=manifest.settings,
            categories=categories,
            rejected_rows=_rejected_rows(store, manifest.run_id),
            total_rejected_rows=manifest.counts["rejected_rows"],
            credit=credit,
        )
    )


def _picture(store: ObjectStore, row: Mapping[str, Any], titles: Mapping[str, Slot]) -> ReportPicture:
    slot = titles.get(row["sku"])
    return ReportPicture(
        sku=row["sku"],
        image_index=row["image_index"],
        title=slot.title if slot else None,
        language=slot.language if slot else None,
        colour_hex=json.loads(row["conditions"])["colour_hex"],
        colour_delta_e=row["colour_delta_e"],
        p_real=row["p_real"],
        threshold=row["threshold"],
        reasons=row["reasons"],
        image_uri=row["image_uri"],
        image_format=row["format"],
        file=store.get(row["image_uri"]),
    )


def _rejected_rows(store: ObjectStore, run_id: str) -> list[ReportRow]:
    key = rejected_rows_key(run_id)
    try:
        table = read_parquet_bytes(store.get(key), REJECTED_ROWS, key)
    except ObjectNotFound:
        return []
    return [ReportRow(**row) for row in table.slice(0, MOST_ROWS).to_pylist()]
