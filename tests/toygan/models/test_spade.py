from dataclasses import replace
from math import prod
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.toygan.models.alike import (
    check_that_bf16_keeps_more_than_eight_bits,
    check_that_the_generator_follows,
)
from tests.toygan.models.spade_networks import TINY, conditions, networks
from toygan.models.spade import (
    EncodingGenerator,
    Generator,
    PaddingMode,
    SpadeConfig,
    encode_layout,
)
from toygan.training.losses import feature_matching_loss, kl_divergence


def parameters(*modules: nn.Module) -> int:
    return sum(prod(parameter.shape) for module in modules for parameter in module.parameters())


def test_widths() -> None:
    assert TINY.widths == [8, 8, 8, 4]  # at 4, 8, 16 and 32 pixels
    assert TINY.discriminator_widths == [4, 8, 8]
    paper = SpadeConfig(categories=1, resolution=256, generator_channels=64, max_channels=1024)
    assert paper.widths == [1024, 1024, 1024, 512, 256, 128, 64]  # Park et al., figure 4


def test_parameters_of_the_generator() -> None:
    """Latents and embedding are 8 + 4 = 12 numbers; a modulation is 2 convolutions 3 x 3, 4 -> channels.

    embedding   3 categories x 4, and two linear maps 4 -> 4          12 + 2 * (4 * 4 + 4)       =    52
    base        12 -> 8 * 16                                          (12 + 1) * 128             = 1,664
    encodings   3 classes -> 4, and 12 -> 4; four of them             4 * (112 + 52)             =   656
    blocks      8 -> 8: modulations 2 * 2 * 37 * 8, convolutions 2 * (9 * 64 + 8), skip 64
                                                                      1,184 + 1,168 + 64         = 2,416
                and once more                                                                    = 2,416
                8 -> 4: 2 * 37 * (8 + 4), 9 * 32 + 4 + 9 * 16 + 4, 32 888 + 440 + 32             = 1,360
    to_rgb      9 * 4 * 3 + 3                                                                    =   111
    the encoder's  4 x 4, 3 -> 8 -> 8 -> 8, then 8 -> 16              392 + 2 * 1,032 + 144      = 2,600
    """
    generator, _ = networks()
    plain = 52 + 1_664 + 656 + 2 * 2_416 + 1_360 + 111
    assert parameters(generator) == plain + 2_600
    assert parameters(networks(replace(TINY, style_encoder=False))[0]) == plain


def test_parameters_of_the_discriminator() -> None:
    """embedding 52; a scale: 4 x 4 kernels 6 -> 4 -> 8 -> 8, a 3 x 3 one 8 -> 8, logit, projection 4 -> 8:

    16 * (24 + 32 + 64) + 4 + 8 + 8   = 1,940
    9 * 64 + 8                        =   584
    8 + 1, and (4 + 1) * 8            =    49
    """
    _, discriminator = networks()
    assert parameters(discriminator) == 52 + 2 * (1_940 + 584 + 49)


