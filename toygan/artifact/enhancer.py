"""Runs the second stage, which enlarges the pictures of another model; see `toygan.models.enhancer`.

An enhancer is trained as a model of its own. Then `toygan calibrate` adds it to the files of another model,
as `enhancer.json` and `enhancer.safetensors`. So that model gets a new version.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from toygan.artifact.config import ModelConfig
from toygan.artifact.files import CONFIG, ENHANCER, ENHANCER_CONFIG, ModelFiles
from toygan.artifact.weights import load_weights
from toygan.errors import ModelError
from toygan.images import from_uint8, to_uint8
from toygan.models.enhancer import EnhancerConfig, Generator
from toygan.models.layers import ConditionalGenerator, Conditions


@dataclass(frozen=True, kw_only=True)
class Enhancer:
    """The trained generator of an enhancer: in evaluation mode, in float32, on one device."""

    small_resolution: int  # the side of its input pictures in pixels
    resolution: int  # the side of its output pictures in pixels
    generator: ConditionalGenerator
    device: torch.device

    @torch.inference_mode()
    def enlarge(self, small: Tensor, *, layout: Tensor | None = None, lines: Tensor | None = None) -> Tensor:
        """Enlarges (B, 3, r, r) uint8 pictures of `small_resolution` to (B, 3, R, R) uint8.

        `layout` (B, H, H) int64 has labels. `lines` is (B, 1, H, H) float32 in [-1, 1], ink at -1. H may have
        any value, because layout and lines are resized. The pictures are enlarged one by one. For another
        batch size kernels round differently, but the bytes of a picture must not depend on the rest of its
        batch.
        """
        enlarged = []
        for row in range(len(small)):
            given = {"small": from_uint8(small[row : row + 1])}
            if layout is not None:
                given["layout"] = layout[row : row + 1]
            if lines is not None:
                given["sketch"] = lines[row : row + 1]
            conditions = {
                name: value.to(self.device) for name, value in resize_drawings(given, self.resolution).items()
            }
            pixels = to_uint8(self.generator(torch.zeros(1, 0, device=self.device), conditions))
            enlarged.append(torch.from_numpy(pixels)[0].permute(2, 0, 1))
        return torch.stack(enlarged)

    def enlarge_batch(self, small: Tensor, conditions: Conditions, batch_size: int) -> NDArray[np.uint8]:
        """Enlarges (N, 3, r, r) uint8 to (batch_size, R, R, 3), with the layouts and lines in `conditions`.

        The batch is padded with copies of the first large picture, which saves time.
        """
        large = self.enlarge(small, layout=conditions.get("layout"), lines=conditions.get("sketch"))
        padding = large[:1].expand(batch_size - len(large), -1, -1, -1)
        return np.ascontiguousarray(torch.cat([large, padding]).permute(0, 2, 3, 1).numpy())


def resize_drawings(conditions: Conditions, side: int) -> dict[str, Tensor]:
    """Returns the conditions with `layout` and `sketch`, if present, resized to `side` pixels a side.

    An enlarged layout gets smooth borders: the steps of repeated pixels would show in the picture.
    """
    resized = dict(conditions)
    if "layout" in resized and (own := resized["layout"].shape[-1]) != side:
        if own < side:
            resized["layout"] = torch.stack([_enlarged_labels(each, side) for each in resized["layout"]])
        else:
            labels = resized["layout"][:, None].float()
            resized["layout"] = F.interpolate(labels, size=side, mode="nearest-exact")[:, 0].long()
    if "sketch" in resized and resized["sketch"].shape[-1] != side:
        resized["sketch"] = F.interpolate(
            resized["sketch"], size=side, mode="bilinear", align_corners=False, antialias=True
        )
    return resized


def _enlarged_labels(layout: Tensor, side: int) -> Tensor:
    """Enlarges (H, H) int64 labels to (side, side): the label with the largest share at each pixel."""
    labels = torch.unique(layout)
    shares = (layout == labels[:, None, None]).float()[None]
    shares = F.interpolate(shares, size=side, mode="bilinear", align_corners=False)[0]
    # On a CPU, argmax along the first dimension takes ten times as long as this loop.
    chosen: Tensor = labels[:1].expand(side, side)
    largest = shares[0]
    for label, share in zip(labels[1:], shares[1:], strict=True):
        chosen = torch.where(share > largest, label, chosen)
        largest = torch.maximum(largest, share)
    return chosen.contiguous()


def enhancer_files(source: ModelFiles) -> dict[str, bytes]:
    """Returns the files that a model needs in order to use the trained enhancer `source`.

    Raises ModelError if `source` is not an enhancer, or if it is damaged.
    """
    files = {ENHANCER_CONFIG: source.files[CONFIG], ENHANCER: source.files["generator.safetensors"]}
    load_enhancer(source.name, files, torch.device("cpu"))
    return files


def load_enhancer(model: str, files: Mapping[str, bytes], device: torch.device) -> Enhancer | None:
    """Loads the enhancer from the `files` of the model named `model`; returns None if there is no enhancer.

    Raises ModelError if a file is missing or damaged, if the weights do not have the shapes that the config
    gives, or if the config's family does not enlarge pictures.
    """
    missing = [name for name in (ENHANCER_CONFIG, ENHANCER) if name not in files]
    if len(missing) == 2:
        return None
    if missing:
        raise ModelError(f"{missing[0]} of the model {model} is missing; copy the model's folder again")
    config = ModelConfig.from_json(files[ENHANCER_CONFIG], f"{ENHANCER_CONFIG} of the model {model}")
    if not config.enlarges:
        raise ModelError(
            f"the model {model} is of the family {config.family}, which does not enlarge pictures; "
            "train an enhancer by `toygan train --family enhancer`"
        )
    assert isinstance(config.networks, EnhancerConfig)
    with torch.random.fork_rng(devices=[]):
        generator = Generator(config.networks)
    try:
        load_weights(generator, load(files[ENHANCER]))
    except (KeyError, SafetensorError, ModelError) as error:
        raise ModelError(f"{ENHANCER} of the model {model}: {error}") from error
    generator.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)
    return Enhancer(
        small_resolution=config.networks.small_resolution,
        resolution=config.resolution,
        generator=generator,
        device=device,
    )
