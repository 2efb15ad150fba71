"""Renders the report of an export: pictures that were left out, with reasons, and the channel's rules.

The page depends on the export's content only, so an export without changes does not write the page again.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from jinja2 import Template

from toygan.channels.pictures import WHOLE
from toygan.channels.rules import Channel
from toygan.channels.state import Exported
from toygan.publishing.page import page_templates

REPORT_KEY: Final = "report.html"
MOST_LEFT_OUT: Final = 1000  # the largest number of rows in the table
MOST_SHOWN: Final = 24  # pictures

_REASONS: Final = {
    "too_small": "the product has too few pixels for the channel's smallest size",
    "too_many": "the product has more pictures than the channel takes",
    "file_too_large": "the file is larger than the channel allows",
    "product_not_found": "no product was found in the picture",
    "product_cut_off": "the product touches the edge of the picture, so a part of it is missing",
    "outline_unsure": "white or transparent parts look like the white ground; a layout helps",
    "no_room_for_label": "there is no room for the label of generated content below the product",
    "picture_missing": "the store has lost the picture; `toygan verify` names what is missing",
    "picture_damaged": "the picture in the store is damaged; `toygan verify` names what is damaged",
    "layout_missing": "the store has lost the layout of the picture",
    "metadata_missing": "the store has lost the picture's metadata; `toygan verify` names what is missing",
}


def render_report(channel: Channel, rows: Sequence[Exported], notes: Sequence[str]) -> str:
    """Returns the report as one HTML document.

    It shows picture files that are beside it in the same place.
    """
    left_out = [
        (row.sku, row.image_index, frame if frame != WHOLE else "", _in_words(reason))
        for row in rows
        for frame, reason in row.left_out.items()
    ]
    exported = [row for row in rows if row.files]
    return _template().render(
        channel=channel,
        rows=rows,
        exported=len(exported),
        shown=exported[:MOST_SHOWN],
        left_out=left_out,
        most=MOST_LEFT_OUT,
        small=sum(file.below_advised for row in rows for file in row.files),
        notes=notes,
    )


def _in_words(reason: str) -> str:
    name, _, details = reason.partition(": ")
    text = _REASONS.get(name, name)
    return f"{text}: {details}" if details else text


@lru_cache(maxsize=1)
def _template() -> Template:
    return page_templates("toygan.channels").get_template("report.html")
