"""What products.csv beside the photos, and the catalog, say of the products that were uploaded."""

import logging
from pathlib import Path

import pytest

from tests.catalog_schemas.tables import product, write_catalog
from tests.toygan.uploads.uploads import picture, upload
from toygan.data.sources import read_photos
from toygan.data.upload_products import UploadedProduct, is_products_file
from toygan.storage.memory import MemoryStore, named_memory_store
from toygan.uploads.indexing import index_uploads
from toygan.uploads.products import products_of_uploads

SKUS = {"brick": {"a", "b"}, "plant": {"c"}}


def test_titles_and_colours_are_read_from_the_nearest_file(tmp_path: Path) -> None:
    store = MemoryStore()
    store.put("photos/products.csv", b"sku,title,colour\na,All of a,Red\nc,All of c,\nz,Nobody,\n")
    store.put("photos/brick/products.csv", "\ufeffsku,title,colour_hex\na,Brick a,#b40000\n".encode())
    rows = [product(sku=sku, title=f"Catalog {sku}", finish="chrome") for sku in ("a", "b", "c", "d")]
    catalog = write_catalog(tmp_path / "catalog.parquet", rows)
    found = products_of_uploads(store, SKUS, str(catalog))
    assert found.keys() == {"a", "b", "c"}
    assert found["a"] == UploadedProduct(title="Brick a", colour_hex="#b40000")
    assert (found["b"].title, found["b"].finish) == ("Catalog b", "chrome")
    assert found["c"] == UploadedProduct(title="All of c")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"sku;title\na;x\n", "it has no column sku and no column title"),
        (b"", "it has no column sku"),
        ("sku,title\na,Stra\xdfe".encode("latin-1"), "decode"),
        (b'sku,title\na,"' + b"x" * 2**21, "field larger than field limit"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_left_out(
    text: bytes, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    store.put("photos/brick/products.csv", b"sku,title\nb,Good\n")
    store.put("photos/products.csv", text)
    with caplog.at_level(logging.WARNING):
        found = products_of_uploads(store, SKUS)
    assert found == {"b": UploadedProduct(title="Good")}
    assert "the uploads are used without photos/products.csv" in caplog.text
    assert said in caplog.text


def test_a_catalog_that_is_not_there_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert products_of_uploads(MemoryStore(), SKUS, "/nowhere/catalog.parquet") == {}
    assert "the uploads are used without the titles of the catalog: /nowhere/catalog.parquet" in caplog.text


def test_values_that_are_none_are_left_out() -> None:
    row = {"title": " Car ", "colour": "", "colour_hex": "red", "finish": "matte", "description": None}
    assert UploadedProduct.of(row) == UploadedProduct(title="Car")


def test_a_products_file_is_no_photo() -> None:
    assert is_products_file("photos/products.csv")
    assert is_products_file("photos/brick/products.csv")
    assert not is_products_file("photos/brick/sku-1/products.csv")
    store = MemoryStore()
    upload(store, range(2))
    store.put("photos/products.csv", b"sku,title\n")
    result = index_uploads(store, ("brick",))
    assert (result.listed, result.added, result.quarantined) == (2, 2, 0)


def test_uploads_are_read_with_their_titles() -> None:
    store = named_memory_store("titled-uploads")
    for sku in ("sku-1", "sku-2", "sku-3"):
        store.put(f"photos/brick/{sku}/front.png", picture(int(sku[-1])))
    store.put("photos/brick/products.csv", b"sku,title,colour_hex\nsku-2,Cup,#B40000\n")
    index_uploads(store)
    photos = [photo for split in ("train", "val") for photo in read_photos(store.uri, split=split)]
    said = {photo.sku: (photo.title, photo.colour_hex) for photo in photos}
    assert said == {"sku-1": (None, None), "sku-2": ("Cup", "#B40000"), "sku-3": (None, None)}
