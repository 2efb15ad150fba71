"""The rules of a channel, read from a TOML file: one file a channel, and no code.

The files beside this module are the bundled channels. `load_channel` also opens a user's file, so a new
channel needs only a file. README.md describes the fields.
"""

import tomllib
from datetime import date
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from toygan.errors import BadInput

FileFormat = Literal["jpg", "png", "webp", "avif"]
Ground = Literal["white", "transparent", "tint"]
FeedName = Literal["merchant-tsv", "merchant-xml", "shopify-csv", "pictures-csv", "json-ld"]

_NAME = r"^[a-z0-9][a-z0-9-]{0,31}$"
_Name = Annotated[str, Field(pattern=_NAME)]
_Share = Annotated[float, Field(gt=0, le=1)]
_Pixels = Annotated[int, Field(ge=16, le=16_384)]
_Side = Annotated[int, Field(ge=1, le=16_384)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Size(_Strict):
    """The longest side of a file in pixels."""

    least: _Pixels  # a smaller picture is left out
    advised: _Pixels  # larger pictures are reduced to this; smaller pictures are reported

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.least > self.advised:
            raise ValueError(f"least ({self.least}) is more than advised ({self.advised})")
        return self


class Share(_Strict):
    """The share of the frame's safe part that the product's bounding box takes.

    It is measured along the side of which the box takes more. A frame without `safe_aspect` is safe as a
    whole.
    """

    least: _Share
    wanted: _Share
    most: _Share

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.least <= self.wanted <= self.most:
            raise ValueError(f"least <= wanted <= most must be true; found {self}")
        return self


class Frame(_Strict):
    """One of the framed pictures that the channel gets of each live picture."""

    name: _Name
    aspect: tuple[_Side, _Side]  # width, height
    # the aspect of the middle part that must hold the whole product
    safe_aspect: tuple[_Side, _Side] | None = None
    size: Size
    share: Share  # the share of the safe part that the product takes
    ground: Ground
    shadow: bool
    formats: Annotated[tuple[FileFormat, ...], Field(min_length=1)]
    quality: Annotated[int, Field(ge=1, le=100)]
    widths: tuple[_Pixels, ...] = ()  # the widths in pixels of reduced copies for `srcset`

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.ground == "transparent" and "jpg" in self.formats:
            raise ValueError("JPEG has no transparency")
        return self


class Rule(_Strict):
    """A rule, the address where it is written, and the day when it was looked up."""

    of: Annotated[tuple[str, ...], Field(min_length=1)]  # the fields that follow from the rule
    says: str
    # chosen: toygan's own choice, because the channel has no rule
    kind: Literal["required", "advised", "chosen"]
    source: str
    official: bool | None = None  # whether the source is the channel's own page; None for a choice of toygan
    checked: date

    @model_validator(mode="after")
    def _known_source(self) -> Self:
        if (self.official is None) != (self.kind == "chosen"):
            raise ValueError("`official` must be there, except for a rule of the kind `chosen`")
        return self


class Channel(_Strict):
    """The rules of a channel about pictures."""

    name: _Name
    title: str
    version: date
    role: Literal["main", "secondary"]  # whether a generated picture may be a product's main picture
    role_reason: str
    forbids: tuple[str, ...] = ()
    most_bytes: Annotated[int, Field(ge=1000)]  # the largest size of a file
    most_pictures: Annotated[int, Field(ge=1)]  # the largest number of pictures of a product
    slots: tuple[str, ...] = ()  # the channel's names for a product's pictures, in order
    alt_letters: Annotated[int, Field(ge=40)]  # the largest number of characters of an alt text
    feeds: Annotated[tuple[FeedName, ...], Field(min_length=1)]
    aigc_label: bool = False  # China's label: a property in the file and a text in the picture
    frames: Annotated[tuple[Frame, ...], Field(min_length=1)]
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [frame.name for frame in self.frames]
        if len(set(names)) < len(names):
            raise ValueError(f"two frames have the same name: {', '.join(names)}")
        if self.slots and len(self.slots) != self.most_pictures:
            raise ValueError(f"{len(self.slots)} slots, but most_pictures is {self.most_pictures}")
        if self.aigc_label and any(frame.ground == "transparent" for frame in self.frames):
            raise ValueError("the text of the AIGC label needs an opaque ground")
        return self


def channel_names() -> tuple[str, ...]:
    """Returns the names of the bundled channels."""
    found = (each.name for each in files("toygan.channels").iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml")))


def load_channel(name: str) -> Channel:
    """Returns a bundled channel by its name, or the channel of a file by its path (`./mine.toml`).

    Raises BadInput for an unknown name, and for a file that does not describe a channel. The message names
    the wrong field.
    """
    if name.endswith(".toml"):
        try:
            return _parsed(Path(name).read_text(encoding="utf-8"), name)
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"{name} cannot be read ({error}); check the path") from None
    if name not in channel_names():
        raise BadInput(
            f"there is no channel {name!r}; there are {', '.join(channel_names())}; or give ./FILE.toml"
        )
    return _bundled(name)


@lru_cache(maxsize=32)
def _bundled(name: str) -> Channel:
    file = f"{name}.toml"
    return _parsed((files("toygan.channels") / file).read_text(encoding="utf-8"), file)


def _parsed(text: str, where: str) -> Channel:
    try:
        return Channel.model_validate(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadInput(f"{where}: not TOML ({error}); correct the file") from None
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in each['loc']) or 'the file'}: {each['msg']}"
            for each in error.errors()
        ]
        raise BadInput(f"{where}: {'; '.join(problems[:5])}") from None
