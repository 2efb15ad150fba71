"""One photo on its way from where it lies to a training."""

from typing import NamedTuple


class Photo(NamedTuple):
    """One photo as it was found, undecoded."""

    photo_id: str
    sku: str
    category: str
    title: str | None
    colour_hex: str | None
    photo: bytes
    condition: bytes | None  # the sketch or the layout that belongs to it
    source: str  # where it was found, for messages
    description: str | None = None
    colour: str | None = None  # the main colour's name
    finish: str | None = None
    azimuth_deg: float | None = None  # of the camera; 0 looks at the front
    elevation_deg: float | None = None
    lines: bytes | None = None  # the sketch beside another condition
