"""By how much the pictures of a model miss the colours that it is told, and which ones to tell it instead.

Photos show a product lighter and bluer than the colour that the catalog names (dark ones by 10 L*), and
networks that learnt from them draw it so. What ICC.1:2022 calls the characterisation of a device helps: for
each category it is fitted which colour is shown for a told one, and the networks are told a colour that is
wrong by as much the other way, the inverse to first order. Of colours that the category's products never had
nobody knows what is shown: there the correction fades out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from toygan.approval.measures import hex_to_lab

UNIT: Final = 50.0  # of CIELAB, as `toygan.conditions.colour` encodes it
# Of the constant and of L*, a*, b*: the last three would be guesses where a category has few colours.
PENALTIES: Final = (1e-6, 3.0, 3.0, 3.0)
FADING: Final = 0.6  # as far from the colours that it was fitted to a shift is nothing, in UNIT
DECIMALS: Final = 6  # of a stored number

Shift = tuple[tuple[float, ...], ...]
Range = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True, kw_only=True)
class ColourProfile:
    """What a model shows for a told colour.

    A category's shift is an affine map, 4 x 3, in units of 50 CIELAB units: its rows belong to 1 and to L*,
    a*, b* of the told colour, its columns are by how much L*, a*, b* of the shown one exceed those.
    """

    shifts: Mapping[str, Shift]
    ranges: Mapping[str, Range]  # of the same categories, the least and the largest L*, a*, b* that were told
    # For a person to read: the median CIEDE2000 of pictures without and with the shift.
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
            raise ValueError("there are errors of a category without a shift")
        for name, pair in self.errors.items():
            if len(pair) != 2:
                raise ValueError(f"the errors of {name!r} must be 2 numbers")
            _check_numbers(f"the errors of {name!r}", pair)

    @classmethod
    def fit(cls, pairs: Mapping[str, Sequence[tuple[str, str]]]) -> "ColourProfile":
        """From pairs of told and shown colours, `#RRGGBB` both, by category; one without pairs gets no shift.

        Ridge regression: the fewer colours a category has, the more its shift is one for all colours.
        """
        fitted = {name: _fit(each) for name, each in pairs.items() if each}
        return cls(
            shifts={name: shift for name, (shift, _) in fitted.items()},
            ranges={name: ends for name, (_, ends) in fitted.items()},
        )

    def of(self, errors: Mapping[str, tuple[float, float]]) -> "ColourProfile":
        """The same for the categories that have `errors`, and with these."""
        return type(self)(
            shifts={name: self.shifts[name] for name in errors},
            ranges={name: self.ranges[name] for name in errors},
            errors=errors,
        )

    def correct(self, colours: NDArray[np.float32], categories: Sequence[str]) -> NDArray[np.float32]:
        """The colours to tell for B x K wanted ones, (B, K, 4) as `toygan.conditions.colour` encodes them.

        `categories` are the B categories. L* stays in 0..100. Unknown colours, which are zeros, and those of
        categories without a shift stay as they are.
        """
        nothing, nowhere = np.zeros((4, 3)), np.zeros((2, 3))
        shifts = np.array([self.shifts.get(name, nothing) for name in categories], dtype=np.float64)
        ends = np.array([self.ranges.get(name, nowhere) for name in categories], dtype=np.float64)
        lab = colours[..., :3] + np.array([1.0, 0.0, 0.0])
        known = lab.clip(ends[:, None, 0], ends[:, None, 1])
        away = np.sqrt(((lab - known) ** 2).sum(axis=-1, keepdims=True))
        inputs = np.concatenate([np.ones_like(lab[..., :1]), known], axis=-1)
        # A sum in this order, whatever the batch: a picture must not depend on its batch-mates.
        excess = (inputs[..., None] * shifts[:, None]).sum(axis=2)
        told = colours[..., :3] - excess * (1 - away / FADING).clip(0)
        told[..., 0] = told[..., 0].clip(-1, 1)
        corrected = colours.copy()
        shifted = np.array([name in self.shifts for name in categories])[:, None] & (colours[..., 3] > 0)
        corrected[shifted, :3] = told[shifted]
        return corrected

    def to_json(self) -> dict[str, Any]:
        """What `from_json` makes an equal profile of."""
        return {"shifts": dict(self.shifts), "ranges": dict(self.ranges), "errors": dict(self.errors)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ColourProfile":
        """From an object with the keys `shifts`, `ranges` and `errors`. Raises TypeError or ValueError naming
        what is out of shape or no finite number."""
        return cls(
            shifts=_rows(values["shifts"]),
            ranges=_rows(values["ranges"]),
            errors=MappingProxyType({name: tuple(pair) for name, pair in dict(values["errors"]).items()}),
        )


def _rows(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType({name: tuple(tuple(row) for row in rows) for name, rows in dict(values).items()})


def _fit(pairs: Sequence[tuple[str, str]]) -> tuple[Shift, Range]:
    told, shown = (hex_to_lab(each).astype(np.float64) / UNIT for each in zip(*pairs, strict=True))
    inputs = np.concatenate([np.ones((len(told), 1)), told], axis=1)
    weights = np.linalg.solve(inputs.T @ inputs + np.diag(PENALTIES), inputs.T @ (shown - told))
    # Outwards, by more than the last bits in which two ways to CIELAB differ.
    least, largest = np.floor(1e3 * told.min(axis=0)) / 1e3, np.ceil(1e3 * told.max(axis=0)) / 1e3
    ends = (tuple(least.tolist()), tuple(largest.tolist()))
    return tuple(map(tuple, weights.round(DECIMALS).tolist())), ends


def _check_numbers(what: str, values: Sequence[object]) -> None:
    for value in values:
        if not isinstance(value, int | float) or isinstance(value, bool) or not isfinite(value):
            raise ValueError(f"{what} holds {value!r}; it must hold finite numbers")
