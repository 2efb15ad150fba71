"""Photos of a product help: its shape is known after the retraining, whatever became of the challenger."""

from pathlib import Path

import pytest

from tests.models import CATEGORIES, tiny_with_layouts
from tests.shards import COLOURS, photo
from tests.toygan.retraining.shop import skus
from toygan.approval.checks import KNOWN_SHAPE_SIMILARITY
from toygan.artifact.layout_bank import LayoutBank
from toygan.artifact.model import Model
from toygan.conditions.text import TextEncoder
from toygan.data.upload_products import skus_by_category
from toygan.retraining.layouts import bank_with
from toygan.retraining.snapshot import take_snapshot, titled_uploads
from toygan.storage.memory import MemoryStore
from toygan.uploads.indexing import index_uploads
from toygan.uploads.products import products_of_uploads

TITLES = ("Castle tower", "Dragon wing", "Fire engine ladder", "Sailing boat", "Steam engine")


def uploaded(store: MemoryStore) -> dict[str, str]:
    """Ten photos of five products, held-out ones among them, and their titles, which the store holds, too."""
    products = [*skus("train", 3), *skus("calibration", 1), *skus("val", 1)]
    for number, sku in enumerate(products):
        for side, name in enumerate(("front", "back")):
            picture = photo(COLOURS[number % len(COLOURS)], size=(48 + side, 40 + number))
            store.put(f"photos/car/{sku}/{name}.jpg", picture)
    titles = dict(zip(products, TITLES, strict=True))
    lines = ["sku,title", *(f"{sku},{title}" for sku, title in titles.items())]
    store.put("photos/products.csv", "\n".join(lines).encode())
    return titles


def similarity(model: Model, bank: LayoutBank, title: str) -> float:
    product = model.conditions_of(
        category="car",
        title=title,
        description=None,
        language="en",
        colour=None,
        colour_hex="#B40000",
        finish=None,
    )
    assert isinstance(model.text_encoder, TextEncoder)
    text = model.text_encoder.embed([bank.text_of(product)])[0]
    found = bank.choose(product, text, seed=1, truncation=0.0).similarity
    assert found is not None
    return found


@pytest.mark.slow
def test_the_shapes_of_uploaded_products_are_no_guess_any_more(tmp_path: Path) -> None:
    files = tiny_with_layouts(titles=("Brick, red", "Brick, blue"))
    model = files.load()
    store = MemoryStore()
    titles = uploaded(store)
    index = index_uploads(store, CATEGORIES).index
    assert index.num_rows == 10
    folder = tmp_path / "photos"
    contents = take_snapshot(
        folder,
        store=store,
        index=index,
        photos=None,
        categories=model.categories,
        resolution=32,
        with_layouts=True,
        products=products_of_uploads(store, skus_by_category(index)),
    )
    assert (contents.uploads, contents.titled) == (10, 10)
    known = titled_uploads(folder, titles.keys(), model.categories)
    assert known == set(titles)
    assert model.layout_bank is not None
    for title in TITLES:
        assert similarity(model, model.layout_bank, title) < KNOWN_SHAPE_SIMILARITY
    bank = bank_with(model, folder, known)
    assert bank is not None
    larger = files.with_files(layout_bank=bank).load()
    assert larger.layout_bank is not None
    for title in TITLES:
        assert similarity(larger, larger.layout_bank, title) >= KNOWN_SHAPE_SIMILARITY
    assert set(model.layout_bank.files) <= set(larger.layout_bank.files)
    assert bank_with(model, folder, []) is None
