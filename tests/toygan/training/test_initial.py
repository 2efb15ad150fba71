"""Starting from a model: what is known of its categories and texts goes over, by name, and the rest as it
is."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.toygan.training.initial_models import ENCODER, NETWORKS, NEW, OLD, config_of, files_of, stored
from tests.toygan.training.tiny import changed, tiny
from toygan.errors import ModelError
from toygan.models import build
from toygan.models.embedding import ConditionEmbedding
from toygan.models.layers import ConditionInput
from toygan.training.initial import read_initial


@torch.no_grad()
def generated_and_scored(
    networks: dict[str, Any], category: int, text: Tensor | None, accents: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Three pictures of a category, and the logits of three that are the same for all networks."""
    rng = torch.Generator().manual_seed(0)
    conditions = {
        "category": torch.full((3,), category),
        "colour": torch.rand((3, 4), generator=rng),
        "sketch": torch.rand((3, 1, 32, 32), generator=rng),
        "layout": torch.randint(0, 14, (3, 32, 32), generator=rng),
        **({} if accents is None else {"accents": accents}),
        **({} if text is None else {"text": text}),
    }
    latents = torch.randn((3, networks["generator"].latent_size), generator=rng)
    for network in networks.values():
        network.eval()
    pictures = networks["generator"](latents, conditions)
    return pictures, networks["discriminator"](torch.rand((3, 3, 32, 32), generator=rng), conditions)


def networks_of(family: str, *, categories: int, text_size: int = 0, **more: Any) -> dict[str, Any]:
    options = config_of(family).network_options(categories=categories, text_size=text_size) | more
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        generator, discriminator = build(family, options)
        ema, _ = build(family, options)
    return {"generator": generator, "discriminator": discriminator, "ema": ema}


@pytest.mark.parametrize("family", NETWORKS)
def test_a_category_keeps_its_pictures_and_scores_wherever_it_stands(family: str) -> None:
    initial = read_initial(files_of(stored(family)), config_of(family))
    old = {"generator": initial.generator, "discriminator": initial.discriminator}
    new = networks_of(family, categories=len(NEW))
    initial.load_pretrained(new, NEW, None)
    for name in ("brick", "wheel"):
        wanted = generated_and_scored(old, OLD.index(name), None)
        for given in (new, new | {"generator": new["ema"]}):
            torch.testing.assert_close(generated_and_scored(given, NEW.index(name), None), wanted)


def test_a_new_category_starts_as_the_mean() -> None:
    for family in ("mlp", "dcgan"):
        initial = read_initial(files_of(stored(family)), config_of(family))
        new = networks_of(family, categories=len(NEW))
        initial.load_pretrained(new, NEW, None)
        for old, network in ((initial.generator, "ema"), (initial.discriminator, "discriminator")):
            before, after = (category_rows(each) for each in (old, new[network]))
            assert before.shape[0] == after.shape[0] == 3
            torch.testing.assert_close(after[1], before.mean(0))
            assert torch.equal(after[0], before[1])


def category_rows(network: torch.nn.Module) -> Tensor:
    (layer,) = (each for each in network.modules() if isinstance(each, ConditionInput))
    if isinstance(layer, ConditionEmbedding):
        return layer.category.weight.detach()
    counts = layer.sections()["weight"].counts
    return layer.get_parameter("weight").detach().split(list(counts.values()), 1)[1].T


@pytest.mark.parametrize("family", NETWORKS)
def test_texts_read_by_the_same_encoder_keep_their_meaning(family: str) -> None:
    initial = read_initial(files_of(stored(family, text_size=5)), config_of(family))
    old = {"generator": initial.generator, "discriminator": initial.discriminator}
    new = networks_of(family, categories=1, text_size=5)
    initial.load_pretrained(new, ("wheel",), ENCODER)
    text = torch.nn.functional.normalize(torch.rand(3, 5), dim=1)
    assert_close(generated_and_scored(new, 0, text), generated_and_scored(old, 2, text))


