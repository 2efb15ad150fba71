"""Products with a layout and a sketch: a main model that takes both generates from both."""

from pathlib import Path

import numpy as np
import pytest

from tests.catalog_schemas.tables import product, write_catalog
from tests.models import CPU, LAYOUT_CLASSES, condition_file, tiny_model, tiny_with_layouts
from tests.toygan.generation import whole_runs
from tests.toygan.generation.whole_runs import generate, rows_of
from toygan.generation import request as request_module
from toygan.generation import run as run_module
from toygan.generation import worker_spec
from toygan.images import decode
from toygan.publishing.reproduce import reproduce
from toygan.publishing.verify import verify
from toygan.registry.models import add_model
from toygan.storage.memory import MemoryStore

MAIN = tiny_with_layouts(acceptance=1.0, lines=True)
SPECIAL = {"layout": tiny_model("spade", acceptance=1.0), "sketch": tiny_model("pix2pix", acceptance=1.0)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawings")
    for model in (MAIN, *SPECIAL.values()):
        model.write(folder / model.name)
    (folder / "layout.png").write_bytes(condition_file("layout", 0))
    (folder / "alien.png").write_bytes(condition_file("layout", 0, label=LAYOUT_CLASSES))
    for number in range(2):
        (folder / f"sketch-{number}.png").write_bytes(condition_file("sketch", number))
    rows = [
        product(sku="plain"),
        product(sku="layout", layout_uri="layout.png"),
        product(sku="both-0", layout_uri="layout.png", sketch_uri="sketch-0.png"),
        product(sku="both-1", layout_uri="layout.png", sketch_uri="sketch-1.png"),
        product(sku="alien", layout_uri="alien.png", sketch_uri="sketch-0.png"),
    ]
    write_catalog(folder / "catalog.parquet", rows)
    return folder


@pytest.fixture
def store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    store = MemoryStore("run")
    for module in (run_module, request_module, worker_spec):
        monkeypatch.setattr(module, "open_store", lambda uri: store)
    versions = {
        role: f"{model.name}@{add_model(store, folder / model.name, model.name)}"
        for role, model in (("main", MAIN), *SPECIAL.items())
    }
    generate(whole_runs.request(folder, **versions))
    return store


def test_layout_and_sketch_are_used_together(store: MemoryStore) -> None:
    rows = {row["sku"]: row for row in rows_of(store)}
    assert rows.keys() == {"plain", "layout", "both-0", "both-1"}  # the label of one row is not known
    used = {sku: (row["model_name"], set(row["condition_sha256"])) for sku, row in rows.items()}
    assert used["plain"] == (MAIN.name, set())
    assert used["layout"] == (SPECIAL["layout"].name, {"layout"})
    assert used["both-0"] == used["both-1"] == (MAIN.name, {"layout", "sketch"})
    assert "layout_similarity" not in rows["both-0"]["conditions"]
    assert "shape_guessed" not in rows["both-0"]["reasons"]
    assert verify(store).problems == ()


def test_another_sketch_gives_another_picture(store: MemoryStore) -> None:
    pictures = [
        decode(store.get(row["image_uri"])) for row in rows_of(store) if row["sku"].startswith("both-")
    ]
    assert len(pictures) == 2
    assert not np.array_equal(*pictures)


def test_a_picture_of_both_drawings_is_made_again(store: MemoryStore) -> None:
    kept = [row for row in rows_of(store) if row["image_uri"]]
    assert {row["sku"] for row in kept} >= {"both-0", "plain"}
    for row in kept:
        assert "the same" in reproduce(store, row["image_id"], CPU)
