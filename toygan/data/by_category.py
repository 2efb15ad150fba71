"""Reads pictures in folders of categories: `<category>/<file>`, or `<category>.tar` of files.

Only the category and the product of a picture are known. A folder inside a category is one product:
`<category>/<sku>/<file>`. A picture directly in the category's folder is a product by itself. Its sku is
`<category>-<stem>`. If the stem begins with the category (as in ImageNet), the sku is the stem.

Every file whose content is a picture is used, whatever its name. The log gives the number of other files.
"""

import hashlib
import logging
import os
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from catalog_schemas.validation import NAME_PATTERN
from toygan.data.photo import Photo
from toygan.data.split import nothing_to_train_on, split_of_upload
from toygan.errors import BadInput
from toygan.names import printable
from toygan.picture_files import HEAD_BYTES, READABLE, check_size, format_of

log = logging.getLogger(__name__)

TAR = ".tar"
# In lower case; the case of a file's extension does not matter, since ImageNet has .JPEG. If such a file is
# not a picture, the decoder reports it.
PICTURES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".gif"}) | {
    *(".tif", ".tiff", ".bmp", ".dib")
}

_NAME = re.compile(NAME_PATTERN)
_NO_LETTERS = re.compile(r"[^A-Za-z0-9._-]+")
_HASH_LETTERS = 8


class _File(NamedTuple):
    """A file of a category; `parts` are the parts of its path below the category."""

    parts: tuple[str, ...]
    size: int  # bytes
    open: Callable[[], IO[bytes]]

    @property
    def name(self) -> str:
        """The file's name in messages."""
        return printable("/".join(self.parts))


def holds_categories(folder: Path) -> bool:
    """Returns whether `folder` contains a folder or a tar file that is not hidden."""
    return bool(_categories(folder))


def loose_files(folder: Path) -> Counter[str]:
    """Counts the files directly in `folder`, by extension. These belong to no category."""
    found = folder.iterdir() if folder.is_dir() else iter(())
    return Counter(_kind(each.name) for each in found if each.is_file() and each.suffix != TAR)


def said(kinds: Mapping[str, int]) -> str:
    """Formats counts by extension for messages: `10 .heic, 2 .txt`, the most frequent first."""
    return ", ".join(
        f"{count} {kind}" for kind, count in sorted(kinds.items(), key=lambda each: (-each[1], each))
    )


def read_categories(folder: Path, split: str) -> Iterator[Photo]:
    """Yields the pictures of `split`, category by category, in the order of their names.

    `folder` contains the categories, or folders `train` and `val` that contain them. A folder `test` is not
    read. Without a folder `val`, a fixed tenth of the skus is `val`. Tar files are read as streams; no file
    is extracted. The log gives the number of files that are left out, by extension, and names categories of
    which no picture is left. Raises BadInput for a name that a category of a catalog cannot have, and for a
    damaged tar file.
    """
    train, val = _splits(folder)
    place = val if val and split == "val" else train
    if loose := loose_files(place):
        log.warning(
            "left out of %s: %s, because they are not in the folder of a category", place, said(loose)
        )
    for path in _categories(place):
        name = path.stem if path.suffix == TAR else path.name
        if not _NAME.fullmatch(name):
            raise BadInput(
                f"{path} gives a category the name {name!r}, which is not valid; "
                "rename it to letters of A-Z a-z 0-9 . _ -"
            )
        category = _Category(path=path, name=name, split=split, is_split=val is not None)
        yield from category.photos()
        category.say_what_is_left_out()


def sku_of(category: str, parts: tuple[str, ...]) -> str:
    """Returns the sku of a picture.

    If the name has characters that a sku may not have, they are replaced. Then a hash is added, which keeps
    the sku unique.
    """
    *folders, file = parts
    stem = PurePosixPath(file).stem
    name = folders[0] if folders else stem if stem.startswith(category) else f"{category}-{stem}"
    if _NAME.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:_HASH_LETTERS]
    return f"{_NO_LETTERS.sub('-', name)[: 127 - _HASH_LETTERS]}-{digest}"


