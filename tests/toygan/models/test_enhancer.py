from dataclasses import replace
from math import prod

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.toygan.models.alike import check_that_bf16_keeps_more_than_eight_bits
from toygan.models.enhancer import (
    Discriminator,
    EnhancerConfig,
    Generator,
    build,
    detail,
    outline,
)

TINY = EnhancerConfig(
    categories=3,
    resolution=64,
    small_resolution=32,
    generator_channels=4,
    generator_blocks=2,
    discriminator_channels=4,
)


def networks(config: EnhancerConfig = TINY) -> tuple[Generator, Discriminator]:
    """In evaluation mode, the generator with weights that add something to the enlarged picture."""
    torch.manual_seed(0)
    generator, discriminator = build(config)
    nn.init.normal_(generator.to_rgb.weight, std=0.1)
    return generator.eval(), discriminator.eval()


def conditions(batch: int, side: int = 32, *, scale: int = 2) -> dict[str, Tensor]:
    """A grey square on white, its layout and its lines."""
    large, low, high = side * scale, side * scale // 4, side * scale * 3 // 4
    layout = torch.zeros(batch, large, large, dtype=torch.int64)
    layout[:, low:high, low:high] = 1
    small = torch.ones(batch, 3, side, side)
    small[:, :, side // 4 : side * 3 // 4, side // 4 : side * 3 // 4] = 0
    sketch = torch.ones(batch, 1, large, large)
    sketch[:, :, low, low:high] = -1
    return {"small": small, "layout": layout, "sketch": sketch}


def nothing(batch: int) -> Tensor:
    return torch.zeros(batch, 0)


def parameters(module: nn.Module) -> int:
    return sum(prod(parameter.shape) for parameter in module.parameters())


def test_parameters() -> None:
    """3 x 3 kernels throughout the generator; what is folded by 2 has four channels for each.

    generator      head (3 + 3 * 4) -> 4, two blocks of two and one more 4 -> 4, 4 -> 3 * 4
                   544 + 5 * 148 + 444
    discriminator  heads of 24 and of 40 features: 3 x 3 to 4, 3 x 3 4 -> 4, 1 x 1 to a logit
                   868 + 148 + 5 and 1444 + 148 + 5
                   head of the detail: 4 x 4 3 -> 2, 4 x 4 2 -> 4, then a head of 4 features
                   98 + 132 + 148 + 148 + 5
    """
    generator, discriminator = networks()
    assert parameters(generator) == 544 + 5 * 148 + 444
    assert parameters(discriminator.heads) == 868 + 148 + 5 + 1444 + 148 + 5
    assert parameters(discriminator.detail_head) == 98 + 132 + 148 + 148 + 5


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_every_scale_makes_pictures_of_its_resolution(scale: int) -> None:
    generator, discriminator = networks(replace(TINY, resolution=32 * scale))
    given = conditions(2, scale=scale)
    with torch.inference_mode():
        images = generator(nothing(2), given)
        output = discriminator.forward_with_features(images, given)
    assert images.shape == (2, 3, 32 * scale, 32 * scale)
    assert images.dtype == output.logits[0].dtype == torch.float32
    sides = 32 * scale // 4, 32 * scale // 8, 32 * scale // 4
    assert [each.shape for each in output.logits] == [(2, 1, side, side) for side in sides]


def test_a_deep_head_takes_a_third_map() -> None:
    """It has 112 features at a sixteenth of the resolution."""
    _, discriminator = networks(replace(TINY, deep_head=True))
    assert parameters(discriminator.heads[2]) == 9 * 112 * 4 + 4 + 148 + 5
    logits = discriminator.forward_with_features(conditions(2)["small"], {}).logits
    assert [each.shape[-1] for each in logits] == [8, 4, 2, 8]


def test_other_scales_are_refused() -> None:
    with pytest.raises(ValueError, match="for a resolution of 64 it must be one of 32, 16, 8"):
        replace(TINY, small_resolution=64)


def test_a_fresh_generator_enlarges() -> None:
    generator, _ = build(TINY)
    given = conditions(1)
    enlarged = F.interpolate(given["small"], size=64, mode="bicubic", align_corners=False)
    torch.testing.assert_close(generator(nothing(1), given), enlarged)


def test_an_outline_lies_on_both_sides_of_a_border() -> None:
    layout = torch.tensor([[[0, 0, 0, 0], [0, 3, 3, 3], [0, 3, 3, 3], [0, 3, 3, 3]]])
    expected = torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]])
    assert torch.equal(outline(layout)[0, 0], expected.float())


def test_drawings_that_are_missing_are_blank() -> None:
    given = conditions(1)
    ink, border, product = detail(given, side=(64, 64))[0]
    assert ink.sum() == 32
    assert border.sum() == outline(given["layout"]).sum()
    assert product.sum() == 32 * 32
    assert not detail({"small": given["small"]}, side=(64, 64)).any()


@pytest.mark.parametrize("missing", ["layout", "sketch"])
def test_the_generator_follows_each_drawing(missing: str) -> None:
    generator, _ = networks()
    given = conditions(1)
    without = {name: value for name, value in given.items() if name != missing}
    with torch.no_grad():
        change = (generator(nothing(1), given) - generator(nothing(1), without)).abs()
    assert change.max() > 1e-3


def test_a_crop_is_what_it_is_in_the_whole_picture() -> None:
    """But for a margin of as many pixels as its convolutions reach: 7 of the small picture."""
    generator, _ = networks()
    given = conditions(1)
    margin = 2 * (7 + 2)
    crop = {
        "small": given["small"][:, :, :24, :24],
        "layout": given["layout"][:, :48, :48],
        "sketch": given["sketch"][:, :, :48, :48],
    }
    with torch.no_grad():
        whole, part = generator(nothing(1), given), generator(nothing(1), crop)
    inner = slice(0, 48 - margin)
    torch.testing.assert_close(part[:, :, inner, inner], whole[:, :, inner, inner], atol=1e-5, rtol=1e-5)


def test_the_discriminator_takes_pictures_alone() -> None:
    _, discriminator = networks()
    given, images = conditions(1), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(discriminator(images, given), discriminator(images, {}))


def test_one_head_takes_the_detail_alone() -> None:
    _, discriminator = networks()
    picture, darker = torch.rand(1, 3, 64, 64), torch.full((1, 3, 1, 1), 0.25)
    with torch.no_grad():
        one, other = (
            discriminator.forward_with_features(each, {}).logits for each in (picture, picture - darker)
        )
    torch.testing.assert_close(one[2], other[2], atol=1e-5, rtol=1e-4)
    assert (one[0] - other[0]).abs().max() > 1e-3


def test_the_frozen_network_is_not_trained() -> None:
    _, discriminator = networks()
    discriminator.requires_grad_(True)
    trained = {name.split(".")[0] for name, each in discriminator.named_parameters() if each.requires_grad}
    assert trained == {"heads", "detail_head"}


def test_pretrained_weights_reach_the_frozen_network() -> None:
    _, discriminator = networks()
    weights = {
        name: torch.ones_like(value) for name, value in discriminator.backbone.network.state_dict().items()
    }
    discriminator.load_pretrained(weights | {"a later layer": torch.zeros(1)})
    assert all((each == 1).all() for each in discriminator.backbone.network.parameters())


def test_under_bf16_the_picture_keeps_more_than_eight_bits() -> None:
    generator, discriminator = networks()
    check_that_bf16_keeps_more_than_eight_bits(generator, discriminator, nothing(2), conditions(2))
