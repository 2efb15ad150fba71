"""One photo on its way from where it lies to a training."""

from collections.abc import Collection
from typing import Final, NamedTuple

from toygan.conditions.condition_types import ImageCondition
from toygan.errors import BadInput


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
    lines: bytes | None = None  # the sketch beside another condition


class WantedConditions(NamedTuple):
    """Which drawings are to come with photos."""

    kind: ImageCondition | None = None
    lines: bool = False  # the sketch beside it, too, where there is one
    needs_lines: bool = False  # whether there must be one
    may_lack: bool = False  # whether photos may come without `kind`

    def check(self, where: str, columns: Collection[str] = ()) -> None:
        """Raises BadInput where photos with these columns, of which messages speak as `where`, lack one."""
        needed = [] if self.kind is None or self.may_lack else [self.kind]
        for column in (*needed, *(["sketch"] if self.needs_lines else [])):
            if column not in columns:
                raise BadInput(
                    f"{where} has no column {column!r}, which this family draws from; give photo shards with "
                    "this column, or take a family or a model that needs none"
                )


NO_CONDITIONS: Final = WantedConditions()
