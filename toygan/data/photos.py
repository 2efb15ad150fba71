"""Product photos in memory, ready for training."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toygan.conditions.category import encode_categories
from toygan.conditions.colour import encode_accents, encode_colours
from toygan.conditions.colour_names import ColourNames
from toygan.conditions.condition_types import ImageCondition
from toygan.conditions.drawing_files import DrawingFiles
from toygan.conditions.image import PAPER, READERS, Drawing, encode_images, fit_square, read_sketch
from toygan.conditions.labelled_colours import LabelledColours
from toygan.conditions.product import ProductConditions
from toygan.conditions.text_config import READS_ALL, TextConfig, TextFields
from toygan.data.buffer import open_buffer
from toygan.data.found import Found
from toygan.data.photo import NO_CONDITIONS, Photo, WantedConditions
from toygan.data.snapshot_pairs import read_free_snapshot, read_snapshot_pair
from toygan.data.sources import read_photos
from toygan.errors import BadInput
from toygan.images import decode_photo
from toygan.parallel import in_order

if TYPE_CHECKING:
    from toygan.conditions.text import TextEncoder

WHITE = 255

_WITHOUT_FILES: Final[dict[str, Any]] = {
    "photo": b"",
    **dict.fromkeys(("condition", "lines", "mask", "layout", "free_snapshot", "free_mask")),
}


@dataclass(frozen=True, kw_only=True)
class PhotoSet:
    """N photos of one size with their categories, colours, texts and condition images."""

    images: Tensor  # (N, 3, R, R) uint8
    category: Tensor  # (N,) int64, index into `categories`
    colour: Tensor  # (N, 4) float32, see toygan.conditions.colour
    colour_hexes: tuple[str | None, ...]
    finishes: tuple[str | None, ...]
    words: tuple[TextFields, ...]
    skus: tuple[str, ...]
    categories: tuple[str, ...]
    image_condition: ImageCondition | None = None
    condition_images: Tensor | None = (
        None  # (N, R, R) uint8, photos (N, R, R, 4), see toygan.conditions.image
    )
    # (N, S, S, 4) uint8, see `toygan.data.snapshot_pairs.read_free_snapshot`; None if no photo has one
    free_snapshots: Tensor | None = None
    lines: Tensor | None = None  # (N, R, R) uint8, the sketches beside the condition images; white if unknown
    # N layouts with their lines, in the resolution of their files; empty if they are not wanted
    files: tuple[DrawingFiles, ...] = ()
    text_config: TextConfig = READS_ALL  # how the texts were taken from titles and descriptions
    hold_descriptions: bool = False  # whether any text contains a description
    earlier_labels: LabelledColours | None = None  # the labels of the model from which a training starts
    text: Tensor | None = None  # (N, text_size) float32, set by `with_text`

    def __len__(self) -> int:
        return len(self.images)

    @property
    def text_size(self) -> int:
        """The length of a text's embedding; 0 if no texts are used."""
        return 0 if self.text is None else self.text.shape[1]

    def of_category(self, category: int) -> list[int]:
        """Returns the row numbers of the photos of a category."""
        rows: list[int] = torch.nonzero(self.category == category).flatten().tolist()
        return rows

    def with_text(self, encoder: "TextEncoder | None") -> Self:
        """Returns the photos with embedded texts, or unchanged if there is no encoder."""
        if encoder is None:
            return self
        return replace(self, text=encoder.encode([each.text for each in self.words]))

    def conditions(self, rows: Tensor) -> dict[str, Tensor]:
        """Returns the conditions of the photos `rows` (B,) int64; see `toygan.models.layers.Conditions`."""
        conditions = {"category": self.category[rows], "colour": self.colour[rows]}
        if self.accents is not None:
            conditions["accents"] = self.accents[rows]
        if self.text is not None:
            conditions["text"] = self.text[rows]
        if self.image_condition is not None and self.condition_images is not None:
            conditions[self.image_condition] = encode_images(
                self.image_condition, self.condition_images[rows]
            )
        if self.lines is not None:
            conditions["sketch"] = encode_images("sketch", self.lines[rows])
        return conditions

    def product(self, row: int) -> ProductConditions:
        """Returns the conditions of one photo in the form of a catalog's product."""
        image = None if self.condition_images is None else self.condition_images[row].numpy()
        return ProductConditions(
            category=self.categories[self.category[row]],
            colour_hex=self.colour_hexes[row],
            text=self.words[row].text,
            shape_text=self.words[row].shape_text,
            accent_hexes=self.words[row].accent_hexes,
            image=image,
        )

    @cached_property
    def accents(self) -> Tensor | None:
        """The accent colours, (N, 4 * accent_colours) float32, see `toygan.conditions.colour`.

        None if there are none.
        """
        count = self.text_config.accent_colours
        return encode_accents([each.accent_hexes for each in self.words], count) if count else None

    @cached_property
    def labelled_colours(self) -> LabelledColours | None:
        """Maps main colours to their labels in the layouts; None if no layout shows such a label."""
        if self.image_condition != "layout" or self.condition_images is None:
            return None
        found = LabelledColours.of(self.colour_hexes, self.condition_images)
        if found is None or self.earlier_labels is None:
            return found or self.earlier_labels
        return found.joined(self.earlier_labels)

    @cached_property
    def sha256(self) -> str:
        """The sha256 of all inputs of a training: pixels and conditions, in their order."""
        digest = sha256("\x1f".join(self.categories).encode())
        conditions = (self.category, self.colour, self.condition_images, self.free_snapshots, self.lines)
        for tensor in (self.images, *conditions, self.accents, self.text):
            if tensor is not None:
                digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()


