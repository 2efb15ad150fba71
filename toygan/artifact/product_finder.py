"""Finds the product in a shop's own snapshot and frames it as the studio photos are framed.

The network looks twice: first at the whole picture, then at the part around the product. The second look
gives the mask's edges in the resolution of the framed picture. If the two differ a little, a third look, at
the mirrored part, decides whether the mask is clear. The framed picture is made from the pixels of the file.
"""

from dataclasses import dataclass
from typing import Final, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from toygan.artifact.compiled_mask_network import CompiledMaskNetwork
from toygan.artifact.mask_network_file import read_mask_network
from toygan.models.boxes import box_maximum
from toygan.models.mask_network import TRUNK_SIDE, MaskNetwork

FindingProblem = Literal["product_not_found", "several_products", "product_cut_off", "product_unclear"]

# the product's longer side as a share of the frame's side; this is the median of the studio photos
FRAME_SHARE: Final = 0.85
FEWEST_SHARE: Final = 0.004  # share of the picture's pixels; a smaller area does not count as a product
# share of the largest part's pixels; a separate part with more pixels counts as another product
SECOND_SHARE: Final = 0.3
GAP: Final = 4  # pixels of the first look, up to which a small separate part belongs to the product
CUT_SHARE: Final = 0.03  # share of a side of the picture; a product that touches more of the side is cut off
SHARPNESS: Final = 3.0  # the slope of the mask at its edges, relative to the slope of the probabilities
# The limit for `FramedSnapshot.doubt`. For the third look, the code adds 1 divided by the product's shorter
# side in pixels. Of 140 snapshots of calibration products (20 real, 120 rendered), 105 have no problem. 2 of
# these have a mask whose overlap with the right mask is below 0.9. With a looser limit for the first two
# looks, it was 4 of 111.
MOST_DOUBT: Final = 0.025
# If the first two looks differ by more than this, a third one cannot make the mask clear: something large was
# taken in or lost.
THIRD_LOOK: Final = 0.2


@dataclass(frozen=True, kw_only=True)
class FramedSnapshot:
    """A snapshot's product, framed as the studio photos are."""

    pixels: NDArray[np.uint8]  # (R, R, 4): the snapshot, and the mask with 255 in the product
    problems: tuple[FindingProblem, ...]  # reasons for which a person should look at the picture
    own_pixels: int  # the product's longer side in pixels of the snapshot's file
    doubt: float  # 0..1: 1 minus the overlap (intersection over union) of the last two looks
    # top, left and side of the framed square, in pixels of the snapshot's file; it may reach beyond the file
    square: tuple[int, int, int]

    @classmethod
    def of(cls, pixels: NDArray[np.uint8]) -> Self:
        """Wraps a snapshot (R, R, 4) that is already framed and has a mask."""
        shown = torch.from_numpy(pixels[..., 3] > 127)
        longest = 0
        if shown.any():
            top, bottom, left, right = _box(shown)
            longest = max(bottom - top, right - left)
        square = (0, 0, pixels.shape[0])
        return cls(pixels=pixels, problems=(), own_pixels=longest, doubt=0.0, square=square)

    @property
    def notes(self) -> dict[str, float]:
        """Returns what a metadata row says about the search for the product."""
        return {"own_pixels": self.own_pixels, "doubt": self.doubt}


