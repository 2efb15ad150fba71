"""The limits that the measures of a category's pictures must meet."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import isfinite
from typing import Any


@dataclass(frozen=True, kw_only=True)
class CategoryLimits:
    """The limits for the measures of a category's pictures. A measure may be equal to its limit."""

    contrast_min: float
    fill_ratio_min: float
    fill_ratio_max: float
    background_white_min: float
    colour_delta_e_max: float | None  # None if no photo has a named main colour; then no colour is checked
    outline_seen_min: float = 0.0  # 0 if the shapes of the photos' products are not known

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not (value is None and name == "colour_delta_e_max") and not _is_number(value):
                raise ValueError(f"{name} is {value!r}; it must be a finite number")
        if self.fill_ratio_min > self.fill_ratio_max:
            raise ValueError(
                f"fill_ratio_min {self.fill_ratio_min} is above fill_ratio_max {self.fill_ratio_max}"
            )

    def to_json(self) -> dict[str, float | None]:
        """Returns the limits as plain numbers by field name, without an outline_seen_min of 0."""
        limits = asdict(self)
        if not self.outline_seen_min:
            del limits["outline_seen_min"]
        return limits

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "CategoryLimits":
        """Reads what `to_json` returned. Raises ValueError naming the wrong field."""
        wanted = {field.name for field in fields(cls)}
        if not wanted - {"outline_seen_min"} <= values.keys() <= wanted:
            raise ValueError(
                f"limits need exactly {', '.join(sorted(wanted))}; found {', '.join(sorted(values))}"
            )
        return cls(**values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