@pytest.mark.parametrize("resolution", [32, 64, 128, 256])
def test_shapes_on_every_scale(resolution: int) -> None:
    generator, discriminator = networks(replace(TINY, resolution=resolution))
    given = conditions(2, resolution)
    with torch.inference_mode():
        images = generator(torch.randn(2, 8), given)
        output = discriminator.forward_with_features(images, given)
    assert images.shape == (2, 3, resolution, resolution)
    assert images.dtype == torch.float32
    sides = [resolution // 8, resolution // 16]  # halved three times; the second scale sees half the side
    assert [each.shape for each in output.logits] == [(2, side, side) for side in sides]
    steps = (2, 4, 8, 8)
    assert [each.shape[2] for each in output.features] == [
        resolution // scale // step for scale in (1, 2) for step in steps
    ]


def test_the_second_scale_sees_half_the_resolution() -> None:
    _, discriminator = networks()
    discriminator.eval()
    discriminator.scales[1].load_state_dict(discriminator.scales[0].state_dict())
    small, layout = torch.rand(1, 3, 16, 16), torch.ones(1, 16, 16, dtype=torch.int64)
    given = {**conditions(1), "layout": layout}
    large = {**given, "layout": torch.ones(1, 32, 32, dtype=torch.int64)}
    on_large = discriminator.forward_with_features(F.interpolate(small, scale_factor=2), large).logits[1]
    torch.testing.assert_close(on_large, discriminator.forward_with_features(small, given).logits[0])


def test_features_of_the_same_picture_match() -> None:
    """The loss is the mean over 8 layers of the mean distance: for all 1 against all 3 it is 2."""
    _, discriminator = networks()
    discriminator.eval()
    given, images = conditions(2), torch.rand(2, 3, 32, 32)
    features = discriminator.forward_with_features(images, given).features
    assert len(features) == 8
    assert feature_matching_loss(features, features) == 0
    ones, threes = ([torch.full_like(each, value) for each in features] for value in (1.0, 3.0))
    assert feature_matching_loss(ones, threes) == pytest.approx(2.0)


def test_a_style_is_read_off_a_photo() -> None:
    """Mean and log variance of the latents, whose divergence from N(0, 1) teaches the whole encoder."""
    generator, _ = networks()
    assert isinstance(generator, EncodingGenerator)
    images = torch.rand(2, 3, 32, 32)
    mean, log_variance = generator.encode_style(images)
    assert mean.shape == log_variance.shape == (2, 8)
    assert mean.dtype == torch.float32
    assert not torch.equal(mean[0], mean[1])
    kl_divergence(mean, log_variance).backward()
    for layer in (*generator.style_layers, generator.style):
        assert layer.weight.grad.abs().max() > 0


def test_without_a_style_encoder_there_is_none() -> None:
    assert not isinstance(networks(replace(TINY, style_encoder=False))[0], EncodingGenerator)


def test_under_bf16_the_picture_keeps_more_than_eight_bits() -> None:
    generator, discriminator = networks()
    check_that_bf16_keeps_more_than_eight_bits(generator, discriminator, torch.randn(2, 8), conditions(2))


def test_the_generator_follows_layout_category_colour_and_latents() -> None:
    generator, _ = networks()
    generator.eval()
    others = [conditions(1, label=2), conditions(1, category=1), conditions(1, lightness=0.8)]
    check_that_the_generator_follows(generator, torch.randn(1, 8), conditions(1), others, least=1e-5)


def test_a_picture_does_not_depend_on_its_batch_mates() -> None:
    generator, discriminator = networks()
    generator.eval()
    discriminator.eval()
    latents = torch.randn(1, 8)
    alone = generator(latents, conditions(1))
    mates = {
        name: torch.cat([own, other])
        for (name, own), other in zip(
            conditions(1).items(), conditions(5, category=2, label=2).values(), strict=True
        )
    }
    together = generator(torch.cat([latents, 3 * torch.randn(5, 8)]), mates)
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=1e-5)
    scores = discriminator(together, mates)
    torch.testing.assert_close(discriminator(together[:1], conditions(1)), scores[:1], atol=1e-5, rtol=1e-5)


def test_some_pictures_are_given_colours_of_other_products() -> None:
    """About a quarter; category and layout stay. Only pictures with other colours differ."""
    generator, _ = networks()
    generator.eval()
    count = 64
    given = conditions(count)
    given["colour"] = torch.randn(count, 4, generator=torch.Generator().manual_seed(0))
    latents = torch.zeros(count, 8)
    with torch.no_grad():
        plain = generator(latents, given)
        trained = generator.forward_in_training(latents, given, torch.Generator().manual_seed(1))
    changed = (plain - trained).abs().flatten(1).amax(1) > 1e-6
    assert 6 <= int(changed.sum()) <= 28  # 16 are expected; within some three deviations
    generator.shuffled_share = 0.0
    with torch.no_grad():
        trained = generator.forward_in_training(latents, given, torch.Generator().manual_seed(1))
    torch.testing.assert_close(trained, plain)


def test_every_weight_gets_a_gradient() -> None:
    generator, discriminator = networks()
    for scale in discriminator.scales:
        nn.init.normal_(scale.projection.weight)
    given = conditions(4)
    given["category"] = torch.tensor([0, 1, 2, 0])
    mean, log_variance = generator.encode_style(torch.rand(4, 3, 32, 32))
    latents = mean + (log_variance / 2).exp() * torch.randn(4, 8)
    output = discriminator.forward_with_features(generator(latents, given), given)
    sum(each.square().mean() for each in output.logits).backward()
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


