"""Finds what a person should know after a run, from the stored results of this run and of earlier runs."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import pyarrow as pa

from catalog_schemas.images import APPROVED, REVIEW
from catalog_schemas.runs import Manifest
from toygan.approval.reason_words import in_words
from toygan.planning.summaries import Summaries
from toygan.publishing.commit_log import RECENT_RUNS, Commits, acceptance_of
from toygan.publishing.summary import MOST_NAMED

MIN_RUNS = 3  # with fewer earlier runs, the usual acceptance is unknown


@dataclass(frozen=True, kw_only=True)
class Alert:
    """Something that a person should know about a category or the whole run. `details` are JSON values."""

    kind: Literal["acceptance-halved", "no-picture", "none-approved"]
    category: str | None
    message: str
    details: Mapping[str, Any]


def find_alerts(manifest: Manifest, parts: Iterable[pa.Table], summaries: Summaries) -> list[Alert]:
    """Returns the alerts of a finished run with the metadata `parts`; categories in alphabetical order.

    `summaries` are those of the store after the run.
    """
    stored = summaries.commits.content
    commits = Commits() if stored is None else Commits.from_json(stored)
    found = [*_none_approved(manifest), *_halved(manifest, commits)]
    return found + list(_without_picture(parts, summaries)) if manifest.counts["planned"] else found


def _none_approved(manifest: Manifest) -> Iterator[Alert]:
    planned = manifest.counts["planned"]
    if planned and not manifest.counts[APPROVED]:
        yield Alert(
            kind="none-approved",
            category=None,
            message=f"{planned:,} pictures were planned and none was approved",
            details={"planned": planned},
        )


def _halved(manifest: Manifest, commits: Commits) -> Iterator[Alert]:
    """Yields an alert for each category whose acceptance is less than half of its median in the last
    RECENT_RUNS runs.
    """
    for category, counts in sorted(manifest.categories.items()):
        now = acceptance_of(counts)
        before = commits.acceptance.get(category, {})
        earlier = sorted((each for each in before if each < manifest.commit), reverse=True)
        recent = [before[commit] for commit in earlier[:RECENT_RUNS]]
        if now is None or len(recent) < MIN_RUNS:
            continue
        usual = median(recent)
        if now < usual / 2:
            yield Alert(
                kind="acceptance-halved",
                category=category,
                message=f"{category}: {now:.0%} of the candidates were approved; the median of the "
                f"{len(recent)} runs before is {usual:.0%}",
                details={"acceptance": now, "usual_acceptance": usual, "runs": len(recent)},
            )


def _without_picture(parts: Iterable[pa.Table], summaries: Summaries) -> Iterator[Alert]:
    """Yields an alert for each category with products that have no live picture and for which this run
    approved none.
    """
    failed = _failed(parts)
    live = set(summaries.live_table(("sku",))["sku"].unique().to_pylist()) if failed else set()
    by_category: dict[str, list[str]] = {}
    reasons: dict[str, Counter[str]] = {}
    for sku, (category, against) in sorted(failed.items()):
        if sku not in live:
            by_category.setdefault(category, []).append(sku)
            reasons.setdefault(category, Counter()).update(against)
    for category, skus in sorted(by_category.items()):
        counts = dict(reasons[category].most_common())
        why = ", ".join(f"{in_words(reason)} ({count:,})" for reason, count in counts.items())
        yield Alert(
            kind="no-picture",
            category=category,
            message=f"{category}: no attempt at a picture was approved, and none is live: {_named(skus)}"
            + (f"; why: {why}" if why else ""),
            details={"products": len(skus), "skus": skus[:MOST_NAMED], "reasons": counts},
        )


def _named(skus: Sequence[str]) -> str:
    more = f" and {len(skus) - MOST_NAMED:,} more" if len(skus) > MOST_NAMED else ""
    return ", ".join(skus[:MOST_NAMED]) + more


def _failed(parts: Iterable[pa.Table]) -> dict[str, tuple[str, Sequence[str]]]:
    """Maps the skus of products for which no attempt was approved to category and reasons.

    The reasons are those of the candidate for review, else of one of the rejected candidates.
    """
    tried: dict[str, tuple[str, Sequence[str]]] = {}
    approved: set[str] = set()
    for part in parts:
        columns = (part[name].to_pylist() for name in ("sku", "category", "decision", "reasons"))
        for sku, category, decision, reasons in zip(*columns, strict=True):
            if decision == APPROVED:
                approved.add(sku)
            elif decision == REVIEW or sku not in tried:
                tried[sku] = category, reasons
    return {sku: found for sku, found in tried.items() if sku not in approved}
