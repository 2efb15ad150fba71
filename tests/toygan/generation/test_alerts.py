"""What a person hears of after a run."""

from collections.abc import Mapping

import pytest

from catalog_schemas.images import APPROVED, REJECTED
from catalog_schemas.runs import Manifest
from tests.toygan.generation.runs import MODEL, candidate, put_current, put_part
from tests.toygan.generation.slots import slot
from toygan.generation.alerts import acceptance, find_alerts
from toygan.storage.keys import manifest_key
from toygan.storage.memory import MemoryStore

Counts = Mapping[str, int]


def put_run(
    store: MemoryStore, run_id: str, *, day: int, hour: int = 2, shards: int = 0, **categories: Counts
) -> None:
    """A run that finished on a day of November."""
    manifest = Manifest(
        run_id=run_id,
        pipeline_version="0.1.0",
        prefect_version="3.8.8",
        started_at=f"2026-11-{day:02}T00:00:00+00:00",
        finished_at=f"2026-11-{day:02}T{hour:02}:00:00+00:00",
        catalog_uri="catalog.parquet",
        catalog_sha256="b" * 64,
        settings={},
        **MODEL,
        plan_sha256="c" * 64,
        shards=shards,
        counts={},
        categories=categories,
    )
    store.put(manifest_key(run_id), manifest.to_json().encode())


def counts(approved: int, rejected: int, review: int = 0) -> Counts:
    return {"approved": approved, "rejected": rejected, "review": review}


def test_acceptance_is_the_share_of_all_candidates() -> None:
    assert acceptance(counts(15, 40, 5)) == 0.25
    assert acceptance(counts(15, 4)) is None
    assert acceptance({}) is None


@pytest.mark.parametrize(
    ("approved", "alerts"),
    [(29, 1), (30, 0), (90, 0)],  # of 100; the median of the runs before is 60 %
)
def test_an_acceptance_below_half_of_the_usual_one(approved: int, alerts: int) -> None:
    store = MemoryStore("test")
    for day, share in enumerate((10, 50, 60, 70, 60, 60, 60, 60), start=1):  # the oldest one is forgotten
        put_run(store, f"run-{day}", day=day, brick=counts(share, 100 - share), car=counts(1, 3))
    put_run(store, "later", day=20, brick=counts(100, 0))
    put_run(store, "now", day=10, brick=counts(approved, 100 - approved), car=counts(0, 40))
    found = find_alerts(store, "now")
    assert [(alert.kind, alert.category) for alert in found] == [("acceptance-halved", "brick")] * alerts
    if alerts:
        assert found[0].message == (
            "brick: 29% of the candidates were approved, in the 7 runs before it was 60%"
        )
        assert found[0].details == {"acceptance": 0.29, "usual_acceptance": 0.6, "runs": 7}


def test_two_earlier_runs_are_no_usual_acceptance() -> None:
    store = MemoryStore("test")
    for day in (1, 2):
        put_run(store, f"run-{day}", day=day, brick=counts(100, 0))
    put_run(store, "now", day=3, brick=counts(0, 100))
    assert find_alerts(store, "now") == []


def test_a_run_that_is_not_finished_has_none() -> None:
    assert find_alerts(MemoryStore("test"), "now") == []


def put_night(
    store: MemoryStore, run_id: str, decisions: Mapping[str, str], *, day: int, hour: int = 2
) -> None:
    """A run that tried these products, each once."""
    rows = [
        candidate(slot(0, sku=sku, category="car" if sku == "c" else "brick"), run_id, decision=decision)
        for sku, decision in decisions.items()
    ]
    put_part(store, run_id, rows)
    put_run(store, run_id, day=day, hour=hour, shards=1)


def test_products_without_a_picture_on_three_nights_in_a_row() -> None:
    """All but e always fail; b has a picture of old, d was not tried once, e got its picture at noon."""
    store = MemoryStore("test")
    bad = {"a": REJECTED, "b": REJECTED, "c": REJECTED}
    put_night(store, "first", {**bad, "d": REJECTED, "e": REJECTED}, day=1)
    put_night(store, "second", {**bad, "e": REJECTED}, day=2)
    put_night(store, "noon", {"e": APPROVED}, day=2, hour=12)
    assert find_alerts(store, "second") == []
    assert find_alerts(store, "noon") == []
    put_current(store, [candidate(slot(0, sku="b", category="brick"), "old")])
    put_night(store, "third", {**bad, "d": REJECTED, "e": REJECTED}, day=5)
    found = find_alerts(store, "third")
    assert [(alert.kind, alert.category, alert.details) for alert in found] == [
        ("no-picture", "brick", {"products": 1, "nights": 3, "skus": ["a"]}),
        ("no-picture", "car", {"products": 1, "nights": 3, "skus": ["c"]}),
    ]
    assert found[0].message == "brick: no approved picture for 3 nights running: a"
