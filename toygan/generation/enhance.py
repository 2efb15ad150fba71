"""The second stage at work: enlarges what another model has drawn, see `toygan.models.enhancer`."""

from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from toygan.errors import ModelError
from toygan.generation.model import read_config
from toygan.images import from_uint8, to_uint8
from toygan.models import build, enlarges, network_config
from toygan.models.enhancer import EnhancerConfig
from toygan.models.layers import ConditionalGenerator
from toygan.registry import ModelFiles
from toygan.training.weights import load_weights


@dataclass(frozen=True, kw_only=True)
class Enhancer:
    """A trained generator in evaluation mode, float32, on one device."""

    name: str
    version: str
    small_resolution: int  # pixels of what it enlarges
    resolution: int  # pixels of what it makes of that
    generator: ConditionalGenerator
    device: torch.device

    @torch.inference_mode()
    def enlarge(self, small: Tensor, *, layout: Tensor | None = None, lines: Tensor | None = None) -> Tensor:
        """(B, 3, r, r) uint8 pictures of `small_resolution`, and what is known of them at `resolution`, to
        (B, 3, R, R) uint8.

        `layout` is (B, R, R) int64 labels, `lines` (B, 1, R, R) float32 in [-1, 1], ink at -1. One by one:
        kernels round differently for another batch, and a picture's bytes must not depend on its mates.
        """
        enlarged = []
        for row in range(len(small)):
            given = {"small": from_uint8(small[row : row + 1])}
            if layout is not None:
                given["layout"] = layout[row : row + 1]
            if lines is not None:
                given["sketch"] = lines[row : row + 1]
            told = {name: value.to(self.device) for name, value in given.items()}
            pixels = to_uint8(self.generator(torch.zeros(1, 0, device=self.device), told))
            enlarged.append(torch.from_numpy(pixels)[0].permute(2, 0, 1))
        return torch.stack(enlarged)


def load_enhancer(source: ModelFiles, device: torch.device) -> Enhancer:
    """Raises ModelError for a model that is no enhancer, a damaged config, and weights of other shapes."""
    config = read_config(source)
    try:
        family, options = config["family"], config["network"]
        if not enlarges(family):
            raise ModelError(
                f"the model {source.name} is of the family {family}, which enlarges nothing; train an "
                "enhancer by `toygan train --family enhancer`"
            )
        networks = network_config(family, options)
        with torch.random.fork_rng(devices=[]):
            generator, _ = build(family, options)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"config.json of the model {source.name} does not describe a model: {error!r}"
        ) from error
    assert isinstance(networks, EnhancerConfig)
    try:
        load_weights(generator, load(source.files["generator.safetensors"]))
    except (KeyError, SafetensorError, ModelError) as error:
        raise ModelError(f"generator.safetensors of the model {source.name}: {error}") from error
    generator.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)
    return Enhancer(
        name=source.name,
        version=source.version,
        small_resolution=networks.small_resolution,
        resolution=networks.resolution,
        generator=generator,
        device=device,
    )
