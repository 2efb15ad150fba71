"""How layouts, colour maps, lines and conditions enter SPADE networks."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tests.toygan.models.spade_networks import TINY, conditions, networks
from toygan.models.spade import (
    Spade,
    encode_layout,
)


def test_a_layout_has_a_channel_for_each_class() -> None:
    layout = torch.tensor([[[0, 2], [1, 0]]])
    encoded = encode_layout(layout, 3)
    assert encoded.tolist() == [[[[1, 0], [0, 1]], [[0, 0], [1, 0]], [[0, 1], [0, 0]]]]


@pytest.mark.parametrize(("label", "named"), [(3, 3), (-1, -1)])
def test_an_unknown_label_is_refused(label: int, named: int) -> None:
    generator, discriminator = networks()
    given = conditions(2, label=label)
    message = rf"the layout holds the label {named}; it must lie in 0\.\.2"
    with pytest.raises(ValueError, match=message):
        generator(torch.randn(2, 8), given)
    with pytest.raises(ValueError, match=message):
        discriminator(torch.rand(2, 3, 32, 32), given)


def test_modulation_is_the_papers_equation_1() -> None:
    """gamma (h - mean) / deviation + beta, pixel by pixel; by hand for h = 1, 3 in one row.

    Mean 2 and deviation 1 make -1, 1. The encoding 0, 1 passes the kernels' middle: gamma = 1 + 2 * encoding
    = 1, 3 and beta = 10 * encoding = 0, 10. So: -1 * 1 + 0 and 1 * 3 + 10.
    """
    spade = Spade(1, 1)
    with torch.no_grad():
        for convolution, weight in ((spade.gain, 2.0), (spade.bias, 10.0)):
            convolution.weight.zero_()
            convolution.weight[0, 0, 1, 1] = weight
        spade.bias.bias.zero_()
    h, encoding = torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[[[0.0, 1.0]]]])
    torch.testing.assert_close(spade(h, encoding), torch.tensor([[[[-1.0, 13.0]]]]), atol=1e-4, rtol=0)


def test_smaller_layouts_are_shares() -> None:
    """The square of 16 x 16 fills the middle 2 x 2 of 4 x 4 pixels: the encoding there is its class's."""
    generator, _ = networks()
    first = generator.encodings[0]
    seen: list[Tensor] = []
    handle = first.layout.register_forward_hook(lambda _, given, result: seen.append(given[0]))
    generator(torch.randn(1, 8), conditions(1))
    handle.remove()
    assert seen[0].shape == (1, 3, 4, 4)
    assert seen[0][0, :, 1, 1].tolist() == [0, 0, 1]
    assert seen[0][0, :, 2, 2].tolist() == [0, 1, 0]
    torch.testing.assert_close(seen[0].sum(1), torch.ones(1, 4, 4))


def test_a_colour_map_gives_each_class_its_own_colour() -> None:
    """Class 1 is of two colours. Given as a colour, they differ there more than anywhere else."""
    generator, _ = networks(replace(TINY, colour_map=True, accent_colours=1))
    generator.eval()
    assert generator.colour_map is not None
    generator.colour_map.fit(torch.tensor([[0.0, 0.3, -0.3, 1.0]]), torch.tensor([1]))
    accents = torch.zeros(2, 4)
    accents[1] = torch.tensor([0.0, 0.5, -0.5, 1.0])
    given = conditions(2) | {"colour": torch.zeros(2, 4), "accents": accents}
    latents = torch.ones(2, 8)
    with torch.no_grad():
        assert generator.embedding.accents is not None
        for weight in generator.embedding.accents.parameters():
            nn.init.zeros_(weight)
        for encoding in generator.encodings[:-1]:
            nn.init.zeros_(encoding.shade.weight)
        silent = generator(latents, given)
        torch.testing.assert_close(silent[0], silent[1])
        nn.init.normal_(generator.encodings[-1].shade.weight)
        pictures = generator(latents, given)
    changed = (pictures[1] - pictures[0]).abs().amax(0)
    assert changed[17:23, 9:23].mean() > 0.01  # class 1
    assert changed[:6].max() < 1e-5  # three convolutions away from it
    torch.testing.assert_close(pictures[0], silent[0])  # no colour was given


def test_colour_maps_are_found_by_the_colours_of_the_catalog() -> None:
    generator, _ = networks(replace(TINY, colour_map=True))
    assert generator.colour_map is not None
    seen: list[tuple[Tensor, ...]] = []
    generator.colour_map.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))
    given = conditions(2)
    named = given["colour"].view(2, 1, 4) + 0.5
    with torch.no_grad():
        generator(torch.ones(2, 8), given | {"named_colours": named})
    ((_, colours, found_by),) = seen
    assert torch.equal(colours[:, 0], given["colour"])
    assert torch.equal(found_by, named)


def test_lines_say_where_an_edge_is_inside_a_class() -> None:
    """They are silent at first; a missing sketch is blank paper."""
    generator, _ = networks(replace(TINY, lines=True))
    generator.eval()
    given, latents = conditions(1), torch.ones(1, 8)
    paper = torch.ones(1, 1, 32, 32)
    line = paper.clone()
    line[:, :, 20] = -1
    with torch.no_grad():
        silent = generator(latents, given)
        torch.testing.assert_close(generator(latents, given | {"sketch": line}), silent)
        for encoding in generator.encodings[:-1]:
            assert not encoding.line.weight.any()
        nn.init.normal_(generator.encodings[-1].line.weight)
        torch.testing.assert_close(generator(latents, given | {"sketch": paper}), silent)
        changed = (generator(latents, given | {"sketch": line}) - silent).abs().amax((0, 1))
    assert changed[18:23].mean() > 0.01
    assert changed[:14].max() < 1e-5  # three convolutions away from it


def test_the_condition_is_projected_onto_every_patch() -> None:
    _, discriminator = networks()
    discriminator.eval()
    for scale in discriminator.scales:
        nn.init.normal_(scale.projection.weight)
    given, images = conditions(2), torch.rand(2, 3, 32, 32)
    output = discriminator.forward_with_features(images, given)
    embedded = discriminator.embedding(given)
    for number, scale in enumerate(discriminator.scales):
        features = output.features[4 * number + 3]
        expected = scale.logit(features)[:, 0]
        expected = expected + torch.einsum("bchw,bc->bhw", features, scale.projection(embedded))
        torch.testing.assert_close(output.logits[number], expected)
    mean = torch.stack([each.mean((1, 2)) for each in output.logits]).mean(0)
    torch.testing.assert_close(discriminator(images, given), mean)
