"""Builds the report of a run from its metadata: selects the pictures and describes them."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from catalog_schemas.images import APPROVED, REJECTED, REVIEW, check_stored
from catalog_schemas.runs import Manifest, check_report_fields
from catalog_schemas.validation import REJECTED_ROWS, TableError, read_parquet_bytes
from toygan.errors import BadInput, ObjectNotFound, StoreConfigError
from toygan.parallel import in_order
from toygan.planning.condition_files import NO_MODEL, read_kept
from toygan.planning.decisions import RETIRED, in_words, stored_decisions
from toygan.publishing.render import (
    MOST_ROWS,
    ReportCategory,
    ReportPicture,
    ReportRow,
    ReportRun,
    render_report,
    sheet_sizes,
)
from toygan.publishing.summary import warnings_of
from toygan.storage.keys import manifest_key, part_key, rejected_rows_key
from toygan.storage.store import ObjectStore

PhotosSoFar = Callable[[ObjectStore, Sequence[str]], list[str]]

_READERS = 16
_MOST_UNKNOWN = 20  # the largest number of categories that are named
_SHOWN_COLUMNS = [
    *("sku", "image_index", "decision", "conditions", "colour_delta_e", "p_real", "threshold", "reasons"),
    *("image_id", "image_uri", "format", "condition_sha256", "title", "language"),
]


def contact_sheet(
    store: ObjectStore,
    manifest: Manifest,
    parts: Iterable[pa.Table],
    *,
    is_new: bool,
    with_rate: bool,
    credit: str | None,
    photos_so_far: PhotosSoFar | None = None,
) -> str:
    """Returns the report of the run with the metadata `parts` as one HTML document.

    The report of a new run shows no decisions of people: nobody can decide about a picture before its run is
    finished. A picture whose file is missing or damaged is named on the page. `credit` is the attribution
    that the licences of the training pictures demand. `photos_so_far` returns a line for each of the
    categories that no model knows.
    """
    check_report_fields(manifest, manifest_key(manifest.run_id))
    missing: list[str] = []
    chosen = _choose(manifest, parts)
    decisions = {} if is_new else in_words(stored_decisions(store))
    began, ended = (datetime.fromisoformat(text) for text in (manifest.started_at, manifest.finished_at))
    elapsed_s = (ended - began).total_seconds()
    candidates = sum(manifest.counts[decision] for decision in (APPROVED, REVIEW, REJECTED))
    rejected = _read_rejected(store, manifest)
    with ThreadPoolExecutor(_READERS) as readers:

        def pictures(category: str, decision: str) -> Iterator[ReportPicture]:
            rows = chosen[category, decision]
            found = in_order(
                readers, lambda row: _picture(store, row, decisions, missing), rows, ahead=_READERS
            )
            return (each for _, each in found if each is not None)

        return render_report(
            ReportRun(
                run_id=manifest.run_id,
                models=manifest.all_models,
                catalog_uri=manifest.catalog_uri,
                started_at=manifest.started_at,
                elapsed_s=elapsed_s,
                images_per_s=candidates / elapsed_s if with_rate and elapsed_s and candidates else None,
                products=manifest.counts["products"],
                unchanged=manifest.counts["unchanged"],
                settings=manifest.settings,
                categories=_categories(manifest, pictures),
                rejected_rows=[ReportRow(**row) for row in rejected.slice(0, MOST_ROWS).to_pylist()],
                total_rejected_rows=manifest.counts["rejected_rows"],
                warnings=[*warnings_of(manifest), *_unknown_categories(store, rejected, photos_so_far)],
                missing=missing,
                credit=credit,
            )
        )


def _categories(
    manifest: Manifest, pictures: Callable[[str, str], Iterator[ReportPicture]]
) -> list[ReportCategory]:
    return [
        ReportCategory(
            name=name,
            wanted=counts["planned"],
            approved=counts[APPROVED],
            review=counts[REVIEW],
            rejected=counts[REJECTED],
            approved_pictures=pictures(name, APPROVED),
            review_pictures=pictures(name, REVIEW),
        )
        for name, counts in manifest.categories.items()
    ]


def _choose(manifest: Manifest, parts: Iterable[pa.Table]) -> Mapping[tuple[str, str], list[dict[str, Any]]]:
    """Selects the first rows of each category and decision to show."""
    most = dict(zip((APPROVED, REVIEW), sheet_sizes(len(manifest.categories)), strict=True))
    chosen: dict[tuple[str, str], list[dict[str, Any]]] = {
        (category, decision): [] for category in manifest.categories for decision in most
    }
    for shard, part in enumerate(parts):
        for (category, decision), rows in chosen.items():
            of_both = pc.and_(pc.equal(part["category"], category), pc.equal(part["decision"], decision))
            found = part.filter(of_both).slice(0, most[decision] - len(rows))
            more = found.select(_SHOWN_COLUMNS).to_pylist()
            for row in more:
                check_stored(row, part_key(manifest.run_id, shard))
            rows += more
        if all(len(rows) == most[decision] for (_, decision), rows in chosen.items()):
            break
    return chosen


def _picture(
    store: ObjectStore, row: Mapping[str, Any], decisions: Mapping[str, str], missing: list[str]
) -> ReportPicture | None:
    """Returns the picture of a row. Returns None if its file is gone.

    In that case adds its key to `missing`, unless the picture was retired.
    """
    decision = decisions.get(row["image_id"])
    try:
        file = store.get(row["image_uri"])
    except (ObjectNotFound, BadInput) as error:  # BadInput: a damaged row names what is no key
        if isinstance(error, StoreConfigError):
            raise
        if decision is None or not decision.startswith(RETIRED):
            missing.append(row["image_uri"])
        return None
    return ReportPicture(
        sku=row["sku"],
        image_index=row["image_index"],
        title=row["title"],
        language=row["language"],
        colour_hex=json.loads(row["conditions"]).get("colour_hex"),
        colour_delta_e=row["colour_delta_e"],
        p_real=row["p_real"],
        threshold=row["threshold"],
        reasons=row["reasons"],
        image_uri=row["image_uri"],
        image_format=row["format"],
        file=file,
        snapshot=_snapshot(store, row),
        decision=decision,
    )


def _snapshot(store: ObjectStore, row: Mapping[str, Any]) -> bytes | None:
    """Returns the snapshot from which the picture was made; None if there is none, or it is lost."""
    digest = dict(row["condition_sha256"]).get("photo")
    try:
        return None if digest is None else read_kept(store, digest)
    except BadInput:  # a lost snapshot must not stop the report; `toygan verify` reports it
        return None


def _unknown_categories(
    store: ObjectStore, rejected: pa.Table, photos_so_far: PhotosSoFar | None
) -> list[str]:
    """Returns, for each category that no model has, a line with the number of its training photos."""
    if photos_so_far is None:
        return []
    reasons = rejected["reason"].unique().to_pylist()
    names = sorted(each.removeprefix(NO_MODEL) for each in reasons if each.startswith(NO_MODEL))
    return photos_so_far(store, names[:_MOST_UNKNOWN]) if names else []


def _read_rejected(store: ObjectStore, manifest: Manifest) -> pa.Table:
    if not manifest.counts["rejected_rows"]:
        return REJECTED_ROWS.empty_table()
    key = rejected_rows_key(manifest.run_id)
    try:
        return read_parquet_bytes(store.get(key), REJECTED_ROWS, key)
    except (ObjectNotFound, TableError):
        return REJECTED_ROWS.empty_table()
