"""Checks exported files against the rules of their channel. It uses none of the product's code.

The limits are written down here once more, by hand, so that a slip in a channel's file is noticed.
"""

import csv
import io
import json
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
EXTENSIONS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "avif": "AVIF"}
BLOCK = 8  # JPEG codes blocks of this side, so the ground beside an edge is not exact
LABEL = 0.12  # of the shortest side, at the bottom: where the text of the AIGC label stands
LABEL_HEIGHT = 0.05  # of the shortest side, at least
EDGE = 20  # levels between neighbours: a product has edges, a shadow is soft
FAINT_EDGE = 3  # of a white product on white
SPECKS = 1e-4  # share of the picture: the outline of a white part on white may be fainter still


@dataclass(frozen=True)
class Wanted:
    """What one frame of a channel has to be."""

    aspect: tuple[int, int]
    least: int  # pixels, of the longest side
    most: int
    share: tuple[float, float]
    ground: str
    formats: tuple[str, ...]
    most_bytes: int
    shadow: bool = True
    safe: tuple[int, int] | None = None
    labelled: bool = False


_SQUARE, _WHITE, _TINT, _JPEG = (1, 1), "white", "tint", ("jpg",)
WANTED = {
    "google": {"square": Wanted(_SQUARE, 500, 1500, (0.75, 0.9), _WHITE, _JPEG, 16_000_000)},
    "amazon": {"square": Wanted(_SQUARE, 500, 2000, (0.85, 0.95), _WHITE, _JPEG, 10_000_000, shadow=False)},
    "ebay": {"square": Wanted(_SQUARE, 500, 1600, (0.7, 0.92), _WHITE, _JPEG, 12_000_000)},
    "shopify": {"square": Wanted(_SQUARE, 320, 2048, (0.7, 0.92), _WHITE, _JPEG, 20_000_000)},
    "etsy": {"square": Wanted(_SQUARE, 400, 2000, (0.65, 0.9), _WHITE, _JPEG, 10_000_000)},
    "web": {
        "white": Wanted(_SQUARE, 320, 2048, (0.7, 0.92), _WHITE, ("avif", "webp", "jpg"), 4_000_000),
        "cutout": Wanted(_SQUARE, 320, 2048, (0.7, 0.96), "transparent", ("webp", "png"), 4_000_000),
    },
    "instagram": {
        "square": Wanted(_SQUARE, 320, 1080, (0.5, 0.85), _TINT, _JPEG, 8_000_000),
        "portrait": Wanted((4, 5), 400, 1350, (0.5, 0.9), _TINT, _JPEG, 8_000_000),
    },
    "xiaohongshu": {
        "portrait": Wanted((3, 4), 400, 1660, (0.5, 0.85), _TINT, _JPEG, 5_000_000, labelled=True)
    },
    "wechat": {
        "header": Wanted(
            (900, 383), 900, 900, (0.4, 0.8), _TINT, _JPEG, 10_000_000, safe=(1, 1), labelled=True
        )
    },
}


def violations(channel: str, place: Path, *, distinct: int = 60) -> list[str]:
    """Returns a line for each broken rule of the export in a folder.

    A pixel belongs to the product if a channel differs from the ground by more than `distinct`, of 255, or if
    it lies at an edge, as the outline of a pale product does. Of a white product on white only faint edges
    are seen, which a shadow may have, too; so the product may be what either strong or faint edges enclose.
    Expects the table feeds/pictures.csv, or takes all files for those of the only frame.
    """
    there = {str(path.relative_to(place)) for path in (place / "pictures").rglob("*.*")}
    found = []
    table = place / "feeds" / "pictures.csv"
    frames = {path: path.rpartition("/")[2].split("-")[1] for path in there}
    if table.exists():
        with table.open(encoding="utf-8", newline="") as file:
            rows = {row["path"]: row for row in csv.DictReader(file)}
        collages = _collages(place)
        found += _of_collages(channel, place, collages)
        there -= collages
        found += [f"{path}: in one of folder and table" for path in sorted(there ^ rows.keys())]
        frames = {path: row["frame"] for path, row in rows.items() if path in there}
        for path in frames:
            found += _of_table(place / path, rows[path])
    for path, frame in frames.items():
        found += [
            f"{path}: {problem}" for problem in _of_file(place / path, WANTED[channel][frame], distinct)
        ]
    is_labelled = any(each.labelled for each in WANTED[channel].values())
    return found + marks_missing(place, labelled=is_labelled)


def _collages(place: Path) -> set[str]:
    table = place / "feeds" / "collages.csv"
    if not table.exists():
        return set()
    with table.open(encoding="utf-8", newline="") as file:
        return {row["path"] for row in csv.DictReader(file)}


def _of_collages(channel: str, place: Path, paths: set[str]) -> list[str]:
    """A collage keeps to the rules of the first frame, but for the share of each product."""
    wanted = replace(next(iter(WANTED[channel].values())), share=(0.3, 1.0))
    return [f"{path}: {problem}" for path in sorted(paths) for problem in _of_file(place / path, wanted, 60)]


def _of_table(path: Path, row: dict[str, str]) -> list[str]:
    with Image.open(path) as image:
        there = (*image.size, path.stat().st_size)
    said = (int(row["width"]), int(row["height"]), int(row["bytes"]))
    return [] if there == said else [f"{path}: {there}, but {said} in the table"]


def _of_file(path: Path, wanted: Wanted, distinct: int) -> list[str]:
    data = path.read_bytes()
    image = Image.open(io.BytesIO(data))
    image.load()
    width, height = image.size
    extension = path.suffix[1:]
    problems = []
    if extension not in wanted.formats or image.format != EXTENSIONS[extension]:
        problems.append(f"{image.format} in a file .{extension}")
    if len(data) > wanted.most_bytes:
        problems.append(f"{len(data)} bytes")
    if not wanted.least <= max(width, height) <= wanted.most:
        problems.append(f"{width} x {height} pixels")
    if abs(width / height - wanted.aspect[0] / wanted.aspect[1]) > 1.5 / height:
        problems.append(f"aspect {width}:{height}")
    return problems + _of_pixels(image, wanted, distinct)


