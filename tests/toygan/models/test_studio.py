"""The networks that make studio pictures of snapshots."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from toygan.models import FAMILIES, build
from toygan.models.layers import Conditions
from toygan.models.studio import ground_colours, own_colours, product_colours

SIDE = 64
NETWORK = {
    "categories": 2,
    "resolution": SIDE,
    "generator_channels": [4, 6, 8, 8],
    "discriminator_channels": 4,
}


def snapshot(seed: int = 0, count: int = 2) -> tuple[Tensor, Tensor]:
    """Random pictures, and masks of a box with a hole."""
    rng = torch.Generator().manual_seed(seed)
    mask = torch.zeros(count, 1, SIDE, SIDE)
    mask[:, :, 12:52, 16:50] = 1
    mask[:, :, 24:40, 26:38] = 0
    return 2 * torch.rand((count, 3, SIDE, SIDE), generator=rng) - 1, mask


def conditions(picture: Tensor, mask: Tensor) -> Conditions:
    return {"photo": torch.cat([picture, 2 * mask - 1], dim=1), "colour": torch.zeros(len(picture), 4)}


def nothing(count: int) -> Tensor:
    return torch.zeros(count, 0)


def test_a_new_generator_cuts_the_product_out_on_white() -> None:
    generator, _ = build("studio", NETWORK)
    picture, mask = snapshot()
    with torch.inference_mode():
        made = generator(nothing(2), conditions(picture, mask))
    ground = torch.nn.functional.max_pool2d(mask, 3, stride=1, padding=1) == 0
    assert made[ground.expand_as(made)].min() > 0.9
    inside = 1 - torch.nn.functional.max_pool2d(1 - mask, 5, stride=1, padding=2) > 0
    kept = inside.expand_as(made)
    assert torch.allclose(made[kept], picture[kept], atol=1e-5)


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_old_ground_shows_nowhere(seed: int) -> None:
    """Neither beside the product nor through its hole: another pattern with equal means changes nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator, _ = build("studio", NETWORK)
        for layer in (generator.to_own, generator.to_ground):
            torch.nn.init.normal_(layer.weight, std=0.2)
    picture, mask = snapshot(seed, count=1)
    beside = torch.nn.functional.max_pool2d(mask, 9, stride=1, padding=4) == 0
    stripes = 0.3 * (1 - 2 * (torch.arange(SIDE) % 2)).view(1, 1, 1, -1)
    flat = torch.where(beside, 0.1, picture)
    striped = torch.where(beside, 0.1 + stripes, picture)
    with torch.inference_mode():
        made, other = (generator(nothing(1), conditions(each, mask)) for each in (flat, striped))
    slopes = [(each[..., 1:] - each[..., :-1])[..., :8, :].abs().mean() for each in (made, other)]
    assert slopes[1] < slopes[0] + 0.02


def test_edges_take_the_products_own_colour() -> None:
    picture, mask = snapshot()
    picture = torch.where(mask > 0, 0.5, -1.0).expand(-1, 3, -1, -1).clone()
    mixed = torch.nn.functional.avg_pool2d(picture, 3, stride=1, padding=1, count_include_pad=False)
    own = own_colours(mixed, mask)
    assert torch.allclose(own[mask.expand_as(own) > 0], torch.tensor(0.5), atol=1e-4)


def test_ground_colours_ignore_the_product() -> None:
    picture, mask = snapshot()
    picture = torch.where(mask > 0, 1.0, -0.5).expand(-1, 3, -1, -1)
    found = ground_colours(picture, mask)
    assert found.shape == (2, 4, SIDE // 16, SIDE // 16)
    assert torch.allclose(found[:, :3][found[:, 3:].expand(-1, 3, -1, -1) > 0], torch.tensor(-0.5), atol=1e-3)


def test_the_product_reflects_its_own_colour_onto_the_ground() -> None:
    _, mask = snapshot(count=1)
    red = torch.where(mask > 0, torch.tensor([0.8, -0.8, -0.8]).view(1, 3, 1, 1), 0.0)
    assert torch.allclose(product_colours(red, mask), red[:, :, 12:13, 16:17], atol=1e-3)
    generator, _ = build("studio", NETWORK)
    with torch.no_grad():
        generator.to_ground.bias[: 3 * 4] = 1.5  # shadow
        generator.to_ground.bias[3 * 4 :] = 1.0
    with torch.inference_mode():
        ground = generator.product_and_ground(conditions(red, mask))[1]
    assert (ground[:, 0] > ground[:, 1] + 0.3).all()


def test_both_networks_learn_from_a_step() -> None:
    generator, discriminator = build("studio", NETWORK)
    given = conditions(*snapshot())
    made = generator(nothing(2), given)
    output = discriminator.forward_with_features(made, given)
    assert output.score.shape == (2,)
    (output.score.sum() + made.mean()).backward()
    for network in (generator.to_own, generator.to_ground, discriminator.head):
        assert all(
            weight.grad is not None and weight.grad.isfinite().all() for weight in network.parameters()
        )


def test_the_family_needs_a_photo() -> None:
    assert FAMILIES["studio"]().config.image_condition == "photo"


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"generator_channels": [4, 4]}, "at least 4 widths"),
        ({"resolution": 32, "generator_channels": [4] * 6}, "levels"),
    ],
)
def test_unusable_options_are_named(changes: dict[str, object], wanted: str) -> None:
    with pytest.raises(ValueError, match=wanted):
        build("studio", NETWORK | changes)
