"""The model families, one file each. `build` is the way in."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from toygan.models.dcgan import DcganConfig
    from toygan.models.layers import ConditionalGenerator

FAMILIES = ("dcgan",)


def network_config(family: str, options: Mapping[str, Any]) -> "DcganConfig":
    """The checked config of both networks of `family`.

    Raises ValueError for an unknown family, option or value, and names the known ones.
    """
    if family not in FAMILIES:
        raise ValueError(f"unknown model family {family!r}; known are {', '.join(FAMILIES)}")
    from toygan.models.dcgan import DcganConfig
    from toygan.options import from_options

    return from_options(DcganConfig, options, owner=f"networks of {family}")


def build(family: str, options: Mapping[str, Any]) -> "tuple[ConditionalGenerator, nn.Module]":
    """Generator and discriminator of `family` with fresh weights, drawn from torch's global generator.

    The generator maps (B, latent_size) float32 latents and conditions to (B, 3, R, R) float32 pictures; the
    discriminator maps pictures and the same conditions to (B,) float32 logits. Raises as `network_config`
    does.
    """
    from toygan.models import dcgan

    return dcgan.build(network_config(family, options))