def _of_pixels(image: Image.Image, wanted: Wanted, distinct: int) -> list[str]:
    problems = []
    if wanted.ground == "transparent":
        alpha = np.asarray(image.convert("RGBA"))[..., 3]
        if _border(alpha).any():
            problems.append("the border is not transparent")
        if not ((alpha > 0) & (alpha < 255)).any():
            problems.append("hard edges")
        return problems + _of_box(alpha > 127, wanted)
    pixels = np.asarray(image.convert("RGB")).astype(np.int16)
    ground = pixels[0, 0]
    tolerance = {"JPEG": 0, "AVIF": 5}.get(str(image.format), 2)  # video codecs do not keep 255
    if np.abs(_border(pixels) - ground).max() > tolerance:
        problems.append("the border is not of one colour")
    if wanted.ground == "white" and (ground < 255 - tolerance).any():
        problems.append(f"the ground is {ground.tolist()}")
    if wanted.ground == "tint" and ground.min() < 200:
        problems.append(f"the tint is too dark: {ground.tolist()}")
    steps = _steps(image)
    mask = (np.abs(pixels - ground).max(axis=2) > distinct) | (steps > EDGE)
    faint = mask | (steps > FAINT_EDGE)
    if wanted.labelled:
        bottom = mask.shape[0] - round(LABEL * min(mask.shape))
        written = np.flatnonzero((np.abs(pixels - ground).max(axis=2) > distinct)[bottom:].any(axis=1))
        height = written[-1] + 1 - written[0] if len(written) else 0
        if height < LABEL_HEIGHT * min(mask.shape):
            problems.append(f"the text of the label is {height} pixels high")
        mask[bottom:] = faint[bottom:] = False
    if not wanted.shadow:
        problems += _not_white(pixels, faint)
    found = _of_box(mask, wanted)
    return problems + (found if found and _of_box(faint, wanted) else [])


def _steps(image: Image.Image) -> NDArray[np.uint8]:
    """The largest difference between a pixel's neighbours, of any channel: (H, W)."""
    low = high = np.pad(np.asarray(image.convert("RGB")), ((1, 1), (1, 1), (0, 0)), mode="edge")
    for one, two, three in (
        (np.s_[:-2], np.s_[1:-1], np.s_[2:]),
        (np.s_[:, :-2], np.s_[:, 1:-1], np.s_[:, 2:]),
    ):
        low = np.minimum(np.minimum(low[one], low[two]), low[three])
        high = np.maximum(np.maximum(high[one], high[two]), high[three])
    return np.asarray((high - low).max(axis=2))


def _not_white(pixels: NDArray[np.int16], mask: NDArray[np.bool_]) -> list[str]:
    """The ground has to be 255 but for the product, its light sides and the blocks that hold its edge."""
    reach = max(3 * BLOCK, max(mask.shape) // 16)
    near = Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.BoxBlur(reach))
    grey = (pixels < 255).any(axis=2) & (np.asarray(near) == 0)
    return [f"{int(grey.sum())} pixels of the ground are not 255"] if grey.mean() > SPECKS else []


def _of_box(mask: NDArray[np.bool_], wanted: Wanted) -> list[str]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return ["no product"]
    height, width = mask.shape
    wide, high = float(width), float(height)
    if wanted.safe:
        factor = min(width / wanted.safe[0], height / wanted.safe[1])
        wide, high = wanted.safe[0] * factor, wanted.safe[1] * factor
    share = max((columns[-1] + 1 - columns[0]) / wide, (rows[-1] + 1 - rows[0]) / high)
    slack = 4 / min(wide, high)  # a soft edge may be lighter than the limit, two pixels at each side
    problems = []
    if not wanted.share[0] - slack <= share <= wanted.share[1] + slack:
        problems.append(f"the product has {share:.3f} of the frame")
    off = max(abs(columns[0] + columns[-1] + 1 - width), abs(rows[0] + rows[-1] + 1 - height)) / 2
    if off > 0.04 * max(width, height):
        problems.append(f"the product is {off:.0f} pixels off the middle")
    return problems


def _border(pixels: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def has_exiftool() -> bool:
    return shutil.which("exiftool") is not None


def marks_missing(place: Path, *, labelled: bool) -> list[str]:
    """Returns a line for each picture without its marks, as exiftool sees it; none without exiftool."""
    if not has_exiftool():
        return []
    command = ["exiftool", "-json", "-r", "-q", "-struct", "-XMP:all", str(place / "pictures")]
    result = subprocess.run(command, capture_output=True, check=False)
    read = json.loads(result.stdout or "[]")
    found = []
    for tags in read:
        if tags.get("DigitalSourceType") != TRAINED:
            found.append(f"{tags['SourceFile']}: DigitalSourceType {tags.get('DigitalSourceType')}")
        label = tags.get("Aigc")
        if labelled != (label is not None):
            found.append(f"{tags['SourceFile']}: AIGC {label}")
        elif label is not None:
            content = json.loads(label) if isinstance(label, str) else label
            if str(content["Label"]) != "1" or not content["ContentProducer"] or not content["ProduceID"]:
                found.append(f"{tags['SourceFile']}: AIGC {content}")
    files = {str(path) for path in (place / "pictures").rglob("*.*")}
    if {str(tags["SourceFile"]) for tags in read} != files:
        found.append(f"exiftool read {len(read)} of {len(files)} files")
    return found
