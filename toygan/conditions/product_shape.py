"""The shape of a product, as its layout or its line drawing shows it."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from toygan.conditions.condition_types import BACKGROUND

SHAPE_SIDE: Final = 128  # pixels


def product_shapes(conditions: Mapping[str, Tensor]) -> list[NDArray[np.bool_] | None]:
    """Returns the pixels of each of B products, (S, S) bool, S = `SHAPE_SIDE`.

    `category` is (B,) int64, `layout` (B, H, H) int64, `sketch` (B, 1, H, H) float32 in [-1, 1]. Without
    layouts and sketches, all B values are None. A layout says more than a line drawing, so it is preferred.
    In a line drawing, everything belongs to the product that no paper connects to the border.
    """
    if "layout" in conditions:
        shown = (conditions["layout"] != BACKGROUND).cpu()
    elif "sketch" in conditions:
        is_paper = (conditions["sketch"][:, 0] >= 0).cpu().numpy()
        shown = torch.from_numpy(np.stack([_enclosed(paper) for paper in is_paper]))
    else:
        return [None] * len(conditions["category"])
    shares = F.interpolate(shown[:, None].float(), size=SHAPE_SIDE, mode="area")[:, 0]
    return list((shares > 0.5).numpy())


def _enclosed(paper: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from scipy.ndimage import label  # slow to import

    areas, _ = label(paper)
    border = np.concatenate([areas[0], areas[-1], areas[:, 0], areas[:, -1]])
    return np.asarray(~paper | ~np.isin(areas, border[border > 0]))
