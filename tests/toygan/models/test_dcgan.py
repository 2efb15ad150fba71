from dataclasses import replace
from math import prod
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.toygan.models.alike import (
    check_that_bf16_keeps_more_than_eight_bits,
    check_that_the_generator_follows,
)
from toygan.models import FAMILIES, build
from toygan.models.dcgan import DcganConfig, EncodingGenerator, StyleEncoder
from toygan.models.layers import ConditionalGenerator

TINY = DcganConfig(
    categories=3,
    resolution=32,
    latent_size=8,
    condition_size=4,
    generator_channels=4,
    discriminator_channels=4,
    max_channels=16,
)


def networks(config: DcganConfig = TINY) -> tuple[ConditionalGenerator, nn.Module]:
    torch.manual_seed(0)
    return build("dcgan", vars(config))


def conditions(batch: int, *, category: int = 0, lightness: float = 0.0) -> dict[str, Tensor]:
    colour = torch.tensor([[lightness, 0.3, -0.3, 1.0]]).repeat(batch, 1)
    return {"category": torch.full((batch,), category), "colour": colour}


def parameters(module: nn.Module) -> int:
    return sum(prod(parameter.shape) for parameter in module.parameters())


def test_widths_double_towards_4_x_4_up_to_the_limit() -> None:
    assert TINY.blocks == 3  # 32 -> 16 -> 8 -> 4
    assert TINY.widths(4) == [4, 8, 16, 16]
    assert DcganConfig(categories=1, resolution=64).blocks == 4


def test_parameters_of_the_generator() -> None:
    """Widths from 4 x 4 up are 16, 16, 8, 4; latents and embedding together are 8 + 4 = 12.

    embedding   3 categories x 4, and two linear maps 4 -> 4      12 + 2 * (4 * 4 + 4)           =    52
    base        12 -> 16 channels x 4 x 4                         12 * 256 + 256                 = 3,328
    norms       gain and bias of each width, 12 -> width          2 * (12 + 1) * (16+16+8+4)     = 1,144
    ups         3 x 3 kernels without bias                        9 * (16*16 + 16*8 + 8*4)       = 3,744
    to_rgb      3 x 3 kernel                                      4 * 3 * 9 + 3                  =   111
    """
    generator, _ = networks()
    assert parameters(generator) == 52 + 3_328 + 1_144 + 3_744 + 111


def test_parameters_of_the_discriminator() -> None:
    """Widths from the picture down are 3, 8, 16, 16.

    downs       4 x 4 kernels and biases    16 * (3*8 + 8*16 + 16*16) + 8 + 16 + 16              = 6,568
    features    16 x 4 x 4 -> 16            256 * 16 + 16                                        = 4,112
    logit       16 -> 1                     16 + 1                                               =    17
    embedding   as in the generator                                                              =    52
    projection  4 -> 16                     4 * 16 + 16                                          =    80
    """
    _, discriminator = networks()
    assert parameters(discriminator) == 6_568 + 4_112 + 17 + 52 + 80


@pytest.mark.parametrize("resolution", [32, 64, 128])
def test_shapes(resolution: int) -> None:
    config = replace(TINY, resolution=resolution)
    generator, discriminator = networks(config)
    images = generator(torch.randn(2, generator.latent_size), conditions(2))
    assert images.shape == (2, 3, resolution, resolution)
    assert images.dtype == torch.float32
    logits = discriminator(images, conditions(2))
    assert logits.shape == (2,)
    assert logits.dtype == torch.float32


def test_under_bf16_the_picture_keeps_more_than_eight_bits() -> None:
    generator, discriminator = networks()
    check_that_bf16_keeps_more_than_eight_bits(generator, discriminator, torch.randn(2, 8), conditions(2))


def test_the_generator_follows_category_colour_and_latents() -> None:
    generator, _ = networks()
    generator.eval()
    others = [conditions(1, category=1), conditions(1, lightness=0.8)]
    check_that_the_generator_follows(generator, torch.randn(1, 8), conditions(1), others, least=1e-5)


def test_the_projection_starts_at_zero_and_learns() -> None:
    _, discriminator = networks()
    discriminator.eval()
    images = torch.rand(2, 3, 32, 32)
    original = discriminator(images, conditions(2))
    assert torch.equal(original, discriminator(images, conditions(2, category=2, lightness=0.5)))
    assert not torch.equal(original, discriminator(images.flip(0), conditions(2)))
    discriminator.train()
    discriminator(images, conditions(2)).sum().backward()
    with torch.no_grad():
        for parameter in discriminator.projection.parameters():
            assert parameter.grad is not None
            assert parameter.grad.abs().max() > 0
            parameter -= 0.1 * parameter.grad
    discriminator.eval()
    changed = discriminator(images, conditions(2))
    assert not torch.equal(changed, discriminator(images, conditions(2, category=2, lightness=0.5)))


