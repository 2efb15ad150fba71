"""Generators that predict a layout and paint with its colours."""

from dataclasses import replace
from math import log

import pytest
import torch
from torch import Tensor, nn

from tests.toygan.models.pix2pix_networks import TINY, conditions, networks
from toygan.conditions.colour import encode_accents, encode_colours
from toygan.models.colour_map import encode_layout
from toygan.models.layers import given_colours
from toygan.models.pix2pix import (
    ColouringGenerator,
    Pix2pixConfig,
    layout_loss,
)
from toygan.models.regions import vote_by_region

COLOURING = replace(TINY, layout_classes=6, accent_colours=1)


def colouring(config: Pix2pixConfig = COLOURING) -> ColouringGenerator:
    """Red is of the label 2, blue of 3; the painted colours change the loss."""
    generator, _ = networks(config)
    assert isinstance(generator, ColouringGenerator)
    generator.colour_map.fit(encode_colours(["#B40000", "#1E5AA8"]), torch.tensor([2, 3]))
    for layer in (generator.colours_down, generator.colours_to_rgb):
        nn.init.normal_(layer.weight, std=0.1)
    return generator.eval()


def coloured(batch: int, main: str | None = "#B40000", accent: str | None = "#1E5AA8") -> dict[str, Tensor]:
    accents = encode_accents([[accent] if accent else []], 1)
    colours = {"colour": encode_colours([main]).repeat(batch, 1), "accents": accents.repeat(batch, 1)}
    return conditions(batch) | colours | {"layout": torch.full((batch, 32, 32), 5)}


@pytest.mark.parametrize(
    ("main", "accent", "expected"),
    [
        # Pointing at the main colour weighs 3, at the accent 2; of labels by heart the 0 weighs 4, the 3 1.
        ("#B40000", "#1E5AA8", [0.4, 0.0, 0.3, 0.3, 0.0, 0.0]),
        ("#1E5AA8", "#B40000", [0.4, 0.0, 0.2, 0.4, 0.0, 0.0]),
        ("#B40000", None, [0.5, 0.0, 0.375, 0.125, 0.0, 0.0]),
        (None, None, [0.8, 0.0, 0.0, 0.2, 0.0, 0.0]),
    ],
)
def test_a_layout_points_at_the_given_colours(
    main: str | None, accent: str | None, expected: list[float]
) -> None:
    generator = colouring()
    last = generator.colouring.to_labels
    nn.init.zeros_(last.weight)
    weights = torch.tensor([3.0, 2.0, 4.0, 1e-9, 1e-9, 1.0, 1e-9, 1e-9])
    assert last.bias is not None
    last.bias.data.copy_(weights.log())
    colours = coloured(1, main, accent)
    condition = torch.cat([torch.zeros(1, 8), generator.embedding(colours)], dim=1)
    found = generator._colour(condition, colours)
    assert found.shape == (1, 6, 32, 32)
    torch.testing.assert_close(found[0, :, 7, 9], torch.tensor(expected), atol=1e-6, rtol=0)


def test_the_loss_of_a_layout() -> None:
    """A pixel of ground with probability 1/2 and two of the product with 1/4 and 1: the mean of 0.2 ln 2 and
    of ln 4 and 0, weighing 0.2, 1 and 1."""
    probabilities = torch.tensor([[0.5, 0.75, 0.0], [0.5, 0.25, 1.0]]).view(1, 2, 1, 3)
    loss = layout_loss(probabilities, torch.tensor([[[0, 1, 1]]]))
    assert loss.item() == pytest.approx((0.2 * log(2) + log(4)) / 2.2, rel=1e-4)


def test_pictures_are_painted_on_the_photos_layouts_or_on_their_own() -> None:
    """The first of two on its photo's. Generation has none, and votes on each region."""
    generator = colouring()
    given, latents = coloured(2), torch.randn(2, 8)
    images, loss = generator.forward_with_layouts(latents, given, 1)
    other = given | {"layout": torch.full((2, 32, 32), 4)}
    moved, other_loss = generator.forward_with_layouts(latents, other, 1)
    assert not torch.equal(moved[0], images[0])
    torch.testing.assert_close(moved[1], images[1])
    assert loss > 0
    assert other_loss != loss
    colours = {name: value for name, value in given.items() if name != "layout"}
    condition = torch.cat([latents, generator.embedding(colours)], dim=1)
    generated = generator._colour(condition, colours)
    unvoted = generator._paint(condition, colours, encode_layout(generated.argmax(1), 6))
    torch.testing.assert_close(unvoted[1], images[1])
    paper = (colours["sketch"][0, 0].numpy() + 1) / 2
    voted = torch.from_numpy(vote_by_region(generated.detach().numpy()[0], paper, [2, 3]))
    painted = generator._paint(condition, colours, encode_layout(voted.expand(2, -1, -1), 6))
    torch.testing.assert_close(generator(latents, colours)[0], painted[0])


def test_pictures_of_predicted_layouts_train_the_predictor() -> None:
    """And of the photos' layouts it does not; their loss does."""
    for known, is_used in ((2, False), (1, True)):
        generator = colouring()
        images, _ = generator.forward_with_layouts(torch.randn(2, 8), coloured(2), known)
        images.square().mean().backward()
        gradient = generator.colouring.to_labels.weight.grad
        assert (gradient is not None and bool(gradient.any())) == is_used
    generator = colouring()
    _, loss = generator.forward_with_layouts(torch.randn(2, 8), coloured(2), 2)
    loss.backward()
    idle = [name for name, each in generator.colouring.named_parameters() if each.grad is None]
    assert not idle


def test_a_corrected_colour_keeps_the_label_of_the_one_that_is_named() -> None:
    """Red and blue change places in the conditions; pointed at is what is named."""
    generator, latents = colouring(), torch.zeros(1, 8)
    given, other = coloured(1), coloured(1, "#1E5AA8", "#B40000")
    named = given_colours(given)
    condition = torch.cat([latents, generator.embedding(given)], dim=1)
    expected = generator._colour(condition, given)
    torch.testing.assert_close(generator._colour(condition, other | {"named_colours": named}), expected)
    assert not torch.equal(generator._colour(condition, other), expected)
    layout = encode_layout(torch.full((1, 32, 32), 2), 6)
    painted = generator._paint(condition, other | {"named_colours": named}, layout)
    assert not torch.equal(painted, generator._paint(condition, given, layout))


def test_a_new_generator_does_not_hear_its_layouts_yet() -> None:
    generator, _ = networks(COLOURING)
    assert isinstance(generator, ColouringGenerator)
    assert not generator.colours_down.weight.any()
    assert not generator.colours_to_rgb.weight.any()
    assert generator.colouring.to_labels.weight.any()