def load_photos(
    uri: str | Path,
    *,
    resolution: int,
    split: str,
    keep_sku: Callable[[str], bool] = lambda sku: True,
    categories: tuple[str, ...] | None = None,
    drawings: WantedConditions = NO_CONDITIONS,
    text_config: TextConfig = READS_ALL,
    learns_colour_names: bool = False,
) -> PhotoSet:
    """Reads the photos of `split` at `uri` for which `keep_sku` is true; see `toygan.data.sources`.

    Photos and the wanted `drawings` are centred on a white square and resized to `resolution` x `resolution`
    pixels (torchvision, bilinear with antialiasing), a few at a time. Only the resized pictures are kept, in
    a temporary file that is mapped into memory. So the operating system decides how much of the file is in
    memory.

    - `text_config` says which parts of titles and descriptions become the text. With `learns_colour_names`,
      the names of the photos' main colours are added to the colour names of the config.
    - The predictor of `drawings` predicts missing layouts and lines. If layouts are wanted and there is no
      predictor, every photo needs a layout. Snapshots are read as in `toygan.data.snapshot_pairs`.
    - `categories` defaults to those of the photos, sorted.

    A photo is skipped, counted and named in the log if its row is malformed, or if the photo or its drawing
    is missing or cannot be decoded. Raises BadInput if no photo is usable, or if a photo has a category that
    is not among `categories`. Raises DiskFull if the disk is full.
    """
    predictor = drawings.predictor if drawings.kind == "layout" else None
    drawings = drawings._replace(predictor=predictor, may_lack=drawings.may_lack or predictor is not None)
    found = Found(read_photos(uri, split=split, drawings=drawings), keep_sku)
    prepare = _Preparation(resolution=resolution, drawings=drawings)
    gathered = _gather(found, prepare)
    if gathered is None:
        raise BadInput(f"no usable photo of split {split!r} in {uri}: {found.why_none(uri, split)}")
    read = gathered.photos
    names = [photo.category for photo in read]
    colour_hexes = tuple(photo.colour_hex for photo in read)
    if learns_colour_names:
        seen = ColourNames.of((photo.colour, photo.colour_hex) for photo in read)
        text_config = replace(text_config, colour_names=seen.joined(text_config.colour_names))
    categories = categories or tuple(sorted(set(names)))
    return PhotoSet(
        images=gathered.images,
        category=encode_categories(names, categories),
        colour=encode_colours(colour_hexes),
        colour_hexes=colour_hexes,
        finishes=tuple(photo.finish for photo in read),
        words=tuple(_words(photo, text_config) for photo in read),
        text_config=text_config,
        skus=tuple(photo.sku for photo in read),
        categories=categories,
        image_condition=drawings.kind,
        hold_descriptions=any(_describes(photo, text_config) for photo in read),
        condition_images=gathered.condition_images,
        free_snapshots=gathered.free_snapshots,
        lines=gathered.lines,
        files=gathered.files,
    )


def _describes(photo: Photo, text_config: TextConfig) -> bool:
    return text_config.words(None, photo.description).text is not None


def _words(photo: Photo, text_config: TextConfig) -> TextFields:
    return text_config.words(
        photo.title,
        photo.description,
        colour=photo.colour,
        colour_hex=photo.colour_hex,
        finish=photo.finish,
    )


def shrink(photo: bytes, resolution: int) -> Tensor:
    """Decodes a photo's file, centres it on a white square and resizes it: (3, R, R) uint8.

    Raises as `decode_photo`.
    """
    return fit_square(torch.from_numpy(decode_photo(photo)).permute(2, 0, 1), resolution, WHITE)