@pytest.mark.parametrize("family", NETWORKS)
@pytest.mark.parametrize(("before", "after"), [(0, 5), (5, 7), (5, 5), (5, 0)])
def test_texts_of_another_encoder_say_nothing_at_first(family: str, before: int, after: int) -> None:
    initial = read_initial(files_of(stored(family, text_size=before)), config_of(family))
    old = {"generator": initial.generator, "discriminator": initial.discriminator}
    new = networks_of(family, categories=3, text_size=after)
    initial.load_pretrained(new, OLD, {"name": "other", "identity": "1"} if after else None)
    said = torch.rand(3, after) if after else None
    nothing = torch.zeros(3, before) if before else None
    assert_close(generated_and_scored(new, 1, said), generated_and_scored(old, 1, nothing))


@pytest.mark.parametrize("family", [name for name in NETWORKS if name != "mlp"])
@pytest.mark.parametrize(("before", "after"), [(0, 2), (2, 2), (2, 0)])
def test_everything_but_new_accent_colours_keeps_its_meaning(family: str, before: int, after: int) -> None:
    config = changed(config_of(family), accent_colours=after)
    initial = read_initial(files_of(stored(family, accent_colours=before)), config)
    old = {"generator": initial.generator, "discriminator": initial.discriminator}
    new = networks_of(family, categories=3, accent_colours=after)
    initial.load_pretrained(new, OLD, None)
    if before != after:
        for network in (*old.values(), *new.values()):
            for module in network.modules():
                if isinstance(module, ConditionEmbedding):
                    module.accents = None
    accents = torch.rand(3, 8)
    assert_close(generated_and_scored(new, 1, None, accents), generated_and_scored(old, 1, None, accents))


def test_other_numbers_of_accent_colours_do_not_fit() -> None:
    config = changed(config_of("dcgan"), accent_colours=3)
    with pytest.raises(ModelError, match="accent_colours is 2 in the model, but 3 in the settings"):
        read_initial(files_of(stored("dcgan", accent_colours=2)), config)


def test_columns_for_accents_begin_at_nothing() -> None:
    """Of the layer of `mlp` that all conditions share."""
    initial = read_initial(files_of(stored("mlp")), changed(config_of("mlp"), accent_colours=2))
    new = networks_of("mlp", categories=3, accent_colours=2)
    initial.load_pretrained(new, OLD, None)
    layer = new["ema"].hidden[0]
    columns = dict(zip(layer.counts, layer.weight.split(list(layer.counts.values()), 1), strict=True))
    assert columns["accents"].shape[1] == 8
    assert not columns["accents"].any()


@pytest.mark.parametrize("before", [False, True])
def test_the_colour_map_has_no_effect_at_first_and_keeps_its_weights(before: bool) -> None:
    config = config_of("spade")
    config = changed(config, network={**config.network, "colour_map": True})
    initial = read_initial(files_of(stored("spade", colour_map=before)), config)
    old = {"generator": initial.generator, "discriminator": initial.discriminator}
    new = networks_of("spade", categories=3, colour_map=True)
    seen = torch.rand(3, 4), torch.tensor([1, 2, 3])
    new["ema"].colour_map.fit(*seen)
    if before:
        old["generator"].colour_map.fit(*seen)
    initial.load_pretrained(new, OLD, None)
    given = new | {"generator": new["ema"]}
    assert_close(generated_and_scored(given, 1, None), generated_and_scored(old, 1, None))
    assert new["ema"].colour_map.labels[:4].tolist() == [1, 2, 3, 0]  # what the new photos say


@pytest.mark.parametrize("before", [False, True])
def test_lines_have_no_effect_at_first_and_keep_their_weights(before: bool) -> None:
    config = config_of("spade")
    config = changed(config, network={**config.network, "lines": True, "shuffled_share": 0.0})
    initial = read_initial(files_of(stored("spade", lines=before)), config)
    new = networks_of("spade", categories=3, lines=True)
    initial.load_pretrained(new, OLD, None)
    lines = [each.line.weight for each in new["ema"].encodings]
    if before:
        assert all(
            torch.equal(one, other.line.weight)
            for one, other in zip(lines, initial.generator.encodings, strict=True)
        )
    else:
        assert not any(each.any() for each in lines)


