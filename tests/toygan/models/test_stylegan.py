from dataclasses import replace
from math import prod, sqrt
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toygan.models import build
from toygan.models.stylegan import Discriminator, Generator, StyledLayer, StyleganConfig

TINY = StyleganConfig(
    categories=3,
    resolution=32,
    latent_size=8,
    style_size=8,
    condition_size=4,
    mapping_layers=2,
    channel_base=128,
    max_channels=16,
)


def networks(config: StyleganConfig = TINY) -> tuple[Generator, Discriminator]:
    torch.manual_seed(0)
    generator, discriminator = build("stylegan", vars(config))
    assert isinstance(generator, Generator)
    assert isinstance(discriminator, Discriminator)
    return generator, discriminator


def conditions(batch: int, *, category: int = 0, lightness: float = 0.0) -> dict[str, Tensor]:
    colour = torch.tensor([[lightness, 0.3, -0.3, 1.0]]).repeat(batch, 1)
    return {"category": torch.full((batch,), category), "colour": colour}


def parameters(module: nn.Module) -> int:
    return sum(prod(parameter.shape) for parameter in module.parameters())


def test_widths_halve_while_the_resolution_doubles() -> None:
    assert TINY.resolutions == [4, 8, 16, 32]
    assert TINY.widths == [16, 16, 8, 4]


def test_parameters_of_the_generator() -> None:
    """Widths from 4 x 4 up are 16, 16, 8, 4; styles have 8 numbers.

    embedding      3 categories x 4, and two linear maps 4 -> 4                                =    52
    mapping        8 + 4 -> 8 -> 8           12 * 8 + 8 + 8 * 8 + 8                            =   176
    base           16 channels x 4 x 4                                                         =   256
    a layer i -> o: a kernel 9 * i * o, o biases, a style map 8 -> i, a noise strength: 9io + o + 9i + 1
      16 -> 16     three times               3 * (2,304 + 16 + 144 + 1)                        = 7,395
      16 -> 8, 8 -> 8                        1,152 + 8 + 144 + 1 + 576 + 8 + 72 + 1            = 1,962
      8 -> 4, 4 -> 4                         288 + 4 + 72 + 1 + 144 + 4 + 36 + 1               =   550
    to_rgb         i -> 3 with a style map 8 -> i: 3i + 3 + 9i   12 * (16 + 16 + 8 + 4) + 4 * 3 =  540
    """
    generator, _ = networks()
    assert parameters(generator) == 52 + 176 + 256 + 7_395 + 1_962 + 550 + 540


def test_parameters_of_the_discriminator() -> None:
    """Widths from the picture down are 4, 8, 16, 16.

    from_rgb       3 -> 4, 1 x 1               12 + 4                                     =    16
    a block i -> o has 3 x 3 kernels i -> i and i -> o with biases, and a skip i -> o: 9ii + i + 9io + o + io
      4 -> 8                                   144 + 4 + 288 + 8 + 32                     =   476
      8 -> 16                                  576 + 8 + 1,152 + 16 + 128                 = 1,880
      16 -> 16                                 2,304 + 16 + 2,304 + 16 + 256              = 4,896
    last           16 -> 16, 3 x 3             2,304 + 16                                 = 2,320
    features       16 x 4 x 4 -> 16            256 * 16 + 16                              = 4,112
    logit          16 -> 1                                                                =    17
    embedding      as in the generator                                                    =    52
    projection     4 -> 16                     64 + 16                                    =    80
    """
    _, discriminator = networks()
    assert parameters(discriminator) == 16 + 476 + 1_880 + 4_896 + 2_320 + 4_112 + 17 + 52 + 80


