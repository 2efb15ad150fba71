"""A folder of snapshots is a catalog."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import pandas as pd
import pytest
from PIL import Image

from tests.faulty_proxy import faulty_proxy
from tests.pictures import saved
from tests.servers import S3Server, fresh_bucket
from toygan.errors import AccessRefused, CatalogError, StoreConfigError
from toygan.planning.catalog import Catalog, open_catalog
from toygan.planning.catalog_check import look_at_catalog
from toygan.planning.named_files import ConditionFileError
from toygan.storage.open_store import open_store

JPEG = saved(Image.new("RGB", (64, 64), "red"), "JPEG")
UNREADABLE = ("photo_uri", "condition_file_unreadable")
not_as_root = pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")


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


@contextmanager
def closed(*places: Path) -> Iterator[None]:
    """Nobody may read these files and folders in the block."""
    modes = [place.stat().st_mode for place in places]
    for place in places:
        place.chmod(0)
    try:
        yield
    finally:
        for place, mode in zip(places, modes, strict=True):
            place.chmod(mode)


@not_as_root
def test_a_snapshot_that_cannot_be_read_sets_its_row_aside_as_in_a_table(tmp_path: Path) -> None:
    shelf = fill(tmp_path / "shelf", **{"car/A-1.jpg": JPEG, "car/B-2.jpg": JPEG})
    table = "sku,category,title,photo_uri\nA-1,car,A,shelf/car/A-1.jpg\nB-2,car,B,shelf/car/B-2.jpg\n"
    fill(tmp_path, **{"catalog.csv": table.encode()})
    with closed(shelf / "car" / "B-2.jpg"):
        found = [look_at_catalog(str(place), {}) for place in (shelf, tmp_path / "catalog.csv")]
    assert [(check.good, dict(check.reasons)) for check in found] == [(1, {UNREADABLE: 1})] * 2
    assert found[0].examples == found[1].examples == {UNREADABLE: ["1 (B-2)"]}


@not_as_root
def test_a_folder_that_cannot_be_read_is_named_and_the_others_are_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, **{"car/A-1.jpg": JPEG, "lost+found/x": b"", ".trash/y": b""})
    with caplog.at_level(logging.WARNING), closed(tmp_path / "lost+found", tmp_path / ".trash"):
        check = look_at_catalog(str(tmp_path), {})
    assert (check.good, check.set_aside) == (1, 0)
    [warning] = caplog.messages
    assert f"{tmp_path} (lost+found/): Permission denied; make it readable for you" in warning


@not_as_root
def test_a_described_product_is_not_generated_without_a_snapshot_that_cannot_be_read(tmp_path: Path) -> None:
    """Its title alone would give another picture."""
    table = b"sku,title,category\nA-1,A,car\nB-2,B,plant\nC-3,C,car\nD-4,D,slope\nE-5,E,car\n"
    snapshots = ("car/A-1.jpg", "plant/B-2.jpg", "car/C-3/IMG_1.jpg")
    fill(tmp_path, **{"products.csv": table}, **dict.fromkeys(snapshots, JPEG))
    with closed(tmp_path / "plant", tmp_path / "car" / "C-3"):
        check = look_at_catalog(str(tmp_path), {})
    assert check.categories == {"car": 2, "slope": 1}
    assert check.set_aside == 2
    assert [row for rows in check.examples.values() for row in rows] == ["1 (B-2)", "2 (C-3)"]


@not_as_root
@pytest.mark.parametrize("name", [".", "products.csv"])
def test_a_root_or_a_table_that_cannot_be_read_stops_the_run(tmp_path: Path, name: str) -> None:
    shelf = fill(tmp_path / "shelf", **{"car/A-1.jpg": JPEG, "products.csv": b"sku,title\nA-1,Red car\n"})
    message = rf"{shelf}.*: Permission denied; make it readable for you$"
    with closed(shelf / name), pytest.raises(AccessRefused, match=message), open_catalog(str(shelf)):
        pass


def test_a_row_that_names_a_linked_folder_is_set_aside(tmp_path: Path) -> None:
    fill(tmp_path, **{"elsewhere/B-2.jpg": JPEG})
    table = b"sku,title,category,photo_uri\nA-1,A,car,\nB-2,B,car,link/B-2.jpg\n"
    shelf = fill(tmp_path / "shelf", **{"car/A-1.jpg": JPEG, "products.csv": table})
    (shelf / "link").symlink_to(tmp_path / "elsewhere")
    check = look_at_catalog(str(shelf), {})
    assert (check.good, dict(check.reasons)) == (1, {UNREADABLE: 1})


def test_an_object_that_may_not_be_read_sets_its_row_aside(
    rclone: S3Server, s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(f"{s3_uri}/shelf")
    for key in ("car/A-1.jpg", "car/secret.jpg"):
        store.put(key, JPEG)
    with faulty_proxy(rclone, lambda: "refused") as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        check = look_at_catalog(f"{s3_uri}/shelf/", {})
    assert (check.good, dict(check.reasons)) == (1, {UNREADABLE: 1})


def test_an_archived_object_sets_its_row_aside(moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = fresh_bucket(moto, monkeypatch)
    client = boto3.client("s3", region_name="us-east-1")
    for name, storage in (("A-1", "STANDARD"), ("B-2", "GLACIER")):
        client.put_object(Bucket=uri[5:], Key=f"car/{name}.jpg", Body=JPEG, StorageClass=storage)
    with open_catalog(f"{uri}/") as catalog:
        assert catalog.read_condition("car/A-1.jpg") == JPEG
        with pytest.raises(ConditionFileError, match=r"condition_file_unreadable: car/B-2\.jpg"):
            catalog.read_condition("car/B-2.jpg")


def test_wrong_credentials_stop_the_run(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    open_store(s3_uri).put("car/A-1.jpg", JPEG)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StoreConfigError, match="AWS_SECRET_ACCESS_KEY"), open_catalog(f"{s3_uri}/"):
        pass


@pytest.mark.service
def test_a_folder_of_snapshots_may_lie_in_a_bucket(rclone: S3Server, s3_uri: str) -> None:
    store = open_store(f"{s3_uri}/shelf")
    store.put("car/A-1.jpg", JPEG)
    store.put("products.csv", b"sku,title\nA-1,Red car\n")
    with open_catalog(f"{s3_uri}/shelf/") as catalog:
        rows = rows_of(catalog)
        assert catalog.read_condition("car/A-1.jpg") == JPEG
    assert rows.loc["A-1", "title"] == "Red car"