class _Prepared(NamedTuple):
    image: NDArray[np.uint8]  # (3, R, R)
    condition: NDArray[np.uint8] | None  # (R, R)
    free_snapshot: NDArray[np.uint8] | None  # (S, S, 4)
    lines: NDArray[np.uint8] | None  # (R, R)
    files: DrawingFiles | None


@dataclass(frozen=True, kw_only=True)
class _Preparation:
    """Turns a photo's files into arrays."""

    resolution: int
    drawings: WantedConditions

    def __call__(self, photo: Photo) -> _Prepared | BadInput:
        """Returns the photo and its drawings, or the error if one of them cannot be used."""
        kind, with_lines = self.drawings.kind, self.drawings.lines
        predictor = self.drawings.predictor
        condition = free_snapshot = lines = None
        try:
            resized = shrink(photo.photo, self.resolution)
            if kind == "photo":
                condition = read_snapshot_pair(
                    photo, resized, may_lack=self.drawings.may_lack, finder=self.drawings.finder
                )
                free_snapshot = read_free_snapshot(photo)
            elif kind is not None and (photo.condition or predictor is None):
                condition = _read_condition(photo, kind, self.resolution)
            if with_lines and (photo.lines or predictor is None):
                lines = _read_lines(photo, self.resolution, needed=self.drawings.needs_lines)
            lacks_any = condition is None or (with_lines and lines is None)
            if predictor is not None and lacks_any:
                drawn = predictor(resized)
                condition = drawn.layout if condition is None else condition
                lines = drawn.lines if with_lines and lines is None else lines
            files = self._files(photo, condition, lines) if self.drawings.as_files else None
        except BadInput as error:
            return error
        return _Prepared(resized.numpy(), condition, free_snapshot, lines, files)

    def _files(
        self, photo: Photo, layout: NDArray[np.uint8] | None, lines: NDArray[np.uint8] | None
    ) -> DrawingFiles | None:
        if layout is None:
            return None
        paper = np.full_like(layout, PAPER)
        fitted = Drawing(layout, paper if lines is None else lines)
        return DrawingFiles.own(photo.condition, photo.lines if self.drawings.lines else None, fitted)


class _Gathered(NamedTuple):
    photos: list[Photo]  # the photos without the content of their files
    images: Tensor  # (N, 3, R, R) uint8
    condition_images: Tensor | None  # (N, R, R) uint8
    free_snapshots: Tensor | None  # (N, S, S, 4) uint8
    lines: Tensor | None  # (N, R, R) uint8
    files: tuple[DrawingFiles, ...]  # N pairs of files, or none


def _gather(found: Found, prepare: _Preparation) -> _Gathered | None:
    """Returns the usable photos, or None if there are none. The log names the other photos."""
    threads = torch.get_num_threads()
    read: list[Photo] = []
    files: list[DrawingFiles] = []
    has_free_snapshots = False
    with (
        open_buffer() as images,
        open_buffer() as condition_images,
        open_buffer() as free_snapshots,
        open_buffer() as lines,
        ThreadPoolExecutor(threads) as pool,
    ):
        for photo, prepared in in_order(pool, prepare, found, ahead=4 * threads):
            if isinstance(prepared, BadInput):
                found.skip(photo, prepared)
                continue
            images.append(prepared.image)
            if prepared.condition is not None:
                condition_images.append(prepared.condition)
            if prepared.free_snapshot is not None:
                free_snapshots.append(prepared.free_snapshot)
            if prepared.lines is not None:
                lines.append(prepared.lines)
            if prepared.files is not None:
                files.append(prepared.files)
            has_free_snapshots |= photo.free_snapshot is not None
            read.append(photo._replace(**_WITHOUT_FILES))
        found.say_what_is_left_out()
        if not read:
            return None
        return _Gathered(
            photos=read,
            images=images.stacked(),
            condition_images=condition_images.stacked() if prepare.drawings.kind else None,
            free_snapshots=free_snapshots.stacked() if has_free_snapshots else None,
            lines=lines.stacked() if prepare.drawings.lines else None,
            files=tuple(files),
        )


def _read_condition(photo: Photo, kind: ImageCondition, resolution: int) -> NDArray[np.uint8]:
    if not photo.condition:
        raise BadInput(f"it has no {kind}")
    return READERS[kind](photo.condition, resolution)


def _read_lines(photo: Photo, resolution: int, *, needed: bool) -> NDArray[np.uint8]:
    if photo.lines is None:
        if needed:
            raise BadInput("it has no sketch")
        return np.full((resolution, resolution), PAPER, dtype=np.uint8)
    return read_sketch(photo.lines, resolution)
