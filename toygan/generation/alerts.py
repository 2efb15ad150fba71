"""What a person should hear of after a run, read off what the store keeps of it and of those before it."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import pyarrow.compute as pc

from catalog_schemas.images import APPROVED, CURRENT, DECISIONS
from catalog_schemas.runs import Manifest
from catalog_schemas.validation import read_parquet_bytes
from toygan.errors import ObjectNotFound
from toygan.planning.finished import read_manifest, read_part
from toygan.storage.keys import CURRENT_KEY, RUNS_PREFIX
from toygan.storage.store import ObjectStore

RECENT_RUNS = 7
MIN_RUNS = 3  # before these there is no usual acceptance that could fall
MIN_CANDIDATES = 20  # of a category in a run: the acceptance of fewer says little
NIGHTS = 3
_NAMED_SKUS = 20
_THREADS = 8


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One condition of one category; `details` are JSON values."""

    kind: Literal["acceptance-halved", "no-picture"]
    category: str
    message: str
    details: Mapping[str, Any]


def find_alerts(store: ObjectStore, run_id: str) -> list[Alert]:
    """The alerts of a finished run, by category; none for a run that is not finished."""
    manifest = read_manifest(store, run_id)
    if manifest is None:
        return []
    earlier = _finished_before(store, manifest)
    return [*_halved(manifest, earlier), *_without_picture(store, manifest, earlier)]


def acceptance(counts: Mapping[str, int]) -> float | None:
    """Share of the candidates of a category that were approved; None for fewer than MIN_CANDIDATES."""
    candidates = sum(counts.get(each, 0) for each in DECISIONS)
    return counts[APPROVED] / candidates if candidates >= MIN_CANDIDATES else None


def _halved(manifest: Manifest, earlier: Sequence[Manifest]) -> Iterator[Alert]:
    """Categories whose acceptance is less than half of the median of their last RECENT_RUNS runs."""
    for category, counts in sorted(manifest.categories.items()):
        now = acceptance(counts)
        before = [acceptance(run.categories.get(category, {})) for run in earlier]
        recent = [share for share in before if share is not None][:RECENT_RUNS]
        if now is None or len(recent) < MIN_RUNS:
            continue
        usual = median(recent)
        if now < usual / 2:
            yield Alert(
                kind="acceptance-halved",
                category=category,
                message=f"{category}: {now:.0%} of the candidates were approved, in the {len(recent)} runs "
                f"before it was {usual:.0%}",
                details={"acceptance": now, "usual_acceptance": usual, "runs": len(recent)},
            )


def _without_picture(store: ObjectStore, manifest: Manifest, earlier: Sequence[Manifest]) -> Iterator[Alert]:
    """Products that were tried on NIGHTS nights in a row, this one the last, and have no live picture.

    A night is a day (UTC) on which runs finished.
    """
    nights: dict[str, list[Manifest]] = {}
    for run in [manifest, *earlier]:
        nights.setdefault(run.finished_at[:10], []).append(run)
    if len(nights) < NIGHTS:
        return
    first, *others = sorted(nights, reverse=True)[:NIGHTS]
    unlucky = _failed(store, nights[first])
    live = _live_skus(store) if unlucky else set()
    unlucky = {sku: category for sku, category in unlucky.items() if sku not in live}
    for night in others:
        # An earlier night may have been a large one: it is read only while there is something to look for.
        failed = _failed(store, nights[night]) if unlucky else {}
        unlucky = {sku: category for sku, category in unlucky.items() if sku in failed}
    by_category: dict[str, list[str]] = {}
    for sku, category in sorted(unlucky.items()):
        by_category.setdefault(category, []).append(sku)
    for category, skus in sorted(by_category.items()):
        yield Alert(
            kind="no-picture",
            category=category,
            message=f"{category}: no approved picture for {NIGHTS} nights running: {_named(skus)}",
            details={"products": len(skus), "nights": NIGHTS, "skus": skus[:_NAMED_SKUS]},
        )


def _named(skus: Sequence[str]) -> str:
    more = f" and {len(skus) - _NAMED_SKUS:,} more" if len(skus) > _NAMED_SKUS else ""
    return ", ".join(skus[:_NAMED_SKUS]) + more


def _failed(store: ObjectStore, runs: Sequence[Manifest]) -> dict[str, str]:
    """The category by sku of the products that were tried in these runs, and none of whose was approved."""
    tried: dict[str, str] = {}
    approved: set[str] = set()
    for run in runs:
        for shard in range(run.shards):
            part = read_part(store, run.run_id, shard).select(["sku", "category", "decision"])
            tried.update(zip(part["sku"].to_pylist(), part["category"].to_pylist(), strict=True))
            approved.update(part.filter(pc.equal(part["decision"], APPROVED))["sku"].to_pylist())
    return {sku: category for sku, category in tried.items() if sku not in approved}


def _live_skus(store: ObjectStore) -> set[str]:
    try:
        table = read_parquet_bytes(store.get(CURRENT_KEY), CURRENT, CURRENT_KEY, ("sku",))
    except ObjectNotFound:
        return set()
    return set(table["sku"].unique().to_pylist())


def _finished_before(store: ObjectStore, manifest: Manifest) -> list[Manifest]:
    """The other finished runs of a store up to this one, the last one first."""
    run_ids = [found.key.removeprefix(RUNS_PREFIX).removesuffix(".json") for found in store.list(RUNS_PREFIX)]
    with ThreadPoolExecutor(_THREADS, "manifests") as pool:
        found = [each for each in pool.map(lambda run_id: read_manifest(store, run_id), run_ids) if each]
    mine = (manifest.finished_at, manifest.run_id)
    earlier = [each for each in found if (each.finished_at, each.run_id) < mine]
    return sorted(earlier, key=lambda each: (each.finished_at, each.run_id), reverse=True)