@pytest.mark.parametrize(("before", "after"), [(0, 14), (14, 14), (14, 0)])
def test_a_layout_predictor_begins_anew_and_then_continues(before: int, after: int) -> None:
    """The new layout inputs have no effect at first: the pictures stay what they were."""
    config = config_of("pix2pix")
    config = changed(config, network={**config.network, "layout_classes": after})
    initial = read_initial(files_of(stored("pix2pix", layout_classes=before)), config)
    old = {"generator": initial.generator, "discriminator": initial.discriminator}
    new = networks_of("pix2pix", categories=3, layout_classes=after)
    initial.load_pretrained(new, OLD, None)
    given = new | {"generator": new["ema"]}
    if before == after or not before:
        assert_close(generated_and_scored(given, 1, None), generated_and_scored(old, 1, None))
    if before == after:
        theirs = initial.generator.colouring.state_dict()
        assert all(
            torch.equal(each, theirs[name]) for name, each in new["ema"].colouring.state_dict().items()
        )
    if not after:
        assert not any(name.startswith("colouring.") for name in new["ema"].state_dict())


def test_a_deep_head_begins_anew_beside_the_other_heads() -> None:
    network = {
        "generator_channels": 4,
        "generator_blocks": 1,
        "discriminator_channels": 4,
        "small_resolution": 16,
    }
    config = tiny(family="enhancer", network=network | {"deep_head": True})
    initial = read_initial(files_of(stored("enhancer", **network)), config)
    generator, discriminator = build("enhancer", config.network_options(categories=3, text_size=0))
    fresh = {name: each.clone() for name, each in discriminator.state_dict().items()}
    initial.load_pretrained({"discriminator": discriminator, "ema": generator}, OLD, None)
    theirs = initial.discriminator.state_dict()
    for name, weight in discriminator.state_dict().items():
        assert torch.equal(weight, theirs.get(name, fresh[name])), name
    assert any(name.startswith("heads.2.") for name in fresh.keys() - theirs.keys())


@pytest.mark.parametrize(("before", "after"), [(0, 2), (2, 0)])
def test_who_points_at_more_or_fewer_colours_begins_to_anew(before: int, after: int) -> None:
    config = config_of("pix2pix")
    config = changed(config, network={**config.network, "layout_classes": 14}, accent_colours=after)
    initial = read_initial(files_of(stored("pix2pix", layout_classes=14, accent_colours=before)), config)
    new = networks_of("pix2pix", categories=3, layout_classes=14, accent_colours=after)
    fresh = new["ema"].colouring.to_labels.weight.clone()
    initial.load_pretrained(new, OLD, None)
    assert torch.equal(new["ema"].colouring.to_labels.weight, fresh)
    theirs = initial.generator.colouring.downs[0].weight
    assert torch.equal(new["ema"].colouring.downs[0].weight, theirs)


def test_what_colours_the_labels_are_of_is_handed_over() -> None:
    config = config_of("spade")
    config = changed(config, network={**config.network, "colour_map": True})
    initial = read_initial(files_of(stored("spade", colour_map=True)), config)
    assert initial.labelled_colours is None
    initial.generator.colour_map.fit(torch.rand(3, 4), torch.tensor([3, 1, 1]))
    found = initial.labelled_colours
    assert found is not None
    assert (found.labels, found.colours.shape) == ((3, 1, 1), (3, 4))
    assert read_initial(files_of(stored("dcgan")), config_of("dcgan")).labelled_colours is None


def test_networks_grow_and_begin_with_accents_at_once() -> None:
    config = changed(config_of("dcgan"), resolution=64, accent_colours=2)
    options = config.network | {"generator_channels": 2, "discriminator_channels": 2}
    assert read_initial(files_of(stored("dcgan")), changed(config, network=options)).grows


def assert_close(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> None:
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
