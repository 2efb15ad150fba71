"""A shop whose champion is bad and whose photos are good: retraining makes a better model within seconds."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.models import CATEGORIES, tiny_model
from tests.shards import COLOURS, photo, photo_row, write_shard
from toygan.data.split import is_calibration_sku
from toygan.registry.aliases import ModelRef
from toygan.registry.models import add_model
from toygan.registry.promotion import promote
from toygan.storage.open_store import open_store
from toygan.storage.store import ObjectStore

PHOTOS_A_CATEGORY = {"train": 14, "val": 12}

RUN = """
import json, sys
from flows.parameters import RetrainParameters
from flows.retrain import retrain

print(retrain(RetrainParameters(**json.loads(sys.argv[1])), return_state=True).message)
"""


def make_photos(folder: Path) -> Path:
    """Photo shards of every category of the tiny model; some products are for calibration."""
    rows = []
    for category in CATEGORIES:
        for split, count in PHOTOS_A_CATEGORY.items():
            skus = [f"{category}-{split}-{number}" for number in range(count)]
            for number, sku in enumerate(skus):
                colour = COLOURS[number % len(COLOURS)]
                picture = photo(colour, round_=category == "wheel", size=(40 + number % 3, 40))
                rows.append(photo_row(sku, category, colour, split=split, photo=picture))
    assert any(is_calibration_sku(row["sku"]) for row in rows if row["split"] == "train")
    return write_shard(folder, rows)


def make_store(folder: Path) -> tuple[ObjectStore, ModelRef]:
    """A store with the tiny model, which has learnt nothing, as its champion, and one upload."""
    store = open_store(folder / "store")
    version = add_model(store, tiny_model().write(folder / "tiny"), "tiny")
    promote(store, "tiny", version)
    upload_photos(store, 1)
    return store, ModelRef(name="tiny", version=version)


def upload_photos(store: ObjectStore, count: int, *, first: int = 0) -> None:
    for number in range(first, first + count):
        key = f"photos/brick/upload-{number}/front.jpg"
        store.put(key, photo(COLOURS[number % len(COLOURS)], size=(50 + number, 50)))


def start_process(
    environment: Mapping[str, str], log: Path, parameters: Mapping[str, object]
) -> "subprocess.Popen[bytes]":
    """The flow in a process of its own, which ends by printing the message of its last state."""
    with log.open("wb") as sink:
        return subprocess.Popen(
            [sys.executable, "-c", RUN, json.dumps(parameters)], env=environment, stdout=sink, stderr=sink
        )
