"""From where a photo was taken, as numbers that are distributed as latents are."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def encode_views(azimuths_deg: Sequence[float | None], elevations_deg: Sequence[float | None]) -> Tensor:
    """Azimuths, 0 from the front, and elevations of N photos to (N, 2) float32, NaN where nothing is known.

    The normal scores of their ranks: drawing from a standard normal distribution gives the views of the
    photos as often as they are. Azimuths count mirrored as well, so that minus the score is the view of the
    mirrored photo; those of a whole turn are the same.
    """
    azimuths, elevations = (np.array(each, dtype=np.float64) for each in (azimuths_deg, elevations_deg))
    both = np.concatenate([azimuths, -azimuths])
    # Rounded, or the two sides would rank what the turn has rounded differently.
    sides = _normal_scores(np.round((both + 180) % 360 - 180, 6))[: len(azimuths)]
    return torch.from_numpy(np.stack([sides, _normal_scores(elevations)], axis=1)).float()


def _normal_scores(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) to (N,): equal ones have equal scores, NaN stays."""
    scores: NDArray[np.float64] = values.copy()
    known = ~np.isnan(values)
    _, order, counts = np.unique(values[known], return_inverse=True, return_counts=True)
    middles = (counts.cumsum() - counts / 2) / max(1, known.sum())
    scores[known] = torch.special.ndtri(torch.from_numpy(middles)).numpy()[order]
    return scores