@dataclass(frozen=True, kw_only=True, eq=False)
class ProductFinder:
    """A mask network in evaluation mode."""

    network: MaskNetwork | CompiledMaskNetwork
    device: torch.device

    @torch.inference_mode()
    def frame(self, picture: NDArray[np.uint8], resolution: int) -> FramedSnapshot:
        """Finds the product in a picture (H, W, 3) uint8 sRGB and frames it at `resolution` pixels a side.

        If no product is found, the frame holds the whole picture.
        """
        whole = torch.from_numpy(picture).permute(2, 0, 1)
        height, width = picture.shape[:2]
        first = self._look(_resized(whole, TRUNK_SIDE))
        main, problems = _main_part(first)
        if main is None:
            centre, side = _whole_pixels((height / 2, width / 2), max(height, width))
            nothing = torch.zeros(resolution, resolution)
            return _framed(whole, centre, side, nothing, ("product_not_found",), own_pixels=side, doubt=1.0)
        top, bottom, left, right = _box(main)
        scale_y, scale_x = height / TRUNK_SIDE, width / TRUNK_SIDE
        centre = ((top + bottom) / 2 * scale_y, (left + right) / 2 * scale_x)
        longest = max((bottom - top) * scale_y, (right - left) * scale_x)
        centre, side = _whole_pixels(centre, longest / FRAME_SHARE)
        near = _cut(whole, centre, side, resolution)
        before = _cut(main[None].float() * 255, centre, side, resolution, scale=(scale_y, scale_x))[0] > 127
        mask, doubt, is_clear = self._look_near(near, before)
        if not (mask > 0.5).any():
            return _framed(whole, centre, side, mask, ("product_not_found",), own_pixels=0, doubt=1.0)
        if not is_clear:
            problems = (*problems, "product_unclear")
        # The second look shows the edges more exactly, so the frame is computed from it.
        top, bottom, left, right = _box(mask > 0.5)
        step = side / resolution
        exact = (
            centre[0] + ((top + bottom) / 2 - resolution / 2) * step,
            centre[1] + ((left + right) / 2 - resolution / 2) * step,
        )
        longest = max(bottom - top, right - left) * step
        exact, new_side = _whole_pixels(exact, longest / FRAME_SHARE)
        mask = _moved(mask, centre, side, exact, new_side)
        return _framed(whole, exact, new_side, mask, problems, own_pixels=round(longest), doubt=doubt)

    def _look_near(self, near: Tensor, before: Tensor) -> tuple[Tensor, float, bool]:
        """Looks at the part of the picture around the product, (3, R, R).

        Returns the mask (R, R) in [0, 1], the doubt, and whether the mask is clear. `before` is what the
        first look found, (R, R) bool.
        """
        found = self._look(near)
        mask = _connected(found, before)
        doubt = 1 - _overlap(mask > 0.5, before)
        if not (mask > 0.5).any():
            return mask, 1.0, False
        if doubt <= MOST_DOUBT or doubt > THIRD_LOOK:
            return mask, doubt, doubt <= MOST_DOUBT
        # The first look is coarse, so the second may be right where they differ. If it is, the network mostly
        # finds the same in the mirrored picture.
        mirrored = self._look(near.flip(-1)).flip(-1)
        doubt = 1 - _overlap(_connected(mirrored, before) > 0.5, mask > 0.5)
        is_clear = doubt <= MOST_DOUBT + 1 / _shorter_side(mask > 0.5)
        return _connected((found + mirrored) / 2, before), doubt, is_clear

    def _look(self, square: Tensor) -> Tensor:
        """Maps a square (3, S, S) in 0..255 to the probability that each pixel shows the product: (S, S)."""
        logits = self.network((square[None].float() / 127.5 - 1).to(self.device))
        probabilities: Tensor = torch.sigmoid(logits)[0, 0].cpu()
        return probabilities

    @classmethod
    def from_file(cls, content: bytes, device: torch.device) -> Self:
        """Reads what `mask_network_file` wrote. On a CPU, onnxruntime runs the network.

        Raises ModelError for other content.
        """
        if device.type == "cpu":
            return cls(network=CompiledMaskNetwork(content), device=device)
        network = read_mask_network(content).to(device).to(memory_format=torch.channels_last)
        return cls(network=network, device=device)


def _framed(
    whole: Tensor,
    centre: tuple[float, float],
    side: int,
    mask: Tensor,
    problems: tuple[FindingProblem, ...],
    *,
    own_pixels: int,
    doubt: float,
) -> FramedSnapshot:
    """Cuts the square out of the picture `whole` at the mask's resolution."""
    layers = torch.cat([_cut(whole, centre, side, len(mask)), 255 * mask[None]])
    return FramedSnapshot(
        pixels=np.ascontiguousarray(layers.round().clamp(0, 255).byte().permute(1, 2, 0).numpy()),
        problems=problems,
        own_pixels=own_pixels,
        doubt=round(doubt, 4),
        square=(round(centre[0] - side / 2), round(centre[1] - side / 2), side),
    )


def _main_part(
    probabilities: Tensor,
) -> tuple[Tensor | None, tuple[FindingProblem, ...]]:
    """Returns the product's pixels, (S, S) bool, and the problems found.

    The pixels are None if there is no product.
    """
    from scipy.ndimage import binary_dilation
    from skimage.measure import label

    found = (probabilities > 0.5).numpy()
    parts: NDArray[np.int64] = label(found, connectivity=2)  # type: ignore[no-untyped-call]
    sizes = np.bincount(parts.ravel())[1:]
    if not len(sizes) or sizes.max() < FEWEST_SHARE * found.size:
        return None, ("product_not_found",)
    order = np.argsort(-sizes, kind="stable")
    problems: list[FindingProblem] = []
    if len(sizes) > 1 and sizes[order[1]] > SECOND_SHARE * sizes[order[0]]:
        problems.append("several_products")
    # A small separate part does not count as another product, because a hand or a wheel may look separate. If
    # it is near, it may be a foot behind a shadow, and belongs to the product.
    main = parts == order[0] + 1
    near = parts[binary_dilation(main, iterations=GAP)]
    small = 1 + np.flatnonzero(sizes <= SECOND_SHARE * sizes[order[0]])
    main |= np.isin(parts, np.intersect1d(near, small))
    touching = max(int(main[line].sum()) for line in (0, -1, (slice(None), 0), (slice(None), -1)))
    if touching > CUT_SHARE * len(main):
        problems.append("product_cut_off")
    return torch.from_numpy(main), tuple(problems)


