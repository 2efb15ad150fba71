import io
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torch import Tensor

from catalog_schemas.photos import PHOTO_SHARD
from tests.models import condition_file
from tests.shards import COLOURS, SHARD_SCHEMA, photo, photo_row, write_shard
from toygan.conditions.image import Drawing
from toygan.data.photo import WantedConditions
from toygan.data.photos import load_photos
from toygan.errors import BadInput


def test_photos_and_what_is_known_of_them(tmp_path: Path) -> None:
    write_shard(tmp_path, [photo_row("a", "plant", "#1E5AA8"), photo_row("b", "brick")], name="one")
    write_shard(tmp_path, [photo_row("c", "brick", None, photo=photo("#FAC80A"))], name="two")
    photos = load_photos(tmp_path, resolution=32, split="train")
    assert len(photos) == 3
    assert photos.images.shape == (3, 3, 32, 32)
    assert photos.images.dtype == torch.uint8
    assert photos.categories == ("brick", "plant")
    assert photos.category.tolist() == [1, 0, 0]
    assert photos.skus == ("a", "b", "c")
    assert photos.colour_hexes == ("#1E5AA8", COLOURS[0], None)
    assert photos.colour[2].tolist() == [0, 0, 0, 0]
    assert photos.of_category(0) == [1, 2]
    centres = photos.images[:, :, 16, 16].int()
    wanted = torch.tensor([[0x1E, 0x5A, 0xA8], [0xB4, 0, 0], [0xFA, 0xC8, 0x0A]])
    assert (centres - wanted).abs().max() <= 6  # JPEG


def test_only_the_split_and_the_products_asked_for(tmp_path: Path) -> None:
    rows = [photo_row("a"), photo_row("b", split="val"), photo_row("c")]
    write_shard(tmp_path, rows)
    assert load_photos(tmp_path, resolution=32, split="val").skus == ("b",)
    kept = load_photos(tmp_path, resolution=32, split="train", keep_sku=lambda sku: sku != "a")
    assert kept.skus == ("c",)


def test_a_broken_photo_is_skipped_counted_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cut = photo(COLOURS[0])[:-100]
    rows = [photo_row("good"), photo_row("cut", photo=cut), photo_row("text", photo=b"no picture")]
    write_shard(tmp_path, rows)
    with caplog.at_level(logging.WARNING):
        photos = load_photos(tmp_path, resolution=32, split="train")
    assert photos.skus == ("good",)
    messages = [record.getMessage() for record in caplog.records]
    assert (
        "skipped the photo cut-0 of the product cut in photos-000.parquet: the picture is damaged"
        in messages[0]
    )
    assert (
        "skipped the photo text-0 of the product text in photos-000.parquet: this is not a JPEG"
        in messages[1]
    )
    assert messages[2] == "skipped 2 photos that cannot be used; 1 are left"


def test_a_malformed_row_is_skipped_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_shard(tmp_path, [photo_row("good")] * 300 + [photo_row("odd", colour_hex="red", photo=b"x")])
    with caplog.at_level(logging.WARNING):
        photos = load_photos(tmp_path, resolution=32, split="train")
    assert len(photos) == 300
    assert "skipped row 300 (sku odd) of photos-000.parquet: its colour_hex is malformed" in caplog.text


def test_a_tall_photo_is_laid_on_a_white_square(tmp_path: Path) -> None:
    write_shard(tmp_path, [photo_row("tall", photo=photo("#000000", size=(40, 80)))])
    image = load_photos(tmp_path, resolution=80, split="train").images[0, 0]
    dark = np.argwhere(image.numpy() < 128)
    top, left = dark.min(0)
    bottom, right = dark.max(0)
    # The box of 20 x 40 pixels of the photo keeps its shape, in the middle.
    assert (top, bottom) == (20, 60)
    assert (left, right) == (30, 50)
    assert (image[:, :19] > 240).all()


def test_any_resolution(tmp_path: Path) -> None:
    write_shard(tmp_path, [photo_row("a")])
    assert load_photos(tmp_path, resolution=48, split="train").images.shape == (1, 3, 48, 48)


