"""Renders the run report for the people of the shop: one HTML file without external resources.

The pictures are embedded as data URIs. There is no script, and the Content-Security-Policy allows no
requests. Every text from a catalog is escaped. The file stays below about 10 MB for runs of any size: see
`sheet_sizes`.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import Any, Final

import numpy as np
from jinja2 import Template
from PIL import Image

from toygan.approval.measures import main_colour_of
from toygan.approval.reason_words import in_words
from toygan.device import usable_cores
from toygan.errors import BadInput
from toygan.images import MIME_TYPES, ImageFormat, decode, encode, encode_photo
from toygan.parallel import in_order
from toygan.publishing.page import page_templates
from toygan.publishing.summary import MOST_NAMED

THUMBNAIL_SIDE: Final = 128  # side in pixels; larger pictures are scaled down to it
LARGEST_FILE: Final = 3000  # number of bytes; larger files are encoded again as WebP
MOST_THUMBNAILS: Final = 2000
MOST_APPROVED: Final = 48  # the largest number of approved pictures of a category
MOST_FOR_REVIEW: Final = 12
MOST_CATEGORIES: Final = 1000
MOST_ROWS: Final = 100  # the largest number of rejected rows that the report lists

_HEX = re.compile(r"#[0-9A-Fa-f]{6}")


@dataclass(frozen=True, kw_only=True)
class ReportPicture:
    """A picture on a contact sheet."""

    sku: str
    image_index: int
    title: str | None
    language: str | None  # the language of the title, as a BCP 47 tag
    colour_hex: str | None  # the wanted colour, #RRGGBB
    colour_delta_e: float | None
    p_real: float
    threshold: float
    reasons: Sequence[str]  # why a person should look at the picture; empty if it is approved
    image_uri: str  # the picture's key in the store
    image_format: ImageFormat
    file: bytes
    snapshot: bytes | None = None  # the file that the picture was made from
    decision: str | None = None  # a person's decision about the picture, in words


@dataclass(frozen=True, kw_only=True)
class ReportCategory:
    """One category: the numbers cover the whole run, the pictures are a selection.

    The pictures are read while the report is rendered, so that few of their files are in memory at a time.
    """

    name: str
    wanted: int  # images
    approved: int  # images
    review: int  # the number of candidates that wait for a person
    rejected: int  # the number of candidates that were rejected
    approved_pictures: Iterable[ReportPicture]
    review_pictures: Iterable[ReportPicture]


@dataclass(frozen=True, kw_only=True)
class ReportRow:
    """A catalog row that was set aside."""

    row: int  # from 0
    sku: str | None
    column: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ReportRun:
    """The facts about a run."""

    run_id: str
    models: Sequence[str]  # NAME@VERSION of each model; the first model needs no condition image
    catalog_uri: str
    started_at: str  # ISO 8601
    elapsed_s: float
    # the rate at which candidates were generated, scored and stored, without start and end of the run
    images_per_s: float | None
    products: int  # the number of good rows in the catalog
    unchanged: int  # the number of pictures that were live before and stay live
    settings: Mapping[str, object]
    categories: Sequence[ReportCategory]
    rejected_rows: Sequence[ReportRow]  # at least the first MOST_ROWS of them
    total_rejected_rows: int
    warnings: Sequence[str] = ()
    # the keys of pictures whose files are missing, which are found while the pictures are read
    missing: Sequence[str] = ()
    credit: str | None = None  # the attribution that the licences of the training pictures demand


def sheet_sizes(categories: int) -> tuple[int, int]:
    """Returns how many approved pictures and how many candidates for review a category shows.

    `categories` is the number of categories in the report.
    """
    shown = max(1, min(categories, MOST_CATEGORIES))
    approved = max(1, min(MOST_APPROVED, MOST_THUMBNAILS * 4 // 5 // shown))
    return approved, max(1, min(MOST_FOR_REVIEW, MOST_THUMBNAILS // 5 // shown))


def render_report(run: ReportRun) -> str:
    """Returns the report as one HTML document. It names a picture that is missing or cannot be decoded."""
    approved, review = sheet_sizes(len(run.categories))
    damaged: list[str] = []
    with ThreadPoolExecutor(usable_cores()) as threads:

        def pictures(chosen: Iterable[ReportPicture], most: int) -> list[dict[str, Any]]:
            return list(_pictures(threads, islice(chosen, most), damaged))

        categories = [
            {
                "name": category.name,
                "anchor": f"category-{position}",
                **_numbers([category]),
                "approved_pictures": pictures(category.approved_pictures, approved),
                "review_pictures": pictures(category.review_pictures, review),
            }
            for position, category in enumerate(run.categories[:MOST_CATEGORIES])
        ]
    return _template().render(
        run=run,
        warnings=[*run.warnings, *_lost(sorted([*run.missing, *damaged]))],
        total=_numbers(run.categories),
        categories=categories,
        categories_left_out=len(run.categories) - len(categories),
        rows=run.rejected_rows[:MOST_ROWS],
        elapsed=_duration(run.elapsed_s),
    )


def _numbers(categories: Sequence[ReportCategory]) -> dict[str, Any]:
    wanted, approved, review, rejected = (
        sum(getattr(category, name) for category in categories)
        for name in ("wanted", "approved", "review", "rejected")
    )
    candidates = approved + review + rejected
    return {
        "wanted": wanted,
        "approved": approved,
        "review": review,
        "rejected": rejected,
        "candidates": candidates,
        "missing": wanted - approved,
        "coverage": approved / wanted if wanted else 0.0,
        "acceptance": approved / candidates if candidates else 0.0,
    }


def _pictures(
    threads: ThreadPoolExecutor, pictures: Iterable[ReportPicture], damaged: list[str]
) -> Iterator[dict[str, Any]]:
    """Yields what the page shows of each picture. Adds the key of a damaged picture to `damaged`."""
    for picture, shown in in_order(threads, _picture, pictures, ahead=2 * usable_cores()):
        if shown is None:
            damaged.append(picture.image_uri)
        else:
            yield shown


def _lost(keys: Sequence[str]) -> list[str]:
    if not keys:
        return []
    more = f" and {len(keys) - MOST_NAMED:,} more" if len(keys) > MOST_NAMED else ""
    return [f"missing or damaged pictures: {', '.join(keys[:MOST_NAMED])}{more}; see `toygan verify`"]


def _picture(picture: ReportPicture) -> dict[str, Any] | None:
    """Returns what the page shows of a picture, or None for a damaged one."""
    file, image_format = picture.file, picture.image_format
    try:
        pixels = decode(file)
    except BadInput:
        return None
    if max(pixels.shape[:2]) > THUMBNAIL_SIDE or len(file) > LARGEST_FILE:
        image = Image.fromarray(pixels)
        image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX)
        file, image_format = encode(np.asarray(image), "webp"), "webp"
    wanted = picture.colour_hex if _HEX.fullmatch(picture.colour_hex or "") else None
    return {
        "source": f"data:{MIME_TYPES[image_format]};base64,{b64encode(file).decode()}",
        # The report lies two folders below the root of the store.
        "link": f"../../{picture.image_uri}",
        "picture": replace(picture, file=b"", snapshot=None),  # their bytes are no longer needed
        "wanted_colour": wanted,
        "main_colour": main_colour_of(pixels, wanted),
        "snapshot": None if picture.snapshot is None else _thumbnail_of(picture.snapshot),
        "reasons": [in_words(reason) for reason in picture.reasons],
    }


def _thumbnail_of(snapshot: bytes) -> str | None:
    try:
        image = Image.fromarray(decode(snapshot))
    except BadInput:
        return None
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX)
    file = encode_photo(np.asarray(image), "webp")
    return f"data:{MIME_TYPES['webp']};base64,{b64encode(file).decode()}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = page_templates("toygan.publishing")
    environment.filters["number"] = lambda value: f"{value:,}"
    environment.filters["percent"] = lambda share: f"{100 * share:.0f} %"
    return environment.get_template("report.html")