@dataclass(kw_only=True)
class _Category:
    """Reads one folder or tar file and counts its files."""

    path: Path
    name: str
    split: str
    is_split: bool  # whether all files here are of `split`
    left_out: Counter[str] = field(default_factory=Counter)
    read: int = 0
    of_other_split: int = 0

    def photos(self) -> Iterator[Photo]:
        with _named_tar_errors(self.path):
            for file in self._in_tar() if self.path.suffix == TAR else self._in_folder():
                if not file.parts or any(part.startswith(".") for part in file.parts):
                    self.left_out["hidden"] += 1
                    continue
                sku = sku_of(self.name, file.parts)
                is_wanted = self.is_split or split_of_upload(sku) == self.split
                data = self._read(file, is_wanted=is_wanted)
                if data is None:
                    continue
                if not is_wanted:
                    self.of_other_split += 1
                    continue
                self.read += 1
                yield Photo(
                    photo_id=f"{self.name}/{file.name}",
                    sku=sku,
                    category=self.name,
                    title=None,
                    colour_hex=None,
                    photo=data,
                    condition=None,
                    source=str(self.path),
                )

    def say_what_is_left_out(self) -> None:
        if kinds := said(+self.left_out):
            log.warning("left out of %s: %s; only %s pictures can be read", self.path, kinds, READABLE)
        if self.read:
            return
        if not self.of_other_split:
            log.warning(
                "the category %r has no pictures, because %s holds no usable picture", self.name, self.path
            )
        elif self.split == "train":
            log.warning("%s", nothing_to_train_on(self.name, self.of_other_split))

    def _read(self, file: _File, *, is_wanted: bool) -> bytes | None:
        """Returns the content of a picture, or None if the file is left out.

        For a picture that is not wanted, returns only the first bytes, or no bytes if the file's name shows
        that it is a picture.
        """
        suffix = PurePosixPath(file.parts[-1]).suffix.lower()
        if suffix in PICTURES and not is_wanted:
            return b""
        try:
            check_size(file.size)
            with file.open() as opened:
                head = opened.read(HEAD_BYTES)
                if format_of(head) is None and suffix not in PICTURES:
                    self.left_out[_kind(file.parts[-1])] += 1
                    return None
                return head + opened.read() if is_wanted else head
        except BadInput as error:
            problem, kind = str(error), "too large"
        except OSError as error:
            if self.path.suffix == TAR:
                raise
            problem, kind = f"it cannot be read ({error.strerror}); check its permissions", "unreadable"
        log.warning("skipped the file %s in %s: %s", file.name, self.path, problem)
        self.left_out[kind] += 1
        return None

    def _in_folder(self) -> Iterator[_File]:
        def unreadable(error: OSError) -> None:
            name = printable(str(error.filename))
            log.warning("skipped the file %s: it cannot be read (%s)", name, error.strerror)
            self.left_out["unreadable folder"] += 1

        paths: list[Path] = []
        for folder, below, files in os.walk(self.path, onerror=unreadable):
            paths += (Path(folder, name) for name in files)
            self.left_out["link to a folder"] += sum(Path(folder, name).is_symlink() for name in below)
        for path in sorted(paths):
            found = path.stat() if path.is_file() else None
            if found is None:
                self.left_out["no file"] += 1
                continue
            parts = _without_category(self.name, path.relative_to(self.path).parts)
            yield _File(parts, found.st_size, _opens(path))

    def _in_tar(self) -> Iterator[_File]:
        with tarfile.open(self.path, "r|") as archive:
            for member in archive:
                if opened := archive.extractfile(member) if member.isfile() else None:
                    parts = _without_category(self.name, PurePosixPath(member.name).parts)
                    yield _File(parts, member.size, _gives(opened))
                else:
                    self.left_out["no file"] += not member.isdir()


def _opens(path: Path) -> Callable[[], IO[bytes]]:
    return lambda: path.open("rb")


def _gives(opened: IO[bytes]) -> Callable[[], IO[bytes]]:
    return lambda: opened


@contextmanager
def _named_tar_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except tarfile.TarError as error:
        raise BadInput(f"{path} is damaged or is not a tar file ({error}); copy or make it again") from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}); check its permissions") from error


def _categories(folder: Path) -> list[Path]:
    """Returns the folders and tar files in `folder`, sorted by category."""
    found = folder.iterdir() if folder.is_dir() else iter(())
    visible = (each for each in found if not each.name.startswith("."))
    return sorted(each for each in visible if each.suffix == TAR or each.is_dir())


def _splits(folder: Path) -> tuple[Path, Path | None]:
    """Returns the folder with the categories of `train`, and the folder with those of `val` if it exists."""
    names = {each.name for each in _categories(folder)}
    train, val = folder / "train", folder / "val"
    if not {"train"} <= names <= {"train", "val", "test"} or not holds_categories(train):
        return folder, None
    return train, val if holds_categories(val) else None


def _without_category(category: str, parts: tuple[str, ...]) -> tuple[str, ...]:
    """Removes the category's own folder from the parts of a path.

    The result is used for names only, never to open a file.
    """
    plain = tuple(part for part in parts if part not in ("/", ".", ".."))
    return plain[1:] if len(plain) > 1 and plain[0] == category else plain


def _kind(name: str) -> str:
    return printable(PurePosixPath(name).suffix.lower()) or "without an extension"
