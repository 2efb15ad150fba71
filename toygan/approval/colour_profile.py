"""Fits the colour correction of a model to pairs of given and shown colours."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from toygan.approval.measures import hex_to_lab
from toygan.artifact.colour_profile import UNIT, ColourProfile, Range, Shift

# The ridge penalties of the constant and of the coefficients of L*, a*, b*. With few colours in a category,
# unpenalised coefficients would be guesses.
PENALTIES: Final = (1e-6, 3.0, 3.0, 3.0)
DECIMALS: Final = 6  # the number of decimals of a stored number


def colour_profile_of(pairs: Mapping[str, Sequence[tuple[str, str]]]) -> ColourProfile:
    """Fits a profile to pairs of a given and a shown colour (`#RRGGBB`) by category.

    A category without pairs gets no shift. The fit is a ridge regression. So the fewer colours a category
    has, the closer its shift is to a constant.
    """
    fitted = {name: _fit(each) for name, each in pairs.items() if each}
    return ColourProfile(
        shifts={name: shift for name, (shift, _) in fitted.items()},
        ranges={name: ends for name, (_, ends) in fitted.items()},
    )


def _fit(pairs: Sequence[tuple[str, str]]) -> tuple[Shift, Range]:
    given, shown = (hex_to_lab(each).astype(np.float64) / UNIT for each in zip(*pairs, strict=True))
    inputs = np.concatenate([np.ones((len(given), 1)), given], axis=1)
    weights = np.linalg.solve(inputs.T @ inputs + np.diag(PENALTIES), inputs.T @ (shown - given))
    # Rounded outwards, because two conversions to CIELAB differ in the last bits.
    least, largest = np.floor(1e3 * given.min(axis=0)) / 1e3, np.ceil(1e3 * given.max(axis=0)) / 1e3
    ends = (tuple(least.tolist()), tuple(largest.tolist()))
    return tuple(map(tuple, weights.round(DECIMALS).tolist())), ends
