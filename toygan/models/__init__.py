"""The model families, one file each. `build` makes the networks of any family."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toygan.models.layers import (
        ConditionalDiscriminator,
        ConditionalGenerator,
        NetworkConfig,
    )


@dataclass(frozen=True)
class Family:
    """The config class and the build function of a family."""

    config: "type[NetworkConfig]"
    # Takes an instance of `config`, returns generator and discriminator.
    build: "Callable[[Any], tuple[ConditionalGenerator, ConditionalDiscriminator]]"


def _dcgan() -> Family:
    from toygan.models import dcgan

    return Family(dcgan.DcganConfig, dcgan.build)


def _mlp() -> Family:
    from toygan.models import mlp

    return Family(mlp.MlpConfig, mlp.build)


def _pix2pix() -> Family:
    from toygan.models import pix2pix

    return Family(pix2pix.Pix2pixConfig, pix2pix.build)


def _stylegan() -> Family:
    from toygan.models import stylegan

    return Family(stylegan.StyleganConfig, stylegan.build)


def _projected() -> Family:
    from toygan.models import projected

    return Family(projected.ProjectedConfig, projected.build)


def _enhancer() -> Family:
    from toygan.models import enhancer

    return Family(enhancer.EnhancerConfig, enhancer.build)


def _spade() -> Family:
    from toygan.models import spade

    return Family(spade.SpadeConfig, spade.build)


def _studio() -> Family:
    from toygan.models import studio

    return Family(studio.StudioConfig, studio.build)


# The values are functions, so that a family is imported only when it is used: the import of torch is slow.
FAMILIES: Mapping[str, Callable[[], Family]] = MappingProxyType(
    {
        "mlp": _mlp,
        "dcgan": _dcgan,
        "stylegan": _stylegan,
        "projected": _projected,
        "pix2pix": _pix2pix,
        "spade": _spade,
        "enhancer": _enhancer,
        "studio": _studio,
    }
)


def network_config(family: str, options: Mapping[str, Any]) -> "NetworkConfig":
    """Returns the checked config of both networks of `family`.

    Raises ValueError for an unknown family, option or value. The message names the known ones.
    """
    from toygan.options import from_options

    return from_options(_family(family).config, options, owner=f"networks of {family}")


def build(family: str, options: Mapping[str, Any]) -> "tuple[ConditionalGenerator, ConditionalDiscriminator]":
    """Builds the generator and the discriminator of `family`. Their weights are random numbers of torch's
    global generator.

    The generator maps (B, latent_size) float32 latents and conditions to (B, 3, R, R) float32 pictures; the
    discriminator maps pictures and the same conditions to (B,) float32 logits. Raises as `network_config`
    does.
    """
    return build_networks(family, network_config(family, options))


def build_networks(
    family: str, networks: "NetworkConfig"
) -> "tuple[ConditionalGenerator, ConditionalDiscriminator]":
    """Does the same as `build`, but takes the checked config of the networks."""
    return _family(family).build(networks)


def _family(name: str) -> Family:
    if name not in FAMILIES:
        raise ValueError(f"unknown model family {name!r}; known are {', '.join(FAMILIES)}")
    return FAMILIES[name]()
