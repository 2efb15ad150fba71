"""The model families, one file each. `build` is the way in."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

FAMILIES = ("dcgan",)


def build(family: str, config: Mapping[str, Any]) -> Any:
    """Generator and discriminator of `family` with fresh weights, drawn from torch's global generator.

    Both are `torch.nn.Module`: the generator maps (B, latent_size) float32 latents and conditions to
    (B, 3, R, R) float32 pictures and has `latent_size`; the discriminator maps pictures and the same conditions to
    (B,) float32 logits. Raises ValueError for an unknown family, option or value, and names the known ones.
    """
    if family not in FAMILIES:
        raise ValueError(f"unknown model family {family!r}; known are {', '.join(FAMILIES)}")
    from toygan.models import dcgan

    known = {each.name for each in fields(dcgan.DcganConfig)}
    unknown = sorted(config.keys() - known)
    if unknown:
        raise ValueError(f"{family} has no options {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    return dcgan.build(dcgan.DcganConfig(**config))
