"""Folders and tar files of pictures by category, as ImageNet's."""

import io
import os
import re
import tarfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from catalog_schemas.validation import NAME_PATTERN
from tests.pictures import saved
from tests.shards import COLOURS, photo
from toygan.data.by_category import holds_categories, read_categories, sku_of
from toygan.data.photos import load_photos
from toygan.data.split import split_of_upload
from toygan.errors import BadInput

PICTURE = photo(COLOURS[0])


def write_folder(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def write_tar(file: Path, members: Mapping[str, bytes]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file


def pictures(count: int, *, of_split: str = "train", suffix: str = "JPEG") -> dict[str, bytes]:
    """File names of the category n01 whose skus a hash puts into a split."""
    names = (f"n01_{number}.{suffix}" for number in range(100 * count))
    wanted = [name for name in names if split_of_upload(sku_of("n01", (name,))) == of_split]
    return dict.fromkeys(wanted[:count], PICTURE)


def read(folder: Path, split: str = "train") -> list[tuple[str, str]]:
    """Category and sku of every picture."""
    return [(each.category, each.sku) for each in read_categories(folder, split)]


def test_folders_and_tar_files_side_by_side(tmp_path: Path) -> None:
    train = pictures(3)
    write_folder(tmp_path / "n01", train)
    write_tar(tmp_path / "n00.tar", {f"./{name.replace('n01', 'n00')}": PICTURE for name in train})
    found = list(read_categories(tmp_path, "train"))
    stems = [Path(name).stem for name in sorted(train)]
    in_folder = [each for each in found if each.category == "n01"]
    assert [each.sku for each in in_folder] == stems
    assert [each.photo_id for each in in_folder] == [f"n01/{name}" for name in sorted(train)]
    assert {each.category for each in found} == {"n00", "n01"}
    assert [each.category for each in found] == sorted(each.category for each in found)
    assert {each.source for each in found} == {str(tmp_path / "n00.tar"), str(tmp_path / "n01")}
    assert all(each.photo == PICTURE for each in found)
    assert all(each.colour_hex is each.title is each.condition is None for each in found)


def test_the_same_pictures_from_a_folder_and_from_a_tar(tmp_path: Path) -> None:
    files = pictures(4) | pictures(2, of_split="val")
    write_folder(tmp_path / "folder" / "n01", files)
    write_tar(tmp_path / "tar" / "n01.tar", files)
    for split, count in (("train", 4), ("val", 2)):
        assert sorted(read(tmp_path / "folder", split)) == sorted(read(tmp_path / "tar", split))
        assert len(read(tmp_path / "tar", split)) == count


def test_train_and_val_in_places_of_their_own(tmp_path: Path) -> None:
    every = pictures(2) | pictures(2, of_split="val")
    write_folder(tmp_path / "train" / "n01", every)
    write_tar(tmp_path / "val" / "n01.tar", {"n01_val.JPEG": PICTURE})
    write_folder(tmp_path / "test" / "n01", {"n01_test.JPEG": PICTURE})
    assert len(read(tmp_path, "train")) == 4  # no tenth is kept from it
    assert read(tmp_path, "val") == [("n01", "n01_val")]


def test_train_alone_is_split(tmp_path: Path) -> None:
    write_folder(tmp_path / "train" / "n01", pictures(3) | pictures(2, of_split="val"))
    assert (len(read(tmp_path, "train")), len(read(tmp_path, "val"))) == (3, 2)


def test_a_category_may_be_called_train(tmp_path: Path) -> None:
    """A toy shop has trains: it is the name of a split only where categories lie below."""
    write_folder(tmp_path / "train", {"a.jpg": PICTURE, "b.jpg": PICTURE, "c.jpg": PICTURE})
    write_folder(tmp_path / "brick", {"d.jpg": PICTURE})
    found = read(tmp_path, "train") + read(tmp_path, "val")
    assert {category for category, _ in found} == {"train", "brick"}
    assert len(found) == 4


def test_what_is_no_picture_is_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    some = pictures(2, suffix="webp")
    others = {
        "readme.txt": b"text",
        "b.TXT": b"",
        ".hidden.jpg": PICTURE,
        "photo.heic": b"heic",
        "LICENSE": b"",
    }
    write_folder(tmp_path / "n01", some | others)
    (tmp_path / "n01" / "n01_0.jpg").mkdir()
    write_tar(tmp_path / "n01.tar", {f"./n01/{name}": data for name, data in (some | others).items()})
    write_folder(tmp_path / ".cache", {"a.jpg": PICTURE})
    (tmp_path / "labels.csv").write_text("n01,dog")
    assert len(read(tmp_path)) == 4
    assert f"left out of {tmp_path}: 1 .csv, because they are not in the folder of a category" in caplog.text
    kinds = "2 .txt, 1 .heic, 1 hidden, 1 without an extension; only JPEG, PNG, "
    for place in ("n01", "n01.tar"):
        assert f"left out of {tmp_path / place}: {kinds}" in caplog.text


def test_any_file_whose_content_is_a_picture_is_read(tmp_path: Path) -> None:
    formats = {"a.jfif": "JPEG", "b.jpe": "JPEG", "c.gif": "GIF", "d.bmp": "BMP", "e.tiff": "TIFF"}
    formats |= {"f.avif": "AVIF", "g.dat": "PNG", "h": "WEBP", "i.png_original": "PNG"}
    image = Image.new("RGB", (40, 40), "red")
    write_folder(tmp_path / "car", {name: saved(image, kind) for name, kind in formats.items()})
    splits = [load_photos(tmp_path, resolution=32, split=split) for split in ("train", "val")]
    assert sorted(sku for photos in splits for sku in photos.skus) == sorted(
        f"car-{Path(name).stem}" for name in formats
    )


def test_a_folder_below_a_category_is_a_product(tmp_path: Path) -> None:
    write_folder(tmp_path / "car" / "sku 1" / "angles", {"left.jpg": PICTURE})
    write_folder(tmp_path / "car" / "sku 1", {"front.jpg": PICTURE})
    write_folder(tmp_path / "car" / "red", {"front.jpg": PICTURE})
    write_tar(
        tmp_path / "bus.tar", {"bus/sku2/1.jpg": PICTURE, "bus/sku2/2.jpg": PICTURE, "bus/3.jpg": PICTURE}
    )
    found = Counter(read(tmp_path, "train") + read(tmp_path, "val"))
    named = sku_of("car", ("sku 1", "front.jpg"))
    assert named.startswith("sku-1-")
    assert found == {("car", named): 2, ("car", "red"): 1, ("bus", "sku2"): 2, ("bus", "bus-3"): 1}


def test_a_category_with_nothing_left_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_folder(tmp_path / "good", pictures(2))
    write_folder(tmp_path / "none", {"a.heic": b"", "b.heic": b""})
    write_folder(tmp_path / "small", {"a.png": saved(Image.new("RGB", (2, 4000)), "PNG")})
    measured = next(sku for sku in map(str, range(100)) if split_of_upload(sku) == "val")
    write_folder(tmp_path / "one" / measured, {"1.jpg": PICTURE, "2.jpg": PICTURE})
    assert load_photos(tmp_path, resolution=32, split="train").categories == ("good",)
    assert (
        f"the category 'none' has no pictures, because {tmp_path / 'none'} holds no usable picture"
        in caplog.text
    )
    assert "left out of" in caplog.text
    assert "2 .heic; only" in caplog.text
    assert "skipped the photo small/a.png of the product small-a" in caplog.text
    assert "2 x 4000 pixels, but each side needs at least 32" in caplog.text
    assert "the category 'small' has no photos left: of its photos 1 cannot be used" in caplog.text
    assert "the category 'one' has nothing left to train on: its 2 photos are of products that" in caplog.text


def test_a_split_that_leaves_nothing_is_explained(tmp_path: Path) -> None:
    write_folder(tmp_path / "n01", pictures(1, of_split="val"))
    with pytest.raises(
        BadInput, match=r"photo of split 'train' in .*: there are only 1 of split 'val'; .*Add pro"
    ):
        load_photos(tmp_path, resolution=32, split="train")
    with pytest.raises(BadInput, match=r"all 1 are of products that another step uses, .*; add products"):
        load_photos(tmp_path, resolution=32, split="val", keep_sku=lambda sku: False)
    write_folder(tmp_path / "n01", dict.fromkeys(pictures(1), b"torn"))
    with pytest.raises(BadInput, match=r"all 1 were skipped, the first one n01/n01_\d+\.JPEG: this is not"):
        load_photos(tmp_path, resolution=32, split="train")


def test_one_file_that_is_too_large_stops_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good, large = pictures(2)
    write_folder(tmp_path / "n01", {good: PICTURE})
    with (tmp_path / "n01" / large).open("wb") as file:
        file.truncate(30 * 2**30)  # sparse
    assert len(read(tmp_path)) == 1
    assert f"skipped the file {large} in {tmp_path / 'n01'}: the file has 32,212,254,720 bytes" in caplog.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_one_file_that_cannot_be_read_stops_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good, closed = pictures(2)
    write_folder(tmp_path / "n01", {good: PICTURE, closed: PICTURE})
    (tmp_path / "n01" / closed).chmod(0)
    assert len(read(tmp_path)) == 1
    assert (
        f"skipped the file {closed} in {tmp_path / 'n01'}: it cannot be read (Permission denied)"
        in caplog.text
    )


def test_links_to_folders_and_broken_links_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_folder(tmp_path / "n01", pictures(1))
    (folder / "loop").symlink_to(folder)
    (folder / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    os.mkfifo(folder / "pipe.jpg")
    assert len(read(tmp_path)) == 1
    assert "2 no file, 1 link to a folder" in caplog.text


def test_whether_there_are_categories(tmp_path: Path) -> None:
    assert not holds_categories(tmp_path / "missing")
    assert not holds_categories(tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / "photo.jpg").write_bytes(PICTURE)
    assert not holds_categories(tmp_path)
    write_tar(tmp_path / "n01.tar", {})
    assert holds_categories(tmp_path)


@pytest.mark.parametrize("name", ["toy cars", "spielzeug-züge", "a" * 129, "a:b"])
def test_a_category_that_no_catalog_could_name(tmp_path: Path, name: str) -> None:
    write_folder(tmp_path / name, pictures(1))
    with pytest.raises(BadInput, match=r"gives a category the name .* rename it to letters of A-Z a-z 0-9"):
        read(tmp_path)


def damaged_tars() -> dict[str, bytes]:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in pictures(3):
            info = tarfile.TarInfo(name)
            info.size = len(PICTURE)
            archive.addfile(info, io.BytesIO(PICTURE))
    whole = file.getvalue()
    return {
        "empty": b"",
        "text": b"this is no tar file" * 100,
        "cut in a picture": whole[: 512 + len(PICTURE) // 2],
        "cut in a header": whole[:100],
        "overwritten": b"\0x" * 300 + whole[600:],
    }


@pytest.mark.parametrize("damage", damaged_tars())
def test_a_damaged_tar_is_named(tmp_path: Path, damage: str) -> None:
    (tmp_path / "n01.tar").write_bytes(damaged_tars()[damage])
    with pytest.raises(BadInput, match=r"n01\.tar is damaged or is not a tar file .*; copy or make it again"):
        read(tmp_path)


def test_a_tar_writes_nothing_anywhere(tmp_path: Path) -> None:
    """Members that climb out or link elsewhere: only the last part of a name counts, links are no files."""
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    folder = tmp_path / "photos"
    with tarfile.open(write_tar(folder / "n01.tar", {}), "w") as archive:
        info = tarfile.TarInfo("../../escaped.jpg")
        info.size = len(PICTURE)
        archive.addfile(info, io.BytesIO(PICTURE))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            link = tarfile.TarInfo("link.jpg")
            link.type, link.linkname = kind, str(tmp_path / "secret.jpg")
            archive.addfile(link)
    before = sorted(tmp_path.rglob("*"))
    assert read(folder, "train") + read(folder, "val") == [("n01", "n01-escaped")]
    assert sorted(tmp_path.rglob("*")) == before


def test_what_the_system_refuses_to_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "n01.tar").mkdir()
    with pytest.raises(BadInput, match=r"n01\.tar cannot be read \(Is a directory\)"):
        read(tmp_path)


def test_skus() -> None:
    assert sku_of("n01", ("n01_7.JPEG",)) == "n01_7"
    assert sku_of("brick", ("7.jpg",)) == "brick-7"
    changed = [sku_of("brick", (name,)) for name in ("rot (1).jpg", "rot [1].jpg")]
    assert changed[0] != changed[1]
    assert all(sku.startswith("brick-rot-1-") for sku in changed)


@given(st.text(min_size=1).filter(lambda name: not {"/", "\0"} & set(name)))
def test_every_file_name_makes_a_sku(name: str) -> None:
    assert re.fullmatch(NAME_PATTERN, sku_of("brick", (f"{name}.jpg",)))


def test_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "n01", {})
    (folder / os.fsdecode(b"n01_\xff.jpg")).write_bytes(PICTURE)
    (found,) = [each for split in ("train", "val") for each in read_categories(tmp_path, split)]
    assert found.photo_id == r"n01/n01_\xFF.jpg"
    found.sku.encode()


def test_a_broken_picture_is_skipped_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good, broken = pictures(2)
    write_tar(tmp_path / "n01.tar", {good: PICTURE, broken: PICTURE[:200]})
    photos = load_photos(tmp_path, resolution=32, split="train")
    assert photos.skus == (Path(good).stem,)
    assert (
        f"skipped the photo n01/{broken} of the product {Path(broken).stem} in {tmp_path / 'n01.tar'}"
        in caplog.text
    )
    assert "skipped 1 photos that cannot be used; 1 are left" in caplog.text