def test_a_picture_does_not_depend_on_its_batch_mates() -> None:
    generator, discriminator = networks()
    generator.eval()
    discriminator.eval()
    latents, others = torch.randn(1, 8), [torch.randn(5, 8), 3 * torch.randn(5, 8)]
    images = [generator(torch.cat([latents, other]), conditions(6))[0] for other in others]
    assert torch.equal(*images)
    pictures = [torch.cat([images[0][None], 2 * torch.rand(5, 3, 32, 32) - 1]) for _ in range(2)]
    scores = [discriminator(each, conditions(6))[0] for each in pictures]
    assert torch.equal(*scores)
    torch.testing.assert_close(discriminator(images[0][None], conditions(1))[0], scores[0])


def test_a_score_in_evaluation_leaves_the_spectral_norm_alone() -> None:
    _, discriminator = networks()
    before = {key: value.clone() for key, value in discriminator.state_dict().items()}
    discriminator.eval()(torch.rand(2, 3, 32, 32), conditions(2))
    assert all(torch.equal(before[key], value) for key, value in discriminator.state_dict().items())


def test_every_discriminator_layer_but_the_last_has_spectral_norm_one() -> None:
    _, discriminator = networks()
    for _ in range(50):  # each pass in training takes one step of the power iteration
        discriminator(torch.rand(2, 3, 32, 32), conditions(2))
    discriminator.eval()
    layers = [*discriminator.downs, discriminator.features]
    norms = [torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2).item() for layer in layers]
    assert norms == pytest.approx([1.0] * 4, rel=0.02)


def test_fresh_weights_follow_from_the_global_generator() -> None:
    first, second = networks(), networks()
    for one, other in zip(first, second, strict=True):
        pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
        assert all(torch.equal(*pair) for pair in pairs)


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("biggan", {"categories": 1}, f"unknown model family 'biggan'; known are {', '.join(FAMILIES)}"),
        (
            "dcgan",
            {"categories": 1, "depth": 3},
            "networks of dcgan: no option depth; known are categories, res",
        ),
        ("dcgan", {}, "categories: Field required"),
        ("dcgan", {"categories": 0}, "categories is 0; it must be at least 1"),
        ("dcgan", {"categories": 1, "resolution": 48}, "resolution is 48; it must be a power of two from 32"),
        ("dcgan", {"categories": 1, "resolution": 16}, "resolution is 16; it must be a power of two from 32"),
        ("dcgan", {"categories": 1, "latent_size": "8"}, "latent_size: .*integer, found '8'"),
    ],
)
def test_what_is_refused(family: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(family, options)


def test_parameters_of_a_mapping_and_a_style_encoder() -> None:
    """On top of the plain generator.

    mapping     two linear maps 12 -> 12                           2 * (12 * 12 + 12)              =   312
    layers      4 x 4 kernels 3 -> 8 -> 16 -> 16                   16 * (24 + 128 + 256) + 40      = 6,568
    style       16 channels x 4 x 4 -> mean and variance of 8      256 * 16 + 16                   = 4,112
    """
    plain, _ = networks()
    encoding, _ = networks(replace(TINY, mapping_layers=2, style_encoder=True))
    assert isinstance(encoding, EncodingGenerator)
    assert parameters(encoding) - parameters(plain) == 312 + 6_568 + 4_112


def test_a_style_encoder_tells_photos_apart() -> None:
    torch.manual_seed(0)
    mean, log_variance = StyleEncoder(TINY)(torch.rand(2, 3, 32, 32) * 2 - 1)
    assert mean.shape == log_variance.shape == (2, 8)
    assert not torch.equal(mean[0], mean[1])


def test_the_first_pictures_are_as_bright_as_asked_for() -> None:
    dark, bright = (networks(replace(TINY, first_brightness=each))[0].eval() for each in (0.0, 0.9))
    latents = torch.randn(4, 8)
    difference = bright(latents, conditions(4)) - dark(latents, conditions(4))
    torch.testing.assert_close(difference.mean(), torch.tensor(0.9), atol=0.2, rtol=0)


@pytest.mark.parametrize(
    ("smaller", "grows"),
    [
        ({"resolution": 32, "generator_channels": 8}, True),
        ({"resolution": 32, "generator_channels": 8, "discriminator_channels": 8}, True),
        ({"resolution": 32}, False),  # its blocks are narrower
        ({"resolution": 32, "generator_channels": 8, "condition_size": 8}, False),
        ({"resolution": 64}, False),
        ({"resolution": 128, "generator_channels": 2}, False),
    ],
)
def test_networks_grow_from_those_with_as_wide_blocks(smaller: dict[str, Any], grows: bool) -> None:
    larger = replace(TINY, resolution=64, max_channels=32)
    assert larger.grows_from(replace(larger, **smaller)) == grows
