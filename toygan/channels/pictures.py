"""Makes the files of one live picture for a channel."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toygan.channels.aigc import draw_label, label_json
from toygan.channels.credentials import Credentials
from toygan.channels.cutout import Cutout, NotCutOut, cut_out
from toygan.channels.encoding import MIME_TYPES, encode_file
from toygan.channels.framing import TooSmall, boxes_in, compose, place
from toygan.channels.rules import Channel, FileFormat, Frame
from toygan.channels.state import Exported, File
from toygan.channels.texts import alt_text
from toygan.errors import BadInput, ObjectNotFound
from toygan.images import decode, decode_labels
from toygan.storage.keys import EXPORTED_PREFIX, condition_key, slug_of
from toygan.storage.store import ObjectStore
from toygan.xmp import xmp_packet

MAKING: Final = 5  # increase this number when the same input gives other pixels or bytes than before
# the cache control of files whose name changes with their content
FOREVER: Final = "public, max-age=31536000, immutable"
WHOLE: Final = ""  # in `left_out`, this name means that the reason concerns every frame
# reasons that are faults of the store
BROKEN: Final = ("picture_missing", "picture_damaged", "layout_missing")
_NAME_DIGITS: Final = 16


@dataclass(frozen=True, kw_only=True)
class Making:
    """The source of pictures, the place of the files, and the rules for them.

    Safe to use from many threads.
    """

    store: ObjectStore
    place: ObjectStore
    channel: Channel
    sizes: Mapping[str, int]  # maps the key of each file that the export already has to its size in bytes
    producer: str | None  # named in China's label; None for a channel without the label
    credentials: Credentials | None  # signs the files; None if they are not signed

    @cached_property
    def digest(self) -> str:
        """A digest of everything that files depend on besides their picture."""
        not_in_files = {"rules", "version", "feeds", "role_reason", "forbids"}
        rules = self.channel.model_dump(mode="json", exclude=not_in_files)
        signer = self.credentials.digest if self.credentials else None
        return sha256(json.dumps([MAKING, rules, self.producer, signer], sort_keys=True).encode()).hexdigest()

    def size_of(self, key: str) -> int | None:
        """Returns the size in bytes of a file that the export already has.

        Returns None for a missing file, and for one that the channel, whose limit may be lower than before,
        no longer takes.
        """
        size = self.sizes.get(key)
        return None if size is None or size > self.channel.most_bytes else size


def recipe_of(making: Making, live: Mapping[str, Any]) -> str:
    """Returns a digest of everything that the files of a row of `current.parquet` depend on."""
    return sha256(f"{making.digest} {live['image_id']} {live['sha256']}".encode()).hexdigest()


def make_picture(
    making: Making, live: Mapping[str, Any], described: Mapping[str, Any], recipe: str
) -> Exported:
    """Makes the files of a row of `current.parquet`, and writes those that the export does not have yet.

    `described` is the picture's metadata row. If a frame cannot be made, `left_out` has the reason. Raises
    only what the stores raise.
    """
    files: list[File] = []
    left_out: dict[str, str] = {}
    try:
        cutout = cutout_of(making, live, described)
    except NotCutOut as reason:
        left_out[WHOLE] = str(reason)
    else:
        for frame in making.channel.frames:
            try:
                files += _make_frame(making, live, cutout, frame)
            except NotCutOut as reason:
                left_out[frame.name] = str(reason)
            except TooSmall as reason:
                left_out[frame.name] = f"too_small: {reason}"
    alt = alt_text(described["title"], described["colour"], described["language"], making.channel.alt_letters)
    return Exported(
        image_id=live["image_id"],
        recipe=recipe,
        sku=live["sku"],
        image_index=live["image_index"],
        category=live["category"],
        title=described["title"],
        language=described["language"],
        handle=described["handle"],
        alt=alt,
        left_out=left_out,
        files=tuple(files),
    )


def cutout_of(making: Making, live: Mapping[str, Any], described: Mapping[str, Any]) -> Cutout:
    """Cuts out the product of a row of `current.parquet`; raises NotCutOut with the reason."""
    try:
        data = making.store.get(live["image_uri"])
    except ObjectNotFound:
        raise NotCutOut("picture_missing") from None
    if sha256(data).hexdigest() != live["sha256"]:
        raise NotCutOut("picture_damaged")
    try:
        return cut_out(decode(data), _layout(making.store, described))
    except BadInput:
        raise NotCutOut("picture_damaged") from None


def _layout(store: ObjectStore, described: Mapping[str, Any]) -> NDArray[np.uint8] | None:
    digest = dict(described["condition_sha256"]).get("layout")
    if digest is None:
        return None
    try:
        data = store.get(condition_key(digest))
    except ObjectNotFound:
        raise NotCutOut("layout_missing") from None
    labels = decode_labels(data)
    if sha256(data).hexdigest() != digest:
        raise NotCutOut("layout_missing")
    return labels


def _make_frame(making: Making, live: Mapping[str, Any], cutout: Cutout, frame: Frame) -> list[File]:
    placed = place(cutout.box, frame)
    image = compose(cutout, frame, placed)
    label = None
    if making.producer is not None:
        draw_label(image, *boxes_in(cutout.box, frame, placed))
        label = label_json(making.producer, live["image_id"])
    xmp = xmp_packet(label)
    folder = f"{EXPORTED_PREFIX}{slug_of(live['category'])}/{slug_of(live['sku'])}/"
    files: list[File] = []
    for width in sorted({*(each for each in frame.widths if each < image.width), image.width}):
        sized = _reduced(image, width)
        for file_format in frame.formats:
            data = encode_file(sized, file_format, frame.quality, xmp, is_faint=cutout.is_faint)
            name = f"{folder}{live['image_index']}-{frame.name}-{width}"
            key, size = _put(making, live, name, file_format, data)
            files.append(
                File(
                    key=key,
                    frame=frame.name,
                    format=file_format,
                    width=sized.width,
                    height=sized.height,
                    bytes=size,
                    below_advised=placed.below_advised,
                )
            )
    return files


def _put(
    making: Making, live: Mapping[str, Any], name: str, file_format: FileFormat, data: bytes
) -> tuple[str, int]:
    """Writes a file, unless the export already has it. Returns its key and its size in bytes.

    The key holds a digest of the content and of the signer, but not of the signature, because every signature
    of the same file is different.
    """
    signer = making.credentials.digest if making.credentials else ""
    digest = sha256(data + signer.encode()).hexdigest()[:_NAME_DIGITS]
    key = f"{name}-{digest}.{file_format}"
    size = making.size_of(key)
    if size is not None and (size == len(data) or making.credentials):
        return key, size
    return key, upload(making, live, key, file_format, data)


def upload(making: Making, live: Mapping[str, Any], key: str, file_format: FileFormat, data: bytes) -> int:
    """Signs a file, naming the picture's model, and writes it to the export. Returns its size in bytes.

    Raises NotCutOut if the file is too large for the channel.
    """
    mime = MIME_TYPES[file_format]
    if making.credentials:
        data = making.credentials.sign(data, mime, live["model_name"], live["model_version"])
    if len(data) > making.channel.most_bytes:
        raise NotCutOut(f"file_too_large: {len(data):,} bytes as {file_format}")
    making.place.put(key, data, content_type=mime, cache_control=FOREVER)
    return len(data)


def _reduced(image: Image.Image, width: int) -> Image.Image:
    if width == image.width:
        return image
    size = (width, max(1, round(image.height * width / image.width)))
    if image.mode != "RGBA":
        return image.resize(size, Image.Resampling.LANCZOS)
    return image.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
