"""Shows several products of a category in one picture, for social networks and category pages."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from PIL import Image

from toygan.channels.aigc import draw_label, label_json
from toygan.channels.cutout import Box, Cutout, NotCutOut
from toygan.channels.encoding import encode_file
from toygan.channels.feeds import COLLAGES_KEY, Feed, Urls
from toygan.channels.framing import Placement, compose, fit, tint_of
from toygan.channels.pictures import MAKING, Making, cutout_of, upload
from toygan.channels.rules import Frame
from toygan.channels.state import Exported
from toygan.storage.keys import EXPORTED_PREFIX, slug_of
from toygan.xmp import xmp_packet

_SHARE: Final = 0.82  # the largest product takes this share of its cell
_FOR_LABEL: Final = 0.14  # this share of the height stays free for the label of generated content
# number of candidates for each wanted product, because some products have no certain outline
_CANDIDATES: Final = 4


@dataclass(frozen=True, kw_only=True)
class Collage:
    """A file that shows products of one category."""

    key: str
    category: str


@dataclass(frozen=True, kw_only=True)
class Composed:
    """A collage: its picture, the places of its products, and the part that the channel always shows."""

    image: Image.Image  # RGB
    products: Box
    safe: Box


def choose_products(
    live: Sequence[Mapping[str, Any]], rows: Sequence[Exported], count: int
) -> dict[str, list[Mapping[str, Any]]]:
    """Chooses rows of `current.parquet` by category: the first exported picture of each product.

    Takes only as many products of a category as a collage of `count` products may need.
    """
    exported = {row.image_id for row in rows if row.files}
    chosen: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in live:
        of_sku = chosen.setdefault(row["category"], {})
        if row["image_id"] in exported and len(of_sku) < _CANDIDATES * count:
            of_sku.setdefault(row["sku"], row)
    return {category: list(of_sku.values()) for category, of_sku in sorted(chosen.items())}


def collage_key(making: Making, category: str, chosen: Sequence[Mapping[str, Any]], count: int) -> str:
    """Returns the key of a category's collage.

    The key holds a digest of everything that the collage depends on.
    """
    frame = making.channel.frames[0]
    signer = making.credentials.digest if making.credentials else None
    content = [MAKING, count, frame.model_dump(mode="json"), making.producer, signer]
    content += [[row["image_id"], row["sha256"]] for row in chosen]
    digest = sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    return f"{EXPORTED_PREFIX}{slug_of(category)}/collage/{count}-{frame.name}-{digest}.{frame.formats[-1]}"


def make_collage(
    making: Making,
    key: str,
    chosen: Sequence[Mapping[str, Any]],
    described: Mapping[str, Mapping[str, Any]],
    count: int,
) -> bool:
    """Makes the collage of the first `count` chosen products that have a certain outline, and stores it.

    Returns False if there are too few products or too few pixels. `described` maps image ids to metadata
    rows.
    """
    frame = making.channel.frames[0]
    cutouts: list[Cutout] = []
    for row in chosen:
        try:
            cutout = cutout_of(making, row, described[row["image_id"]])
        except (NotCutOut, KeyError):
            continue
        if cutout.suits_any_ground:
            cutouts.append(cutout)
        if len(cutouts) == count:
            break
    if len(cutouts) < count:
        return False
    composed = compose_collage(cutouts, frame, keeps_room=making.producer is not None)
    if composed is None:
        return False
    label = None
    try:
        if making.producer is not None:
            draw_label(composed.image, composed.products, composed.safe)
            label = label_json(making.producer, key.rpartition("/")[2])
        data = encode_file(composed.image, frame.formats[-1], frame.quality, xmp_packet(label))
        upload(making, chosen[0], key, frame.formats[-1], data)
    except NotCutOut:
        return False
    return True


def compose_collage(cutouts: Sequence[Cutout], frame: Frame, *, keeps_room: bool) -> Composed | None:
    """Places products in a grid on the frame's ground. All products have the same scale, at most 1.

    With `keeps_room`, the bottom stays free for a label. Returns None if the frame would be below its least
    size.
    """
    long = max(frame.aspect)
    across, down = frame.aspect[0] / long, frame.aspect[1] / long  # both as shares of the longest side
    wide, high = fit(frame.safe_aspect or frame.aspect, across, down)
    room = high * (1 - _FOR_LABEL) if keeps_room else high
    columns = min(len(cutouts), math.ceil(math.sqrt(len(cutouts) * wide / room)))
    lines = math.ceil(len(cutouts) / columns)
    # The longest side of a frame in which the largest product, at its own size, takes _SHARE of a cell.
    needed = max(max(c.box.width * columns / wide, c.box.height * lines / room) for c in cutouts) / _SHARE
    longest = min(math.ceil(needed), frame.size.advised)
    if longest < frame.size.least:
        return None
    size = round(longest * across), round(longest * down)
    cell = int(wide * longest / columns), int(room * longest / lines)
    placed = Placement(
        width=cell[0], height=cell[1], scale=min(1.0, longest / needed), share=_SHARE, below_advised=False
    )
    left, top = (size[0] - columns * cell[0]) // 2, round((down - high) * longest / 2)
    is_white = frame.ground != "tint"
    image = Image.new("RGB", size, (255, 255, 255) if is_white else tint_of(cutouts[0]))
    layer = frame.model_copy(update={"ground": "transparent"})
    for number, cutout in enumerate(cutouts):
        line, column = divmod(number, columns)
        in_line = min(columns, len(cutouts) - line * columns)  # the last line may be shorter; it is centred
        x = left + column * cell[0] + (columns - in_line) * cell[0] // 2
        shown = compose(cutout, layer, placed)
        image.paste(shown, (x, top + line * cell[1]), shown)
    right, bottom = left + columns * cell[0], top + lines * cell[1]
    safe = Box(left, top, right, top + round(high * longest))
    return Composed(image=image, products=Box(left, top, right, bottom), safe=safe)


def collages_csv(collages: Sequence[Collage], urls: Urls | None) -> Feed:
    """Returns the table of the collages."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(("category", "path", "url"))
    for each in collages:
        writer.writerow((each.category, each.key, "" if urls is None else urls(each.key)))
    return Feed(key=COLLAGES_KEY, content_type="text/csv; charset=utf-8", data=text.getvalue().encode())
