"""The weights of a linear probe, which scores pictures; see `toygan.approval.probe`."""

from dataclasses import dataclass
from math import isfinite
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

# timm's name of the network; Lite0 is not used, because evaluation uses it
BACKBONE: Final = "tf_efficientnet_lite1"
# side in pixels to which smaller pictures are enlarged; the network was trained on pictures of 240
SIDE: Final = 224
# the largest side in pixels; without a limit, a damaged file could take too much memory
LARGEST_SIDE: Final = 1024
Floats = NDArray[np.float64]
Evidence = Literal["deepest"]  # the inputs of a probe, see `toygan.artifact.feature_extractor`


@dataclass(frozen=True, kw_only=True)
class ProbeWeights:
    """logit = weights . evidence + intercept."""

    backbone: str
    weights: tuple[float, ...]
    intercept: float
    evidence: Evidence = "deepest"  # a toygan whose probes have other inputs refuses the file
    side: int = SIDE  # the side in pixels to which smaller pictures are enlarged

    def __post_init__(self) -> None:
        if self.evidence not in get_args(Evidence):
            raise ValueError(f"its evidence is {self.evidence!r}; known are {', '.join(get_args(Evidence))}")
        if isinstance(self.side, bool) or not isinstance(self.side, int) or not 0 < self.side <= LARGEST_SIDE:
            raise ValueError(f"its side is {self.side!r}; it must be a number of pixels up to {LARGEST_SIDE}")
        if not self.weights or not all(map(isfinite, (*self.weights, self.intercept))):
            raise ValueError("a probe has one or more weights and an intercept, all finite numbers")

    def logits(self, evidence: Floats) -> Floats:
        """Maps evidence (N, K) to logits (N,)."""
        return evidence @ np.array(self.weights, dtype=np.float64) + self.intercept
