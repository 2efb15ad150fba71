from math import prod
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from toygan.models import build
from toygan.models.layers import ConditionalGenerator


def networks(**options: Any) -> tuple[ConditionalGenerator, nn.Module]:
    torch.manual_seed(0)
    return build("mlp", {"categories": 3, "resolution": 32} | options)


def conditions(batch: int, *, category: int = 0, lightness: float = 0.0) -> dict[str, Tensor]:
    colour = torch.tensor([[lightness, 0.3, -0.3, 1.0]]).repeat(batch, 1)
    return {"category": torch.full((batch,), category), "colour": colour}


def parameters(module: nn.Module) -> int:
    return sum(prod(parameter.shape) for parameter in module.parameters())


def test_parameters_of_the_generator() -> None:
    """100 numbers of noise, 3 categories and 4 numbers of colour are 107 inputs; 3 x 32 x 32 = 3,072 outputs.

    107 -> 256      107 * 256 + 256      =    27,648
    256 -> 512      256 * 512 + 512      =   131,584
    512 -> 1024     512 * 1,024 + 1,024  =   525,312
    1024 -> 512     1,024 * 512 + 512    =   524,800
    512 -> 256      512 * 256 + 256      =   131,328
    256 -> 3,072    256 * 3,072 + 3,072  =   789,504
    """
    generator, _ = networks()
    assert parameters(generator) == 27_648 + 131_584 + 525_312 + 524_800 + 131_328 + 789_504


def test_parameters_of_the_discriminator() -> None:
    """3,072 pixels, 3 categories and 4 numbers of colour are 3,079 inputs.

    3,079 -> 512    3,079 * 512 + 512    = 1,576,960
    512 -> 256      512 * 256 + 256      =   131,328
    256 -> 1        256 + 1              =       257
    """
    _, discriminator = networks()
    assert parameters(discriminator) == 1_576_960 + 131_328 + 257


@pytest.mark.parametrize("resolution", [32, 64, 128])
def test_shapes_and_range(resolution: int) -> None:
    generator, discriminator = networks(resolution=resolution)
    images = generator(100 * torch.randn(2, 100), conditions(2))
    assert images.shape == (2, 3, resolution, resolution)
    assert 1 < images.abs().max() <= 1.7159
    logits = discriminator(images, conditions(2))
    assert logits.shape == (2,)
    assert images.dtype == logits.dtype == torch.float32


def test_under_bf16_the_picture_keeps_more_than_eight_bits() -> None:
    generator, discriminator = networks()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        images = generator(torch.randn(2, 100), conditions(2))
        logits = discriminator(images, conditions(2))
    assert images.dtype == logits.dtype == torch.float32
    assert not torch.equal(images, images.bfloat16().float())


def test_both_follow_the_conditions() -> None:
    generator, discriminator = networks()
    latents, images = torch.randn(1, 100), torch.rand(1, 3, 32, 32)
    for network, given in ((generator, latents), (discriminator, images)):
        original = network(given, conditions(1))
        assert torch.equal(original, network(given, conditions(1)))
        for other in (conditions(1, category=2), conditions(1, lightness=0.8)):
            assert not torch.equal(original, network(given, other))


def test_a_picture_does_not_depend_on_its_batch_mates() -> None:
    generator, discriminator = networks()
    latents, others = torch.randn(1, 100), [torch.randn(5, 100), 3 * torch.randn(5, 100)]
    images = [generator(torch.cat([latents, other]), conditions(6))[0] for other in others]
    assert torch.equal(*images)
    pictures = [torch.cat([images[0][None], 2 * torch.rand(5, 3, 32, 32) - 1]) for _ in range(2)]
    assert torch.equal(*(discriminator(each, conditions(6))[0] for each in pictures))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"generator_units": []},
            r"generator_units is \(\); it must be one or more numbers, each at least 1",
        ),
        ({"discriminator_units": [8, 0]}, r"discriminator_units is \(8, 0\)"),
        ({"latent_size": 0}, "latent_size is 0; it must be at least 1"),
        ({"resolution": 33}, "resolution is 33; it must be a power of two from 32"),
        ({"depth": 3}, "networks of mlp: no option depth; known are categories, resolution, text_size"),
    ],
)
def test_what_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        networks(**options)
