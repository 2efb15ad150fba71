"""The store requests of a night follow what has changed, and not the nights before it."""

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from flows.steps import begin_run, end_run
from tests.catalog_schemas.tables import product, write_catalog
from tests.faulty_proxy import Fault, faulty_proxy
from tests.flows.conftest import Toygan
from tests.models import COLOURS, tiny_model
from tests.servers import S3Server, fresh_bucket
from tests.toygan.generation.whole_runs import request
from toygan.generation import request as request_module
from toygan.generation import run as run_module
from toygan.generation import worker_spec
from toygan.generation.run import run_shard
from toygan.publishing.summary import RunSummary
from toygan.publishing.verify import verify
from toygan.registry.models import add_model, resolve
from toygan.registry.promotion import promote
from toygan.storage.memory import MemoryStore
from toygan.storage.open_store import open_store
from toygan.storage.store import ObjectStore

CATEGORIES = tuple(f"category-{number}" for number in range(10))
PRODUCTS = 40
MOST = 60  # of the whole command, for ten changed rows
OF_THE_COMMAND = 1  # which asks whether the store has pictures, before it begins the run


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


class Shop:
    """A folder with a model and a catalog, of which rows change from night to night.

    `bad_rows` more rows are set aside each night, which costs a request.
    """

    def __init__(self, folder: Path, *, bad_rows: int = 0) -> None:
        self.folder = folder
        self._bad_rows = bad_rows
        self.nights = 0
        self._versions: dict[int, int] = {}
        tiny_model(categories=CATEGORIES, acceptance=0.5).write(folder / "tiny")

    def change(self, *changed: int) -> None:
        """Begins the next night: these products get another title."""
        self.nights += 1
        self._versions.update(dict.fromkeys(changed, self.nights))
        rows = [
            product(
                sku=f"sku-{number:02d}",
                category=CATEGORIES[number % len(CATEGORIES)],
                title=f"Brick, version {self._versions.get(number, 0)}",
                colour_hex=COLOURS[number % len(COLOURS)],
            )
            for number in range(PRODUCTS)
        ]
        rows += [product(sku=None)] * self._bad_rows
        write_catalog(self.folder / "catalog.parquet", rows)

    def night(self, output: str) -> RunSummary:
        """As the command and the flow do."""
        begun = begin_run(request(self.folder, output=output, run_id=f"night-{self.nights}"))
        run = begun.run
        for shard in run.pending:
            run_shard(run.worker_spec, run.plan.run_id, shard, run.plan.settings.format)
        return end_run(begun, logging.getLogger(__name__), lambda *_: None)


def test_ten_changed_rows_cost_few_requests_after_many_nights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, shop = CountingStore(MemoryStore("run")), Shop(tmp_path, bad_rows=1)
    for module in (run_module, request_module, worker_spec):
        monkeypatch.setattr(module, "open_store", lambda uri: store)

    def night(*changed: int) -> Counter[str]:
        """The requests of the night after these products have changed."""
        shop.change(*changed)
        store.requests.clear()
        summary = shop.night("memory://run")
        assert summary.manifest.counts["planned"] == (len(changed) if shop.nights > 1 else PRODUCTS)
        return Counter(store.requests)

    night()
    early = night(*range(10))
    for number in range(12):
        night(number % PRODUCTS, 39)
    late = night(*range(10, 20))
    assert late.total() + OF_THE_COMMAND <= MOST, late
    assert late.total() - early.total() < 3, (early, late)  # pictures for review differ by a request
    assert night().total() <= 30
    assert verify(store).problems == ()


@pytest.mark.parametrize("has_champion", [False, True])
def test_the_whole_command_makes_few_requests_to_a_bucket(
    has_champion: bool, tmp_path: Path, toygan: Toygan, moto: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with a champion in the bucket, which an earlier night of this machine has downloaded."""
    output, shop = f"{fresh_bucket(moto, monkeypatch)}/shop", Shop(tmp_path)
    for changed in ((), (0,), (1, 2)):
        shop.change(*changed)
        shop.night(output)
    model = ["--model", tmp_path / "tiny"]
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    if has_champion:
        monkeypatch.setenv("XDG_CACHE_HOME", cache["XDG_CACHE_HOME"])
        store = open_store(output)
        add_model(store, tmp_path / "tiny", "tiny")
        promote(store, "tiny")
        resolve(None, store)
        model = []
    requests = 0

    def count() -> Fault:
        nonlocal requests
        requests += 1
        return "none"

    shop.change(*range(10))
    where = ["--catalog", tmp_path / "catalog.parquet", *model, "--output", output]
    with faulty_proxy(moto, count) as network:
        result = toygan("generate", *where, **network.environment(), **cache)
    assert result.returncode == 0, result.stderr
    assert "planned 10," in result.stdout
    assert 10 < requests <= MOST, requests
    assert verify(open_store(output)).problems == ()
