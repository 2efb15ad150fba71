"""Pictures sorted by category as image collections are: `<category>/<file>`, or `<category>.tar` of files.

Of a picture no more is known than its category. Its sku comes from its name, `<category>-<stem>`, or the stem
alone where that begins with the category already (as ImageNet's do).
"""

import hashlib
import logging
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from catalog_schemas.validation import NAME_PATTERN
from toygan.data.photo import Photo
from toygan.data.split import split_of_upload
from toygan.errors import BadInput

log = logging.getLogger(__name__)

TAR = ".tar"
PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp"})  # in any case: ImageNet writes .JPEG

_NAME = re.compile(NAME_PATTERN)
_NO_LETTERS = re.compile(r"[^A-Za-z0-9._-]+")
_HASH_LETTERS = 8


def holds_categories(folder: Path) -> bool:
    """Whether any folder or tar file lies in `folder`, that is not hidden."""
    return bool(_categories(folder))


def read_categories(folder: Path, split: str) -> Iterator[Photo]:
    """The pictures of `split`, category by category, each category's in the order of their names.

    `folder` holds the categories, or the folders `train` and `val` that do (and `test`, which is left out).
    Where there is no such `val` a stable tenth of the skus is. A tar file is read as a stream, nothing is
    extracted. Raises BadInput for a category whose name no catalog could hold, and for a tar file that is
    damaged.
    """
    train, val = _splits(folder)
    for category in _categories(val if val and split == "val" else train):
        name = category.stem if category.suffix == TAR else category.name
        if not _NAME.fullmatch(name):
            raise BadInput(
                f"{category} gives a category the name {name!r}; rename it to letters of A-Z a-z 0-9 . _ -"
            )

        def is_wanted(file: str, name: str = name) -> bool:
            return _is_picture(file) and (val is not None or split_of_upload(sku_of(name, file)) == split)

        read = _read_tar if category.suffix == TAR else _read_folder
        for file, data in read(category, is_wanted):
            yield Photo(
                photo_id=f"{name}/{_printable(file)}",
                sku=sku_of(name, file),
                category=name,
                title=None,
                colour_hex=None,
                photo=data,
                condition=None,
                source=str(category),
            )


def sku_of(category: str, file: str) -> str:
    """The sku of a picture; where its name has to be changed for one, a hash keeps it apart from others."""
    stem = PurePosixPath(file).stem
    name = stem if stem.startswith(category) else f"{category}-{stem}"
    if _NAME.fullmatch(name):
        return name
    digest = hashlib.sha256(_bytes(name)).hexdigest()[:_HASH_LETTERS]
    return f"{_NO_LETTERS.sub('-', name)[: 127 - _HASH_LETTERS]}-{digest}"


def _categories(folder: Path) -> list[Path]:
    """The folders and tar files in `folder`, sorted by category."""
    found = folder.iterdir() if folder.is_dir() else iter(())
    visible = (each for each in found if not each.name.startswith("."))
    return sorted(each for each in visible if each.suffix == TAR or each.is_dir())


def _splits(folder: Path) -> tuple[Path, Path | None]:
    """Where the categories of `train` lie, and those of `val` where they have a place of their own."""
    names = {each.name for each in _categories(folder)}
    train, val = folder / "train", folder / "val"
    if not {"train"} <= names <= {"train", "val", "test"} or not holds_categories(train):
        return folder, None
    return train, val if holds_categories(val) else None


def _read_folder(folder: Path, is_wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    for file in sorted(folder.iterdir()):
        if is_wanted(file.name) and file.is_file():
            try:
                yield file.name, file.read_bytes()
            except OSError as error:
                raise BadInput(f"{file} cannot be read ({error.strerror}); check its permissions") from error


def _read_tar(file: Path, is_wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(file, "r|") as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                if member.isfile() and is_wanted(name) and (data := archive.extractfile(member)):
                    yield name, data.read()
    except tarfile.TarError as error:
        raise BadInput(f"{file} is damaged or no tar file ({error}); copy or make it again") from error
    except OSError as error:
        raise BadInput(f"{file} cannot be read ({error.strerror}); check its permissions") from error


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and PurePosixPath(name).suffix.lower() in PICTURES


def _bytes(name: str) -> bytes:
    """A file name need not be valid UTF-8."""
    return name.encode("utf-8", "surrogateescape")


def _printable(name: str) -> str:
    return _bytes(name).decode("utf-8", "backslashreplace")