def test_with_the_papers_widths_the_networks_have_its_weights() -> None:
    """The reference at 1024 pixels: generator 30,370,060 (its mapping 2,101,248), discriminator 29,012,513.

    Here the conditions, 1 category in 64 numbers, come on top: an embedding of 64 + 2 linear maps
    (4 * 64 + 64 + 64 * 64 + 64) = 4,544, in the generator 64 * 512 weights more in the first mapping layer,
    in the discriminator a projection of 64 * 512 + 512. Its minibatch statistics, one more channel of the
    last 3 x 3 kernel, are not there: 9 * 512 = 4,608 fewer.
    """
    config = StyleganConfig(
        categories=1,
        resolution=1024,
        latent_size=512,
        style_size=512,
        mapping_layers=8,
        channel_base=32_768,
        max_channels=512,
    )
    generator, discriminator = build("stylegan", vars(config))
    assert parameters(generator) == 30_370_060 + 4_544 + 64 * 512
    assert parameters(discriminator) == 29_012_513 - 4_608 + 4_544 + 64 * 512 + 512


@pytest.mark.parametrize("resolution", [32, 64, 128, 256])
def test_shapes(resolution: int) -> None:
    config = replace(TINY, resolution=resolution, channel_base=1024)
    generator, discriminator = networks(config)
    assert generator.style_count == 2 * (resolution.bit_length() - 1) - 2  # of the paper: 18 at 1024 pixels
    with torch.inference_mode():
        images = generator(torch.randn(2, 8), conditions(2))
        logits = discriminator(images, conditions(2))
    assert images.shape == (2, 3, resolution, resolution)
    assert logits.shape == (2,)
    assert images.dtype == logits.dtype == torch.float32


def test_noise_is_added_with_its_strength() -> None:
    layer = StyledLayer(4, 4, style_size=4)
    x, styles, noise = torch.randn(2, 4, 8, 8), torch.randn(2, 4), torch.randn(2, 1, 8, 8)
    assert torch.equal(layer(x, styles, noise), layer(x, styles, 2 * noise))  # the strength begins at 0
    nn.init.constant_(layer.noise_strength, 0.5)
    before = layer.convolution(x, styles)
    torch.testing.assert_close(layer(x, styles, noise), F.leaky_relu(before + 0.5 * noise, 0.2) * sqrt(2))


def noisy() -> Generator:
    """A generator whose pictures show their noise."""
    generator, _ = networks()
    for layer in generator.layers:
        nn.init.constant_(layer.noise_strength, 0.5)
    return generator.eval().requires_grad_(False)


def test_noise_is_a_function_of_the_latents_of_its_picture() -> None:
    generator = noisy()
    latents = torch.randn(3, 8)
    latents[2] = latents[0].flip(0)
    first, again = generator.noise(latents), generator.noise(latents[[1, 0]])
    assert [tuple(each.shape) for each in first] == [(3, 1, side, side) for side in (4, 8, 8, 16, 16, 32, 32)]
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one[[1, 0]], other)
        assert not torch.equal(one[0], one[1])
        assert not torch.equal(one[0], one[2])
    values = torch.cat([each.flatten() for each in first])
    assert abs(values.mean().item()) < 0.05
    assert abs(values.std().item() - 1) < 0.05


def test_the_generator_follows_category_colour_and_latents_alone() -> None:
    generator = noisy()
    latents = torch.randn(1, 8)
    original = generator(latents, conditions(1))
    torch.manual_seed(1)
    assert torch.equal(original, generator(latents, conditions(1)))
    for other in (
        generator(latents, conditions(1, category=1)),
        generator(latents, conditions(1, lightness=0.8)),
        generator(-latents, conditions(1)),
        generator.synthesise(generator.styles(latents, conditions(1)), generator.noise(-latents)),
    ):
        assert (other - original).abs().max() > 1e-3


@pytest.mark.parametrize("truncation", [1.0, 0.7])
def test_a_picture_does_not_depend_on_its_batch_mates(truncation: float) -> None:
    generator = noisy()
    _, discriminator = networks()
    discriminator.requires_grad_(False)
    latents, others = torch.randn(1, 8), [torch.randn(5, 8), 3 * torch.randn(5, 8)]
    images = [
        generator.forward_truncated(torch.cat([latents, other]), conditions(6), truncation)[0]
        for other in others
    ]
    assert torch.equal(*images)
    pictures = [torch.cat([images[0][None], 2 * torch.rand(5, 3, 32, 32) - 1]) for _ in range(2)]
    scores = [discriminator(each, conditions(6))[0] for each in pictures]
    assert torch.equal(*scores)
    torch.testing.assert_close(discriminator(images[0][None], conditions(1))[0], scores[0])


