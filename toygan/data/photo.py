"""A photo and its condition images, on the way from a source to a training."""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final, NamedTuple

from toygan.conditions.condition_types import ImageCondition
from toygan.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

    from toygan.artifact.product_finder import ProductFinder
    from toygan.conditions.image import Drawing


class Photo(NamedTuple):
    """One photo as it was found, not decoded."""

    photo_id: str
    sku: str
    category: str
    title: str | None
    colour_hex: str | None
    photo: bytes
    condition: bytes | None  # the file of its sketch, layout or snapshot
    source: str  # the name of its file or store, for messages
    description: str | None = None
    colour: str | None = None  # the name of the main colour
    finish: str | None = None
    lines: bytes | None = None  # the file of its sketch, if `condition` is another type of image
    mask: bytes | None = None  # the file of the product's mask in the snapshot
    layout: bytes | None = None  # the file of its layout, if `condition` is a snapshot
    # the files of a snapshot that shows the product in any size and place, and of the product's mask in it
    free_snapshot: bytes | None = None
    free_mask: bytes | None = None


class WantedConditions(NamedTuple):
    """The condition images that photos should have."""

    kind: ImageCondition | None = None
    lines: bool = False  # whether to read the sketch, too, if there is one
    needs_lines: bool = False  # whether each photo must have a sketch
    may_lack: bool = False  # whether photos without `kind` are accepted
    as_files: bool = False  # whether to keep layout and lines as files, too
    predictor: "Callable[[Tensor], Drawing] | None" = None  # predicts missing layouts and lines
    finder: "ProductFinder | None" = None  # finds the product in snapshots without a mask

    @property
    def column(self) -> str | None:
        """The column of photo shards that holds `kind`."""
        return "snapshot" if self.kind == "photo" else self.kind

    def check(self, where: str, columns: Collection[str] = ()) -> None:
        """Raises BadInput if a needed column is not among `columns`. The message calls the photos `where`."""
        needed = [] if self.column is None or self.may_lack else [self.column]
        for column in (*needed, *(["sketch"] if self.needs_lines else [])):
            if column not in columns:
                raise BadInput(
                    f"{where} has no column {column!r}, which this family needs; give photo shards with "
                    "this column, or take a family or a model that does not need it"
                )


NO_CONDITIONS: Final = WantedConditions()