def test_a_transparent_png_is_a_photo_too(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGBA", (32, 32), (0, 0, 0, 0)).save(file, "PNG")
    write_shard(tmp_path, [photo_row("a", photo=file.getvalue())])
    assert (load_photos(tmp_path, resolution=32, split="train").images == 255).all()


def test_categories_can_be_given(tmp_path: Path) -> None:
    write_shard(tmp_path, [photo_row("a", "plant")])
    photos = load_photos(tmp_path, resolution=32, split="train", categories=("car", "plant"))
    assert photos.categories == ("car", "plant")
    assert photos.category.tolist() == [1]
    with pytest.raises(BadInput, match="no model for the categories plant; known are car"):
        load_photos(tmp_path, resolution=32, split="train", categories=("car",))


def test_the_digest_tells_photos_apart(tmp_path: Path) -> None:
    def digest(name: str, *rows: dict[str, object]) -> str:
        return load_photos(write_shard(tmp_path / name, rows), resolution=32, split="train").sha256

    row, other = photo_row("a"), photo_row("b", "plant")
    original = digest("0", row, other)
    assert original == digest("1", row, other)
    assert original != digest("2", other, row)
    assert original != digest("3", row)
    assert original != digest("4", row | {"photo": photo("#000000")}, other)
    assert original != digest("5", row | {"colour_hex": "#000000"}, other)
    assert original != digest("6", row, other | {"category": "tree"})


def test_what_a_shard_says_beside_the_picture(tmp_path: Path) -> None:
    """A colour without its hex stays in the title: no other condition would tell it."""
    known = {"title": "Cup, Red", "colour": "Red", "description": " "}
    rows = [photo_row("a", **known), photo_row("b", colour_hex=None, **known)]
    fields = [PHOTO_SHARD.field(name) for name in known]
    write_shard(tmp_path, rows, schema=pa.unify_schemas([SHARD_SCHEMA, pa.schema(fields)]))
    photos = load_photos(tmp_path, resolution=32, split="train")
    assert [each.text for each in photos.words] == ["Cup", "Cup, Red"]
    assert not photos.hold_descriptions


def test_no_shards(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(BadInput, match="no photos in"):
            load_photos(folder, resolution=32, split="train")


def test_nothing_usable(tmp_path: Path) -> None:
    write_shard(tmp_path, [photo_row("a", split="val"), photo_row("b", photo=b"broken")])
    with pytest.raises(BadInput, match="no usable photo of split 'train'"):
        load_photos(tmp_path, resolution=32, split="train")


def test_files_that_are_no_shards(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "good", [photo_row("a")]) / "photos-000.parquet"
    data = shard.read_bytes()
    for name, content, message in [
        ("truncated", data[: len(data) // 2], "truncated"),
        ("text", b"sku,photo\n", "not a Parquet file"),
        ("empty", b"", "empty"),
        ("damaged", data[:4] + bytes(len(data) // 2) + data[4 + len(data) // 2 :], "damaged"),
    ]:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "photos-000.parquet").write_bytes(content)
        with pytest.raises(BadInput, match=rf"photos-000\.parquet.*{message}"):
            load_photos(folder, resolution=32, split="train")


def test_a_column_is_missing_or_of_another_type(tmp_path: Path) -> None:
    row = photo_row("a")
    without = SHARD_SCHEMA.remove(SHARD_SCHEMA.get_field_index("photo"))
    with pytest.raises(BadInput, match="'photo' is missing"):
        load_photos(write_shard(tmp_path / "0", [row], schema=without), resolution=32, split="train")
    index = SHARD_SCHEMA.get_field_index("sku")
    numbered = SHARD_SCHEMA.set(index, pa.field("sku", pa.int64()))
    with pytest.raises(BadInput, match="'sku' has the type int64"):
        load_photos(
            write_shard(tmp_path / "1", [row | {"sku": 1}], schema=numbered), resolution=32, split="train"
        )


def drawings_shard(folder: Path) -> Path:
    """Three photos: with a layout and lines, with a layout, with neither."""
    layout, sketch = condition_file("layout", 0, 3), condition_file("sketch", 0)
    rows = [photo_row("a", layout=layout, sketch=sketch), photo_row("b", layout=layout), photo_row("c")]
    fields = [PHOTO_SHARD.field(name) for name in ("layout", "sketch")]
    return write_shard(folder, rows, schema=pa.unify_schemas([SHARD_SCHEMA, pa.schema(fields)]))


def test_lines_belong_to_a_layout_and_may_be_unknown(tmp_path: Path) -> None:
    shard = drawings_shard(tmp_path)
    photos = load_photos(
        shard, resolution=32, split="train", drawings=WantedConditions(kind="layout", lines=True)
    )
    assert photos.skus == ("a", "b")  # the last has no layout
    assert photos.lines is not None
    assert (photos.lines[0] < 128).any()
    assert (photos.lines[1] == 255).all()
    conditions = photos.conditions(torch.tensor([1, 0]))
    assert conditions["layout"].shape == (2, 32, 32)
    assert conditions["sketch"].shape == (2, 1, 32, 32)
    assert (conditions["sketch"][0] == 1).all()
    assert (conditions["sketch"][1] < 0).any()
    drawings = WantedConditions(kind="layout", lines=True, needs_lines=True)
    needed = load_photos(shard, resolution=32, split="train", drawings=drawings)
    assert needed.skus == ("a",)
    without = load_photos(shard, resolution=32, split="train", drawings=WantedConditions(kind="layout"))
    assert without.lines is None
    assert without.sha256 != photos.sha256


def test_missing_drawings_are_predicted_if_a_model_can(tmp_path: Path) -> None:
    """And nothing else is: what a shard says of its photos stands."""
    seen: list[torch.Size] = []

    def layout_predictor(image: Tensor) -> Drawing:
        seen.append(image.shape)
        return Drawing(np.full((32, 32), 7, np.uint8), np.full((32, 32), 9, np.uint8))

    photos = load_photos(
        drawings_shard(tmp_path),
        resolution=32,
        split="train",
        drawings=WantedConditions(kind="layout", lines=True, predictor=layout_predictor),
    )
    assert photos.skus == ("a", "b", "c")
    assert photos.lines is not None
    assert photos.condition_images is not None
    assert [bool((each == 9).all()) for each in photos.lines] == [False, True, True]
    assert [bool((each == 7).all()) for each in photos.condition_images] == [False, False, True]
    assert seen == [torch.Size((3, 32, 32))] * 2


def test_the_real_photos(toybricks: Path) -> None:
    photos = load_photos(toybricks / "photos", resolution=32, split="val")
    assert len(photos) > 100
    assert len(photos.categories) == 10
    white_share = (photos.images[:, :, 0, :] > 220).float().mean()
    assert white_share > 0.95  # white ground along the upper border
