"""What `toygan catalog check` says."""

from pathlib import Path

from PIL import Image

from tests.catalog_schemas.tables import product, write_catalog
from tests.toygan.planning.files import write
from toygan.planning.catalog_check import look_at_catalog


def test_a_check_says_what_is_understood_and_what_is_not(tmp_path: Path) -> None:
    path = write(
        tmp_path / "c.csv",
        "sku,category,title,color,price\n1,积木,Brick,Red,1\n,积木,Brick,Red,1\n3,积木,,,\n",
    )
    said = look_at_catalog(str(path), {}).text().splitlines()
    assert said[0].endswith("text of cells between commas, UTF-8; its columns are the catalog's own")
    assert said[1:] == [
        "read: sku, category, title, colour from color",
        "not read: price",
        "1 product, 2 rows set aside",
        "1 categories: 积木 (1)",
        "set aside: 1 x sku: null, such as row 1",
        "set aside: 1 x title: null, such as row 2 (3)",
    ]


def test_a_check_of_parquet_names_its_columns_too(tmp_path: Path) -> None:
    said = look_at_catalog(str(write_catalog(tmp_path / "c.parquet", [product()])), {}).text()
    assert "Parquet\nread: sku, category, title, description" in said


def test_nothing_in_a_catalog_controls_the_terminal(tmp_path: Path) -> None:
    text = "sku,category,title,mine\x1b]0;owned\x07\nA\x1b[2J,car,Car,\nB,car,Car,\n"
    path = tmp_path / "c.csv"
    path.write_text(text + "".join(f"C{number},car,A car of steel,\n" for number in range(30)))
    said = look_at_catalog(str(path), {}).text()
    assert all(letter.isprintable() or letter == "\n" for letter in said)
    assert r"not read: mine\x1b]0;owned\x07" in said
    assert r"such as row 0 (A\x1b[2J)" in said


def test_a_check_looks_at_the_files_that_rows_name(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    Image.new("L", (40, 40), "white").save(tmp_path / "shop" / "good.png")
    (tmp_path / "secret.png").write_bytes(b"")
    (tmp_path / "shop" / "link.png").symlink_to(tmp_path / "secret.png")
    with (tmp_path / "shop" / "large.png").open("wb") as file:
        file.truncate(2**32)
    names = ("good.png", "none.png", "large.png", "link.png", "../secret.png")
    rows = [product(sku=name.strip("./"), sketch_uri=name) for name in names]
    said = look_at_catalog(str(write_catalog(tmp_path / "shop" / "c.parquet", rows)), {}).text()
    assert "1 product, 4 rows set aside" in said
    for reason, count in (("not_found", 1), ("too_large", 1)):
        assert f"set aside: {count} x sketch_uri: condition_file_{reason}" in said
    assert "set aside: 2 x sketch_uri: leaves_folder" in said


def test_a_check_decodes_the_files(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "torn.jpg").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (1, 1)).save(tmp_path / "tiny.png")
    Image.new("L", (64, 64), 3).save(tmp_path / "layout.png")
    rows = [product(sku=name, photo_uri=name) for name in ("whole.jpg", "torn.jpg", "tiny.png")]
    rows += [product(sku=name, layout_uri=name) for name in ("layout.png", "torn.jpg")]
    rows[-1]["sku"] = "torn layout"
    said = look_at_catalog(str(write_catalog(tmp_path / "c.parquet", rows)), {}).text()
    assert "2 products, 3 rows set aside" in said
    for column, count in (("photo_uri", 2), ("layout_uri", 1)):
        assert f"set aside: {count} x {column}: condition_file_unusable" in said
