"""The store requests of a night follow what has changed, and not the nights before it."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.catalog_schemas.tables import product, write_catalog
from tests.models import COLOURS, tiny_model
from tests.toygan.generation.whole_runs import generate, request
from toygan.generation import request as request_module
from toygan.generation import run as run_module
from toygan.generation import worker_spec
from toygan.generation.request import check_request
from toygan.planning.decisions import stored_decisions
from toygan.publishing import finish
from toygan.publishing.alerts import find_alerts
from toygan.publishing.nights import record_night
from toygan.publishing.store_report import write_store_report
from toygan.publishing.verify import verify
from toygan.storage.memory import MemoryStore
from toygan.storage.store import ObjectStore
from toygan.uploads.history import read_history

CATEGORIES = tuple(f"category-{number}" for number in range(10))
PRODUCTS = 40
MOST, OF_THE_PAGE = 60, 8


class CountingStore:
    """Counts the requests that a store gets."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.requests: list[str] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found):
            return found

        def count(*arguments: Any, **options: Any) -> Any:
            self.requests.append(name)
            return found(*arguments, **options)

        return count


def shop(folder: Path, changed: dict[int, int]) -> str:
    """A catalog; `changed` says how often the title of each product has changed."""
    rows = [
        product(
            sku=f"sku-{number:02d}",
            category=CATEGORIES[number % len(CATEGORIES)],
            title=f"Brick, version {changed.get(number, 0)}",
            colour_hex=COLOURS[number % len(COLOURS)],
        )
        for number in range(PRODUCTS)
    ]
    return str(write_catalog(folder / "catalog.parquet", rows))


def test_ten_changed_rows_cost_few_requests_after_many_nights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CountingStore(MemoryStore("run"))
    for module in (run_module, request_module, finish, worker_spec):
        monkeypatch.setattr(module, "open_store", lambda uri: store)
    tiny_model(categories=CATEGORIES, acceptance=0.5).write(tmp_path / "tiny")
    versions: dict[int, int] = {}
    nights = 0

    def night(*changed: int) -> Counter[str]:
        """The requests of the night after these products have changed."""
        nonlocal nights
        nights += 1
        versions.update(dict.fromkeys(changed, nights))
        catalog = shop(tmp_path, versions)
        store.requests.clear()
        wanted = request(tmp_path, catalog=catalog, run_id=f"night-{nights}")
        check_request(wanted)  # as the command does
        summary = generate(wanted)
        find_alerts(store, summary.manifest, summary.parts)
        requests = Counter(store.requests)
        store.requests.clear()
        decisions = stored_decisions(store)
        table = record_night(store, summary.manifest, decisions)
        write_store_report(store, table, decisions, read_history(store))
        # The first night reads the manifests.
        assert len(store.requests) == OF_THE_PAGE or nights == 1
        assert summary.manifest.counts["planned"] == (len(changed) if nights > 1 else PRODUCTS)
        return requests

    night()
    early = night(*range(10))
    for number in range(12):
        night(number % PRODUCTS, 39)
    late = night(*range(10, 20))
    assert late.total() <= MOST, late
    assert late.total() - early.total() < 3, (early, late)  # pictures for review differ by a request
    assert night().total() < 30
    assert verify(store).problems == ()
