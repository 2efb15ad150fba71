"""Corrects the colours that a model is given, so that its pictures show the wanted colours.

In a photo, a product is lighter and bluer than its colour in the catalog (a dark product by 10 L*). Networks
learn this from the photos. The remedy is the one used for devices such as printers, characterisation
(ICC.1:2022). For each category, a profile says by how much the shown colour differs from the given colour.
The networks are then given a colour that is shifted by the same amount in the opposite direction, which is
the inverse to first order. The shift is unknown for colours that the category's products never had, so the
correction fades out there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

UNIT: Final = 50.0  # CIELAB units per unit of the encoding in `toygan.conditions.colour`
FADING: Final = 0.6  # the shift is zero at this distance from the fitted colours, in units of UNIT

Shift = tuple[tuple[float, ...], ...]
Range = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True, kw_only=True)
class ColourProfile:
    """The colours that a model shows for the colours that it is given.

    A category's shift is an affine map, 4 x 3, in units of 50 CIELAB units. Its rows belong to 1 and to the
    given L*, a*, b*. Its columns are the differences of L*, a*, b*: the shown colour minus the given one.
    """

    shifts: Mapping[str, Shift]
    # for each category of `shifts`, the smallest and the largest L*, a*, b* of the given colours
    ranges: Mapping[str, Range]
    # For each category, the median CIEDE2000 of pictures without and with the shift. Only people read these
    # numbers.
    errors: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, shift in self.shifts.items():
            if len(shift) != 4 or any(len(row) != 3 for row in shift):
                raise ValueError(f"the shift of {name!r} must be 4 rows of 3 numbers")
            _check_numbers(f"the shift of {name!r}", [value for row in shift for value in row])
        if self.ranges.keys() != self.shifts.keys():
            raise ValueError("a category has a shift without a range, or a range without a shift")
        for name, ends in self.ranges.items():
            if len(ends) != 2 or any(len(end) != 3 for end in ends):
                raise ValueError(f"the range of {name!r} must be 2 rows of 3 numbers")
            _check_numbers(f"the range of {name!r}", [value for end in ends for value in end])
            if any(least > largest for least, largest in zip(*ends, strict=True)):
                raise ValueError(f"the range of {name!r} ends before it begins")
        if self.errors.keys() - self.shifts.keys():
            raise ValueError("a category has errors without a shift")
        for name, pair in self.errors.items():
            if len(pair) != 2:
                raise ValueError(f"the errors of {name!r} must be 2 numbers")
            _check_numbers(f"the errors of {name!r}", pair)

    def of(self, errors: Mapping[str, tuple[float, float]]) -> "ColourProfile":
        """Returns a profile of only the categories in `errors`, with these errors."""
        return type(self)(
            shifts={name: self.shifts[name] for name in errors},
            ranges={name: self.ranges[name] for name in errors},
            errors=errors,
        )

    def correct(self, colours: NDArray[np.float32], categories: Sequence[str]) -> NDArray[np.float32]:
        """Corrects K wanted colours of each of B products: (B, K, 4), encoded by `toygan.conditions.colour`.

        Returns the colours for the networks, in the same shape. `categories` are the categories of the B
        products. L* stays in 0..100. Unknown colours (zeros) and colours of categories without a shift do not
        change.
        """
        nothing, nowhere = np.zeros((4, 3)), np.zeros((2, 3))
        shifts = np.array([self.shifts.get(name, nothing) for name in categories], dtype=np.float64)
        ends = np.array([self.ranges.get(name, nowhere) for name in categories], dtype=np.float64)
        lab = colours[..., :3] + np.array([1.0, 0.0, 0.0])
        known = lab.clip(ends[:, None, 0], ends[:, None, 1])
        away = np.sqrt(((lab - known) ** 2).sum(axis=-1, keepdims=True))
        inputs = np.concatenate([np.ones_like(lab[..., :1]), known], axis=-1)
        # The order of this sum is the same for every batch, so a picture does not depend on the other
        # pictures of its batch.
        excess = (inputs[..., None] * shifts[:, None]).sum(axis=2)
        given = colours[..., :3] - excess * (1 - away / FADING).clip(0)
        given[..., 0] = given[..., 0].clip(-1, 1)
        corrected = colours.copy()
        shifted = np.array([name in self.shifts for name in categories])[:, None] & (colours[..., 3] > 0)
        corrected[shifted, :3] = given[shifted]
        return corrected

    def to_json(self) -> dict[str, Any]:
        """Returns an object of plain values. `from_json` makes an equal profile from it."""
        return {"shifts": dict(self.shifts), "ranges": dict(self.ranges), "errors": dict(self.errors)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ColourProfile":
        """Reads an object with the keys `shifts`, `ranges` and `errors`.

        Raises TypeError or ValueError that names the part with a wrong shape or without finite numbers.
        """
        return cls(
            shifts=_rows(values["shifts"]),
            ranges=_rows(values["ranges"]),
            errors=MappingProxyType({name: tuple(pair) for name, pair in dict(values["errors"]).items()}),
        )


def _rows(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType({name: tuple(tuple(row) for row in rows) for name, rows in dict(values).items()})


def _check_numbers(what: str, values: Sequence[object]) -> None:
    for value in values:
        if not isinstance(value, int | float) or isinstance(value, bool) or not isfinite(value):
            raise ValueError(f"{what} holds {value!r}; it must hold finite numbers")