def test_truncation_moves_styles_towards_the_mean_of_their_condition() -> None:
    generator, _ = networks()
    generator.eval().requires_grad_(False)
    latents, given = torch.randn(4, 8), conditions(4)
    full, half, none = (generator.forward_truncated(latents, given, share) for share in (1.0, 0.5, 0.0))
    assert torch.equal(full, generator(latents, given))
    assert none.std(dim=0).max() < 1e-5  # only the noise would differ, and its strength is 0
    assert 0 < half.std(dim=0).mean() < full.std(dim=0).mean()
    assert not torch.equal(none, generator.forward_truncated(latents, conditions(4, category=1), 0.0))
    # The mean over the fixed latents is close to that over many others.
    many = generator.mapping(torch.randn(20_000, 8), conditions(20_000))
    found = generator._mean_styles(conditions(1))[0]
    assert (found - many.mean(dim=0)).abs().max() < 0.5 * many.std(dim=0).mean()


def test_style_mixing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Styles change once at most, from the picture's own to others, and in about nine of ten pictures."""
    generator, _ = networks()
    seen: list[Tensor] = []

    def watch(styles: Tensor, noise: Any) -> Tensor:
        seen.append(styles)
        return torch.zeros(())

    monkeypatch.setattr(generator, "synthesise", watch)
    latents = torch.randn(400, 8)
    for _ in range(2):
        generator.forward_in_training(latents, conditions(400), torch.Generator().manual_seed(0))
    assert torch.equal(*seen)
    own = (seen[0] == generator.styles(latents, conditions(400))).all(dim=2)
    assert own[:, 0].all()
    changes = (own[:, 1:] != own[:, :-1]).sum(dim=1)
    assert changes.max() == 1
    assert abs((changes == 1).float().mean().item() - 0.9) < 0.06  # four standard deviations
    assert set(own.sum(dim=1).tolist()) == set(range(1, generator.style_count + 1))


def test_styles_lead_to_the_pictures_of_the_plain_call() -> None:
    generator, _ = networks()
    latents = torch.randn(2, 8)
    images, styles = generator.forward_with_styles(latents, conditions(2))
    assert torch.equal(images, generator(latents, conditions(2)))
    (gradients,) = torch.autograd.grad(images[0].square().sum(), styles)
    assert (gradients[0].abs().sum(dim=1) > 0).all()  # every layer counts
    assert (gradients[1] == 0).all()


def test_the_projection_starts_at_zero_and_learns() -> None:
    _, discriminator = networks()
    images = torch.rand(2, 3, 32, 32)
    original = discriminator(images, conditions(2))
    assert torch.equal(original, discriminator(images, conditions(2, category=2, lightness=0.5)))
    original.sum().backward()
    with torch.no_grad():
        for parameter in discriminator.projection.parameters():
            assert parameter.grad is not None
            assert parameter.grad.abs().max() > 0
            parameter -= 0.1 * parameter.grad
    changed = discriminator(images, conditions(2))
    assert not torch.equal(changed, discriminator(images, conditions(2, category=2, lightness=0.5)))


def test_under_bf16_the_picture_keeps_more_than_eight_bits() -> None:
    generator, discriminator = networks()
    latents = torch.randn(4, 8)
    plain = generator(latents, conditions(4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        images = generator(latents, conditions(4))
        logits = discriminator(images, conditions(4))
    assert images.dtype == logits.dtype == torch.float32
    assert not torch.equal(images, images.bfloat16().float())
    assert (images - plain).abs().mean() < 0.05 * plain.std()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channel_base": 16}, "channel_base is 16; it must be at least the resolution"),
        ({"mapping_layers": 0}, "mapping_layers is 0; it must be at least 1"),
        ({"resolution": 96}, "resolution is 96; it must be a power of two from 32"),
    ],
)
def test_what_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build("stylegan", {"categories": 1, "resolution": 32} | options)