@pytest.fixture(scope="module")
def overfitted() -> tuple[Generator, Tensor, dict[str, Tensor]]:
    """A generator that has seen eight pictures only: class 1 is red, class 2 blue, wherever they lie."""
    generator, _ = networks(replace(TINY, generator_channels=8, modulation_channels=8, max_channels=16))
    given = conditions(8)
    for row in range(8):
        given["layout"][row] = torch.roll(given["layout"][row], row - 4, 1)
    given["layout"][4:] = given["layout"][4:].flip(1)
    colours = torch.tensor([[1.0, 1.0, 1.0], [0.8, -0.8, -0.8], [-0.8, -0.6, 0.8]])
    pictures = colours[given["layout"]].permute(0, 3, 1, 2)
    optimizer = torch.optim.Adam(generator.parameters(), lr=1e-2, betas=(0.5, 0.99))
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=150)
    for _ in range(150):
        optimizer.zero_grad()
        F.l1_loss(generator(torch.randn(8, 8), given), pictures).backward()
        optimizer.step()
        schedule.step()
    return generator.eval(), pictures, given


@pytest.mark.slow
def test_eight_pictures_are_overfitted(overfitted: tuple[Generator, Tensor, dict[str, Tensor]]) -> None:
    generator, pictures, given = overfitted
    with torch.no_grad():
        assert F.l1_loss(generator(torch.randn(8, 8), given), pictures) < 0.1


@pytest.mark.slow
def test_recolouring_a_class_recolours_its_pixels(
    overfitted: tuple[Generator, Tensor, dict[str, Tensor]],
) -> None:
    generator, _, given = overfitted
    recoloured = {**given, "layout": torch.where(given["layout"] == 1, 2, given["layout"])}
    latents = torch.randn(8, 8)
    with torch.no_grad():
        before, after = (generator(latents, each).permute(0, 2, 3, 1) for each in (given, recoloured))
    changed = given["layout"] == 1
    assert before[changed].mean(0)[0] > 0.5 > -0.5 > before[changed].mean(0)[2]  # red
    assert after[changed].mean(0)[2] > 0.5 > -0.2 > after[changed].mean(0)[0]  # blue
    difference = (after - before).abs().mean(3)
    assert difference[changed].mean() > 5 * difference[given["layout"] == 0].mean()


@pytest.mark.parametrize("mode", ["zeros", "replicate", "reflect"])
def test_zeros_along_the_border_show_in_what_is_the_same_everywhere(mode: PaddingMode) -> None:
    generator, _ = networks(replace(TINY, padding_mode=mode))
    kernels = [
        each for each in generator.modules() if isinstance(each, nn.Conv2d) and each.kernel_size == (3, 3)
    ]
    assert len(kernels) == 4 + 3 * 6 + 1  # encodings, blocks of two modulations and two more, to_rgb
    assert {each.padding_mode for each in kernels} == {mode}
    ground = encode_layout(torch.zeros(1, 32, 32, dtype=torch.int64), 3)
    with torch.no_grad():
        encoding = generator.encodings[-1](ground, None, None, torch.ones(1, 12))
    away = (encoding - encoding[:, :, 16:17, 16:17]).abs().amax(dim=(0, 1))
    assert away[1:-1, 1:-1].max() < 1e-6
    border = torch.cat([away[0], away[-1], away[:, 0], away[:, -1]])
    assert (border.max() < 1e-6) == (mode != "zeros")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"discriminator_layers": 5, "discriminator_scales": 2}, "are too many for 32 pixels"),
        ({"layout_classes": 0}, "layout_classes is 0; it must be at least 1"),
        ({"shuffled_share": 1.5}, "shuffled_share is 1.5; it must lie from 0 to 1"),
        ({"resolution": 96}, "resolution is 96; it must be a power of two from 32"),
        (
            {"padding_mode": "circular"},
            "padding_mode is 'circular'; it must be one of zeros, replicate, reflect",
        ),
    ],
)
def test_what_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpadeConfig(**{"categories": 1, "resolution": 32} | options)
