"""A folder of snapshots is a catalog."""

import logging
from pathlib import Path

import pandas as pd
import pytest

from tests.servers import S3Server
from toygan.errors import CatalogError
from toygan.planning.catalog import Catalog, open_catalog
from toygan.storage.open_store import open_store

JPEG = b"\xff\xd8\xff" + bytes(20)


def rows_of(catalog: Catalog) -> pd.DataFrame:
    return pd.concat([batch.good for batch in catalog.stream()]).set_index("sku")


def fill(folder: Path, **files: bytes) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def test_each_snapshot_becomes_a_row(tmp_path: Path) -> None:
    fill(tmp_path, **{"car/A-1.jpg": JPEG, "积木/B 2/IMG_1.HEIC": JPEG + b"1", "积木/B 2/IMG_2.HEIC": JPEG})
    with open_catalog(str(tmp_path)) as catalog:
        rows = rows_of(catalog)
        assert catalog.read_condition(rows.loc["B 2", "photo_uri"]) == JPEG + b"1"
    assert rows["category"].to_dict() == {"A-1": "car", "B 2": "积木"}
    assert rows["title"].to_dict() == {"A-1": "A-1", "B 2": "B 2"}
    assert rows.loc["A-1", "photo_uri"] == "car/A-1.jpg"


def test_a_products_file_describes_the_products(tmp_path: Path) -> None:
    table = "sku;title;category;colour_hex\nA-1;Red car;;#C91A09\nC-3;Blue car;car;\nD-4;No category;;\n"
    fill(tmp_path, **{"car/A-1.jpg": JPEG, "car/E-5.png": JPEG, "products.csv": table.encode()})
    with open_catalog(str(tmp_path)) as catalog:
        [batch] = catalog.stream()
    rows = batch.good.set_index("sku")
    assert sorted(rows.index) == ["A-1", "C-3", "E-5"]
    assert list(rows.loc["A-1", ["title", "category", "colour_hex", "photo_uri"]]) == [
        "Red car",
        "car",
        "#C91A09",
        "car/A-1.jpg",
    ]
    assert pd.isna(rows.loc["C-3", "photo_uri"])
    assert batch.rejected[["sku", "column", "reason"]].to_numpy().tolist() == [["D-4", "category", "null"]]


def test_the_digest_follows_rows_and_file_names(tmp_path: Path) -> None:
    def digest() -> str:
        with open_catalog(str(tmp_path)) as catalog:
            return catalog.sha256

    fill(tmp_path, **{"car/A-1.jpg": JPEG})
    first = digest()
    assert digest() == first
    fill(tmp_path, **{"products.csv": b"sku,title\nA-1,Red car\n"})
    second = digest()
    fill(tmp_path, **{"car/A-2.jpg": JPEG})
    assert len({first, second, digest()}) == 3


def test_other_files_are_counted_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, **{"car/A-1.jpg": JPEG, "car/notes.txt": b"x", "IMG_7.jpg": JPEG, ".DS_Store": b"x"})
    with caplog.at_level(logging.WARNING), open_catalog(str(tmp_path)) as catalog:
        assert list(rows_of(catalog).index) == ["A-1"]
    assert "2 files are left out, because they are not pictures" in caplog.text
    assert "IMG_7.jpg, car/notes.txt" in caplog.text


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"notes.txt": b"x"}, "no snapshot in this folder; put snapshots at <category>/<sku>.jpg"),
        ({"car/A-1.jpg": JPEG, "products.csv": b"a,b\n1,2\n"}, "products.csv: the required column 'sku'"),
    ],
)
def test_a_folder_that_is_no_catalog_is_explained(
    files: dict[str, bytes], message: str, tmp_path: Path
) -> None:
    fill(tmp_path, **files)
    with pytest.raises(CatalogError, match=message), open_catalog(str(tmp_path)):
        pass


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(JPEG)
    folder = fill(tmp_path / "shelf", **{"car/A-1.jpg": JPEG})
    (folder / "car" / "A-2.jpg").symlink_to(secret)
    with open_catalog(str(folder)) as catalog:
        assert list(rows_of(catalog).index) == ["A-1"]


@pytest.mark.service
def test_a_folder_of_snapshots_may_lie_in_a_bucket(rclone: S3Server, s3_uri: str) -> None:
    store = open_store(f"{s3_uri}/shelf")
    store.put("car/A-1.jpg", JPEG)
    store.put("products.csv", b"sku,title\nA-1,Red car\n")
    with open_catalog(f"{s3_uri}/shelf/") as catalog:
        rows = rows_of(catalog)
        assert catalog.read_condition("car/A-1.jpg") == JPEG
    assert rows.loc["A-1", "title"] == "Red car"
