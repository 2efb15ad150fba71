"""The settings of a run."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, Self, get_args

from catalog_schemas.products import MAX_IMAGES_WANTED
from catalog_schemas.validation import is_category
from toygan.conditions.condition_types import ModelRole
from toygan.errors import BadInput
from toygan.images import ImageFormat

MAX_BATCH_SIZE: Final = 4096  # pictures

Mode = Literal["missing", "refresh", "retry", "all"]


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """The settings that the user gives a run. Raises BadInput for a value out of range."""

    models: Mapping[ModelRole, str]  # NAME@VERSION of each model
    images_per_product: int = 1  # the default for the catalog's images_wanted, 1..64
    categories: tuple[str, ...] = ()  # sorted; if empty, all categories of the models
    # maps column names of the contract to those of the file
    columns: Mapping[str, str] = field(default_factory=dict)
    mode: Mode = "missing"
    refresh_share: float = 1.0  # the largest share of the live pictures that a refresh replaces, in (0, 1]
    limit: int | None = None  # products
    format: ImageFormat = "webp"
    # number of pictures, which affects rounding; None if it is chosen for model and device
    batch_size: int | None = None

    def __post_init__(self) -> None:
        for role, name in self.models.items():
            if role not in get_args(ModelRole) or not isinstance(name, str):
                roles = ", ".join(get_args(ModelRole))
                raise BadInput(f"no model can have the role {role!r}; the roles are {roles}")
        object.__setattr__(self, "categories", tuple(sorted(set(self.categories))))
        if not 1 <= self.images_per_product <= MAX_IMAGES_WANTED:
            raise BadInput(
                f"images per product is {self.images_per_product}; it must be 1 to {MAX_IMAGES_WANTED}"
            )
        if self.limit is not None and self.limit < 1:
            raise BadInput(f"the limit is {self.limit} products; it must be at least 1")
        if self.batch_size is not None and not 1 <= self.batch_size <= MAX_BATCH_SIZE:
            raise BadInput(f"the batch size is {self.batch_size} pictures; it must be 1 to {MAX_BATCH_SIZE}")
        if not 0 < self.refresh_share <= 1:
            raise BadInput(f"the refresh share is {self.refresh_share}; it must be above 0 and at most 1")
        for what, value, known in (("mode", self.mode, Mode), ("format", self.format, ImageFormat)):
            if value not in get_args(known):
                raise BadInput(f"the {what} {value!r} is not one of {', '.join(get_args(known))}")
        for name in self.categories:
            if not is_category(name):
                raise BadInput(f"{name!r} cannot be a category's name")

    def to_json(self) -> dict[str, Any]:
        """Returns the settings as JSON values."""
        return {
            **asdict(self),
            "models": dict(self.models),
            "categories": list(self.categories),
            "columns": dict(self.columns),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Parses the output of to_json; raises BadInput for anything else."""
        try:
            return cls(**{**content, "categories": tuple(content["categories"])})
        except (AttributeError, KeyError, TypeError) as error:
            raise BadInput(f"the settings of the run are damaged ({error!r}); use another run id") from None
