"""Computes shards with a tiny model, for tests."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from tests.models import (
    ANYTHING,
    BATCH,
    tiny_model,
)
from toygan.artifact.limits import CategoryLimits
from toygan.artifact.model import Model
from toygan.generation.engine import Engine
from toygan.generation.shard import compute_shard
from toygan.images import ImageFormat
from toygan.storage.memory import MemoryStore

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(tiny_model().load(), batch_size=BATCH) as engine:
        yield engine


@pytest.fixture
def with_model(engine: Engine) -> Iterator[Any]:
    """A function that gives the engine another model for the time of the test."""
    usual = engine.model

    def change(model: Model) -> Engine:
        engine.model = model
        return engine

    yield change
    engine.model = usual


def compute(
    engine: Engine, wanted: Any, store: MemoryStore | None = None, image_format: ImageFormat = "webp"
) -> tuple[Rows, dict[str, bytes]]:
    """The rows without their clock, and all objects of the store."""
    store = MemoryStore() if store is None else store
    rows = compute_shard(wanted, engine=engine, store=store, run_id="run-1", image_format=image_format)
    for row in rows:
        del row["generated_at"]
    return rows, {info.key: store.get(info.key) for info in store.list()}


def with_limits(model: Model, *, limits: CategoryLimits = ANYTHING, threshold: float | None = None) -> Model:
    """The model with other limits, or another threshold, in every category."""
    known = model.require_calibration()
    changes: dict[str, Any] = {"limits": limits} | ({} if threshold is None else {"threshold": threshold})
    categories = {name: replace(each, **changes) for name, each in known.categories.items()}
    return replace(model, calibration=replace(known, categories=MappingProxyType(categories)))


def by_slot(rows: Rows) -> dict[tuple[str, int], Rows]:
    """The candidates of each slot, in the order of their decisions."""
    found: dict[tuple[str, int], Rows] = defaultdict(list)
    for row in rows:
        found[row["sku"], row["image_index"]].append(row)
    return dict(found)
