"""Predicts the layout and the lines of a photo that has none.

A model that generates from layouts can learn only from photos with a layout, but a shop uploads photos
without layouts. So such a model comes with a small U-Net. The U-Net was trained on the model's photos to
predict the label of each pixel and the lines.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from toygan.artifact.enhancer import resize_drawings
from toygan.artifact.weights import load_weights
from toygan.conditions.image import PAPER, Drawing, fit_square
from toygan.errors import ModelError
from toygan.images import from_uint8
from toygan.models.segmenter import Segmenter


@dataclass(frozen=True, kw_only=True, eq=False)
class LayoutPredictor:
    """A segmenter whose last, additional channel is the ink of the lines."""

    segmenter: Segmenter

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> Drawing:
        """Maps a photo (3, R, R) uint8 on the CPU, R a multiple of 8, to layout and lines, (R, R) uint8."""
        logits = self.segmenter(from_uint8(image[None]))[0]
        paper = PAPER * (1 - logits[-1].sigmoid())
        return Drawing(
            layout=logits[:-1].argmax(0).numpy().astype(np.uint8),
            lines=paper.round().numpy().astype(np.uint8),
        )

    def at(self, side: int) -> Callable[[Tensor], Drawing]:
        """Returns a function that predicts at `side` pixels, for photos (3, R, R) uint8 of any size.

        The network knows only products of the size that they have in the photos of its training. The drawing
        is resized to the size of the photo.
        """
        return partial(self._predict_at, side)

    def _predict_at(self, side: int, image: Tensor) -> Drawing:
        found = self(fit_square(image, side, PAPER))
        tensors = {
            "layout": torch.from_numpy(found.layout)[None].long(),
            "sketch": torch.from_numpy(found.lines)[None, None].float(),
        }
        resized = resize_drawings(tensors, image.shape[-1])
        return Drawing(
            layout=resized["layout"][0].numpy().astype(np.uint8),
            lines=resized["sketch"][0, 0].round().numpy().astype(np.uint8),
        )

    @classmethod
    def from_file(cls, content: bytes, classes: int) -> Self:
        """Reads what `to_file` wrote, for labels in [0, classes), to the CPU.

        Raises ModelError for other content.
        """
        with torch.random.fork_rng(devices=[]):
            segmenter = Segmenter(classes + 1)
        try:
            load_weights(segmenter, load(content))
        except SafetensorError as error:
            raise ModelError(f"the layout predictor cannot be read: {error}") from error
        return cls(segmenter=segmenter.eval().requires_grad_(False))

    def to_file(self) -> bytes:
        """Returns the weights as safetensors, with the kernels in half precision."""
        tensors = {
            key: (value.half() if value.ndim > 1 else value).contiguous()
            for key, value in self.segmenter.state_dict().items()
        }
        return save(tensors)
