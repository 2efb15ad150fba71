"""A store with uploads and a champion, and a request to retrain it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from tests.models import CATEGORIES, tiny_model
from tests.shards import COLOURS, photo
from toygan.data.split import is_calibration_sku, split_of_upload
from toygan.registry.aliases import ModelRef
from toygan.registry.models import add_model
from toygan.registry.promotion import promote
from toygan.retraining.budget import Budget
from toygan.retraining.folder import working_folder
from toygan.retraining.plan import Attempt, begin
from toygan.retraining.request import RetrainRequest
from toygan.retraining.snapshot import SHARD
from toygan.storage.memory import MemoryStore
from toygan.storage.store import ObjectStore

ENOUGH: Final = {"train": 5, "calibration": 1, "val": 5}  # photos of each of three categories
SMALL_BUDGET = Budget(
    images=64,
    generated=20,
    profiled=8,
    pictures=60,
    training_s=1.0,
    measuring_s=1.0,
    training_limit_s=600.0,
)


def skus(role: str, count: int) -> list[str]:
    """Products whose photos have the role `train`, `calibration` or `val`, wherever they are uploaded."""
    found = (f"{role}-{number}" for number in range(10_000))
    return [sku for sku in found if _role(sku) == role][:count]


def _role(sku: str) -> str:
    if split_of_upload(sku) == "val":
        return "val"
    return "calibration" if is_calibration_sku(sku) else "train"


def upload_enough(
    store: ObjectStore, categories: tuple[str, ...] = CATEGORIES, wanted: Mapping[str, int] = ENOUGH
) -> int:
    """Photos of every category in every role, just as many as a retraining needs; returns how many."""
    count = 0
    for category in categories:
        for role, photos in wanted.items():
            for sku in skus(role, photos):
                count += 1
                picture = photo(COLOURS[count % len(COLOURS)], size=(40 + count, 40))
                store.put(f"photos/{category}/{sku}/front.jpg", picture)
    return count


def upload_new_category(store: ObjectStore, name: str, wanted: Mapping[str, int], *, first: int = 5) -> None:
    """Photos of a category in every role. Each role's `first` products, which `upload_enough` has, are left
    out."""
    for row, (role, photos) in enumerate(wanted.items()):
        for number, sku in enumerate(skus(role, first + photos)[first:]):
            picture = photo(COLOURS[number % len(COLOURS)], size=(90 + number, 50 + row))
            store.put(f"photos/{name}/{sku}/front.jpg", picture)


def leave_photos(attempt: Attempt, role: str, count: int) -> None:
    """Leaves only the first `count` photos of a role in the snapshot."""
    shard = attempt.photos / SHARD
    table = pq.read_table(shard)
    rows = [number for number, sku in enumerate(table["sku"].to_pylist()) if _role(sku) == role]
    kept = sorted({*range(table.num_rows)} - {*rows[count:]})
    pq.write_table(table.take(kept), shard)


def begun(store: MemoryStore, folder: Path, **changes: Any) -> Attempt:
    """The retraining that `begin` takes up or makes."""
    asked = request(store, folder, **changes)
    with working_folder(asked.work, store) as place:
        attempt = begin(asked, store, place)
    assert isinstance(attempt, Attempt), attempt
    return attempt


def champion_of(store: ObjectStore, folder: Path, *, seed: int = 0) -> ModelRef:
    """Makes a tiny model the champion."""
    version = add_model(
        store, tiny_model(seed=seed, acceptance=0.6).write(folder / f"tiny-{seed}" / "tiny"), "tiny"
    )
    promote(store, "tiny", version)
    return ModelRef(name="tiny", version=version)


def request(store: MemoryStore, folder: Path, **changes: Any) -> RetrainRequest:
    values: dict[str, Any] = {"store": store.uri, "work": folder, "run_id": "night-1", "quiet_s": 0}
    return RetrainRequest(**values | {"max_images": 64} | changes)
