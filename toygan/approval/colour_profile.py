"""By how much the pictures of a model miss the colours that it is told, and which ones to tell it instead.

Photos show a product lighter and bluer than the colour that the catalog names (dark ones by 10 L*), and
networks that learnt from them draw it so. What ICC.1:2022 calls the characterisation of a device helps: for
each category it is fitted which colour is shown for a told one, and the networks are told a colour that is
wrong by as much the other way, the inverse to first order.
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
DECIMALS: Final = 6  # of a stored number

Shift = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class ColourProfile:
    """What a model shows for a told colour.

    A category's shift is an affine map, 4 x 3, in units of 50 CIELAB units: its rows belong to 1 and to L*,
    a*, b* of the told colour, its columns are by how much L*, a*, b* of the shown one exceed those.
    """

    shifts: Mapping[str, Shift]
    # For a person to read: the median CIEDE2000 of pictures without and with the shift.
    errors: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, shift in self.shifts.items():
            if len(shift) != 4 or any(len(row) != 3 for row in shift):
                raise ValueError(f"the shift of {name!r} must be 4 rows of 3 numbers")
            _check_numbers(f"the shift of {name!r}", [value for row in shift for value in row])
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
        return cls(shifts={name: _fit(each) for name, each in pairs.items() if each})

    def correct(self, colours: NDArray[np.float32], categories: Sequence[str]) -> NDArray[np.float32]:
        """The colours to tell for B x K wanted ones, (B, K, 4) as `toygan.conditions.colour` encodes them.

        `categories` are the B categories. L* stays in 0..100. Unknown colours, which are zeros, and those of
        categories without a shift stay as they are.
        """
        nothing = np.zeros((4, 3))
        shifts = np.array([self.shifts.get(name, nothing) for name in categories], dtype=np.float64)
        lab = colours[..., :3] + np.array([1.0, 0.0, 0.0])
        inputs = np.concatenate([np.ones_like(lab[..., :1]), lab], axis=-1)
        # A sum in this order, whatever the batch: a picture must not depend on its batch-mates.
        excess = (inputs[..., None] * shifts[:, None]).sum(axis=2)
        told = colours[..., :3] - excess
        told[..., 0] = told[..., 0].clip(-1, 1)
        corrected = colours.copy()
        shifted = np.array([name in self.shifts for name in categories])[:, None] & (colours[..., 3] > 0)
        corrected[shifted, :3] = told[shifted]
        return corrected

    def to_json(self) -> dict[str, Any]:
        """What `from_json` makes an equal profile of."""
        return {"shifts": dict(self.shifts), "errors": dict(self.errors)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ColourProfile":
        """From an object with the keys `shifts` and `errors`. Raises TypeError or ValueError naming what is
        out of shape or no finite number."""
        return cls(
            shifts=MappingProxyType(
                {name: tuple(tuple(row) for row in rows) for name, rows in dict(values["shifts"]).items()}
            ),
            errors=MappingProxyType({name: tuple(pair) for name, pair in dict(values["errors"]).items()}),
        )


def _fit(pairs: Sequence[tuple[str, str]]) -> Shift:
    told, shown = (hex_to_lab(each).astype(np.float64) / UNIT for each in zip(*pairs, strict=True))
    inputs = np.concatenate([np.ones((len(told), 1)), told], axis=1)
    weights = np.linalg.solve(inputs.T @ inputs + np.diag(PENALTIES), inputs.T @ (shown - told))
    return tuple(map(tuple, weights.round(DECIMALS).tolist()))


def _check_numbers(what: str, values: Sequence[object]) -> None:
    for value in values:
        if not isinstance(value, int | float) or isinstance(value, bool) or not isfinite(value):
            raise ValueError(f"{what} holds {value!r}; it must hold finite numbers")
