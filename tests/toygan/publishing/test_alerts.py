"""What a person hears of after a run."""

from collections.abc import Mapping

import pytest

from catalog_schemas.images import APPROVED, REJECTED, REVIEW
from catalog_schemas.runs import Manifest
from tests.toygan.generation.runs import MODEL, candidate, put_part
from tests.toygan.generation.slots import slot
from toygan.planning.finished import Parts, read_manifest
from toygan.planning.summaries import read_summaries
from toygan.publishing.alerts import Alert, find_alerts
from toygan.publishing.commit import make_live, publish_manifest
from toygan.publishing.commit_log import acceptance_of
from toygan.storage.memory import MemoryStore

Counts = Mapping[str, int]


def put_run(store: MemoryStore, run_id: str, *, commit: int, shards: int = 0, **categories: Counts) -> None:
    """A run that is live."""
    approved = sum(each["approved"] for each in categories.values())
    manifest = Manifest(
        run_id=run_id,
        pipeline_version="0.1.0",
        prefect_version="3.8.8",
        started_at="2026-11-01T00:00:00+00:00",
        finished_at="2026-11-01T02:00:00+00:00",
        catalog_uri="catalog.parquet",
        catalog_sha256="b" * 64,
        settings={},
        **MODEL,
        plan_sha256="c" * 64,
        shards=shards,
        counts={"planned": sum(sum(each.values()) for each in categories.values()), "approved": approved},
        categories=categories,
        models={},
        commit=commit,
        incomplete={},
    )
    publish_manifest(store, manifest)
    make_live(store, manifest, Parts(store, run_id, shards))


def alerts_of(store: MemoryStore, run_id: str) -> list[Alert]:
    manifest = read_manifest(store, run_id)
    assert manifest is not None
    return find_alerts(manifest, Parts(store, run_id, manifest.shards), read_summaries(store))


def counts(approved: int, rejected: int, review: int = 0) -> Counts:
    return {"approved": approved, "rejected": rejected, "review": review}


def test_acceptance_is_the_share_of_all_candidates() -> None:
    assert acceptance_of(counts(15, 40, 5)) == 0.25
    assert acceptance_of(counts(15, 4)) is None
    assert acceptance_of({}) is None


@pytest.mark.parametrize(
    ("approved", "alerts"),
    [(29, 1), (30, 0), (90, 0)],  # of 100; the median of the runs before is 60 %
)
def test_an_acceptance_below_half_of_the_usual_one(approved: int, alerts: int) -> None:
    store = MemoryStore("test")
    for day, share in enumerate((10, 50, 60, 70, 60, 60, 60, 60), start=1):  # the oldest one is forgotten
        put_run(store, f"run-{day}", commit=day, brick=counts(share, 100 - share), car=counts(1, 3))
    put_run(store, "now", commit=10, brick=counts(approved, 100 - approved), car=counts(0, 40))
    found = alerts_of(store, "now")
    assert [(alert.kind, alert.category) for alert in found] == [("acceptance-halved", "brick")] * alerts
    if alerts:
        assert found[0].message == (
            "brick: 29% of the candidates were approved; the median of the 7 runs before is 60%"
        )
        assert found[0].details == {"acceptance": 0.29, "usual_acceptance": 0.6, "runs": 7}


def test_two_earlier_runs_are_no_usual_acceptance() -> None:
    store = MemoryStore("test")
    for day in (1, 2):
        put_run(store, f"run-{day}", commit=day, brick=counts(100, 0))
    put_run(store, "now", commit=3, brick=counts(1, 99))
    assert alerts_of(store, "now") == []


def put_night(store: MemoryStore, run_id: str, decisions: Mapping[str, str], *, commit: int) -> None:
    """A run that tried these products, each once."""
    rows = [
        candidate(slot(0, sku=sku, category="car" if sku == "c" else "brick"), run_id, decision=decision)
        for sku, decision in decisions.items()
    ]
    put_part(store, run_id, rows)
    approved = sum(each == APPROVED for each in decisions.values())
    put_run(store, run_id, commit=commit, shards=1, brick=counts(approved, len(rows) - approved))


def test_products_that_were_given_up_and_have_no_picture() -> None:
    """b has a picture of old, d got one now."""
    store = MemoryStore("test")
    put_night(store, "old", {"b": APPROVED}, commit=1)
    put_night(store, "now", {"a": REJECTED, "b": REJECTED, "c": REJECTED, "d": APPROVED}, commit=2)
    found = alerts_of(store, "now")
    assert [(alert.kind, alert.category, alert.details) for alert in found] == [
        ("no-picture", "brick", {"products": 1, "skus": ["a"], "reasons": {}}),
        ("no-picture", "car", {"products": 1, "skus": ["c"], "reasons": {}}),
    ]
    assert found[0].message == "brick: no attempt at a picture was approved, and none is live: a"
    put_run(store, "idle", commit=3)
    assert alerts_of(store, "idle") == []


def test_the_reasons_are_those_of_the_pictures_for_review() -> None:
    store = MemoryStore("test")
    tried = {"a": (REJECTED, ["blank"]), "b": (REVIEW, ["colour_unknown", "shape_guessed"])}
    rows = [
        candidate(slot(0, sku=sku, category="brick"), "now", decision=decision) | {"reasons": reasons}
        for sku, (decision, reasons) in tried.items()
    ]
    again = candidate(slot(0, sku="a", category="brick"), "now", attempt=1, decision=REVIEW)
    put_part(store, "now", [*rows, again | {"reasons": ["shape_guessed"]}])
    put_run(store, "now", commit=1, shards=1, brick=counts(0, 1, 2))
    found = {alert.kind: alert for alert in alerts_of(store, "now")}["no-picture"]
    assert found.details["reasons"] == {"shape_guessed": 2, "colour_unknown": 1}
    assert found.message.endswith(
        "none is live: a, b; why: shape is a guess (2), main colour is not known (1)"
    )


def test_a_run_of_which_none_was_approved() -> None:
    store = MemoryStore("test")
    put_night(store, "now", {"a": REJECTED, "b": REJECTED}, commit=1)
    first, *_ = alerts_of(store, "now")
    assert (first.kind, first.category, first.details) == ("none-approved", None, {"planned": 2})
    assert first.message == "2 pictures were planned and none was approved"
