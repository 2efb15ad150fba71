"""Plans catalogs for tests."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from catalog_schemas.validation import REJECTED_ROWS, read_parquet_bytes
from tests.catalog_schemas.tables import product, write_catalog
from tests.toygan.generation.runs import MODELS, candidate, put_current, put_manifest, put_part
from toygan.planning.plan import (
    FrozenPlan,
    ModelScope,
    RunSettings,
    Slot,
    freeze_plan,
    load_shard,
)
from toygan.storage.keys import rejected_rows_key
from toygan.storage.store import ObjectStore

CATEGORIES = ("brick", "car", "wheel")


SCOPES = {"main": ModelScope(categories=frozenset(CATEGORIES))}


SETTINGS = RunSettings(models=MODELS)


OTHER_MODELS = {"main": "toybricks@ffffffffffff"}


LEFT = {"exhausted": 0, "deferred": 0}


def settings_with(**changes: Any) -> RunSettings:
    return RunSettings(**{"models": MODELS, **changes})


def freeze(
    store: ObjectStore, catalog: Path | str, run_id: str = "run-1", **changes: Any
) -> tuple[FrozenPlan, list[Slot]]:
    """The plan and all its slots."""
    shard_size, scopes = changes.pop("shard_size", 512), changes.pop("scopes", SCOPES)
    plan = freeze_plan(store, run_id, str(catalog), settings_with(**changes), scopes, shard_size=shard_size)
    return plan, [slot for shard in range(len(plan.shards)) for slot in load_shard(store, run_id, shard)]


def rejected(store: ObjectStore, run_id: str = "run-1") -> list[tuple[Any, ...]]:
    key = rejected_rows_key(run_id)
    rows = read_parquet_bytes(store.get(key), REJECTED_ROWS, key).to_pylist()
    return [tuple(row.values()) for row in rows]


def keys(slots: list[Slot]) -> list[tuple[str, int]]:
    return sorted((slot.sku, slot.image_index) for slot in slots)


def everything(store: ObjectStore) -> list[str]:
    return [info.key for prefix in ("", ".tmp/") for info in store.list(prefix)]


# shards

catalogs = st.lists(
    st.tuples(st.sampled_from(CATEGORIES), st.none() | st.integers(1, 64)), min_size=1, max_size=60
)


# what is live already


def finish(
    store: ObjectStore, slots: list[Slot], run_id: str = "run-1", **changes: Any
) -> list[dict[str, Any]]:
    """Finish a run in which every slot was approved at once, and make its pictures live."""
    rows = [candidate(slot, run_id, **changes) for slot in slots]
    put_part(store, run_id, rows)
    put_manifest(store, run_id, SETTINGS)
    put_current(store, rows)
    return rows


@pytest.fixture
def three(tmp_path: Path) -> Path:
    rows = [product(sku="a", images_wanted=2), product(sku="b", category="car"), product(sku="c")]
    return write_catalog(tmp_path / "catalog.parquet", rows)