def _connected(near: Tensor, before: Tensor) -> Tensor:
    """Keeps those parts of the second look that overlap the first look; returns the mask (R, R) in [0, 1]."""
    from skimage.measure import label

    parts: NDArray[np.int64] = label((near > 0.5).numpy(), connectivity=2)  # type: ignore[no-untyped-call]
    is_kept = np.bincount(parts[before.numpy()], minlength=parts.max() + 1) > 0
    is_kept[0] = False  # what is in no part
    sure = torch.from_numpy(is_kept[parts])
    # Soft edges may reach two pixels beyond the pixels that are certain.
    beside = box_maximum(sure[None, None].float(), 2)[0, 0]
    # The steeper slope makes the mask 1 inside the product, even if the network was less sure there.
    return ((near - 0.5) * SHARPNESS + 0.5).clamp(0, 1) * beside


def _overlap(first: Tensor, second: Tensor) -> float:
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else 0.0


def _box(mask: Tensor) -> tuple[int, int, int, int]:
    """Returns the first row, the row after the last, the first column and the column after the last."""
    rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _shorter_side(mask: Tensor) -> int:
    top, bottom, left, right = _box(mask)
    return min(bottom - top, right - left)


def _resized(picture: Tensor, side: int) -> Tensor:
    return F.interpolate(
        picture[None].float(), size=(side, side), mode="bilinear", antialias=True, align_corners=False
    )[0]


def _whole_pixels(centre: tuple[float, float], side: float) -> tuple[tuple[float, float], int]:
    """Returns the centre and the side of the square whose borders are the nearest borders of pixels.

    `_cut` cuts out whole pixels. With other numbers the mask would not lie exactly on the picture.
    """
    whole = max(1, round(side))
    down, across = (round(each - whole / 2) + whole / 2 for each in centre)
    return (down, across), whole


def _cut(
    picture: Tensor,
    centre: tuple[float, float],
    side: float,
    resolution: int,
    *,
    scale: tuple[float, float] = (1.0, 1.0),
) -> Tensor:
    """Cuts a square out of (C, H, W) and resizes it to (C, resolution, resolution) float32.

    `centre` and `side` are in pixels of the file. `scale` is the number of pixels of the file per pixel of
    `picture`, down and across. Where the square reaches beyond the picture, the picture's border pixels are
    repeated.
    """
    height, width = picture.shape[1:]
    tall, wide = max(1, round(side / scale[0])), max(1, round(side / scale[1]))
    top, left = round(centre[0] / scale[0] - tall / 2), round(centre[1] / scale[1] - wide / 2)
    rows = (torch.arange(top, top + tall)).clamp(0, height - 1)
    columns = (torch.arange(left, left + wide)).clamp(0, width - 1)
    part = picture[:, int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1]
    steps = [(2, columns - columns[0]), (1, rows - rows[0])]
    # The square of a long, narrow picture has many times its pixels. So each side is resized alone, the one
    # with more repeated pixels first. torch resizes a single column wrongly, so that never comes first.
    if part.shape[2] > 1 and len(rows) * part.shape[2] < len(columns) * part.shape[1]:
        steps.reverse()
    for dim, pixels in steps:
        part = _resized_along(part.index_select(dim, pixels), dim, resolution)
    return part.clamp(0, 255)


def _resized_along(part: Tensor, dim: int, length: int) -> Tensor:
    """Resizes one side of (C, H, W); returns float32."""
    size = [length if each == dim else part.shape[each] for each in (1, 2)]
    resized = F.interpolate(
        part[None].float(), size=size, mode="bicubic", antialias=True, align_corners=False
    )
    return resized[0]


def _moved(
    mask: Tensor, centre: tuple[float, float], side: float, new_centre: tuple[float, float], new_side: float
) -> Tensor:
    """Resamples the mask of one square for another square of the same picture."""
    ratio = new_side / side
    down, across = (2 * (new - old) / side for new, old in zip(new_centre, centre, strict=True))
    matrix = torch.tensor([[ratio, 0.0, across], [0.0, ratio, down]])[None]
    size = [1, 1, *mask.shape]
    grid = F.affine_grid(matrix, size, align_corners=False)
    return F.grid_sample(mask[None, None], grid, align_corners=False)[0, 0]
