"""Starting from a model: what is known of its categories and texts goes over, by name, and the rest as it
is."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.models import TinyFiles, config_json, tiny_model, weights_of
from tests.shards import COLOURS, eight_rows, photo, photo_row, training_skus, write_shard
from tests.toygan.training.tiny import changed, tiny
from toygan.artifact.files import CONFIG, ModelFiles
from toygan.errors import BadInput, ModelError
from toygan.models import build
from toygan.models.embedding import ConditionEmbedding
from toygan.models.layers import ConditionInput
from toygan.registry.models import resolve
from toygan.training.config import TrainConfig
from toygan.training.initial import read_initial
from toygan.training.limits import Limits
from toygan.training.train import train

CPU = torch.device("cpu")
WIDTHS = {"generator_channels": 4, "discriminator_channels": 4, "max_channels": 16}
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"generator_units": [16, 32], "discriminator_units": [16, 8]},
    "dcgan": {"latent_size": 8, "condition_size": 8, **WIDTHS},
    "stylegan": {"latent_size": 8, "style_size": 8, "channel_base": 64, "max_channels": 8},
    "projected": {**WIDTHS, "head_channels": 4, "backbone_resolution": 32},
    "pix2pix": WIDTHS,
    "spade": WIDTHS | {"modulation_channels": 4},
}
OLD, NEW = ("car", "brick", "wheel"), ("brick", "plant", "wheel")
ENCODER = {"name": "reader", "identity": "0"}


def config_of(family: str) -> TrainConfig:
    return tiny(family=family, network=NETWORKS[family])


def stored(family: str, *, text_size: int = 0, **options: Any) -> TinyFiles:
    """A model of the categories `OLD` with random weights."""
    network = {**NETWORKS[family], "resolution": 32, "categories": len(OLD), "text_size": text_size}
    network |= options
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        generator, discriminator = build(family, network)
        for each in (*generator.parameters(), *discriminator.parameters()):
            each.data.add_(0.1 * torch.randn(each.shape))  # no weight is zero, nor two alike
    files = {
        CONFIG: config_json(family, network, OLD, text_encoder=ENCODER if text_size else None),
        "generator.safetensors": weights_of(generator),
        "discriminator.safetensors": weights_of(discriminator),
    }
    return TinyFiles(name="old", files=files)


def files_of(model: TinyFiles) -> ModelFiles:
    return ModelFiles(name=model.name, version=model.version, files=model.files)


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
    with pytest.raises(ModelError, match="accent_colours is 2 in the model and 3 in the settings"):
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
def test_shades_are_not_heard_at_first_and_then_keep_their_meaning(before: bool) -> None:
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
def test_lines_are_not_heard_at_first_and_then_keep_their_meaning(before: bool) -> None:
    config = config_of("spade")
    config = changed(config, network={**config.network, "lines": True, "shuffled_share": 0.0})
    initial = read_initial(files_of(stored("spade", lines=before)), config)
    new = networks_of("spade", categories=3, lines=True)
    initial.load_pretrained(new, OLD, None)
    heard = [each.line.weight for each in new["ema"].encodings]
    if before:
        assert all(
            torch.equal(one, other.line.weight)
            for one, other in zip(heard, initial.generator.encodings, strict=True)
        )
    else:
        assert not any(each.any() for each in heard)


@pytest.mark.parametrize(("before", "after"), [(0, 14), (14, 14), (14, 0)])
def test_who_draws_layouts_begins_anew_and_then_goes_on(before: int, after: int) -> None:
    """What the layouts are made into is not heard at first: the pictures stay what they were."""
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


def test_a_model_that_does_not_fit_is_named_beside_what_is_wanted() -> None:
    source = files_of(stored("dcgan"))
    with pytest.raises(ModelError, match=f"old@{source.version} is of the family dcgan, but mlp is to be"):
        read_initial(source, config_of("mlp"))
    config = config_of("dcgan")
    wider = changed(config, network=config.network | {"max_channels": 32, "latent_size": 9})
    with pytest.raises(
        ModelError, match="latent_size is 8 in the model and 9 in the settings, max_channels is 16 in the"
    ):
        read_initial(source, wider)
    with pytest.raises(ModelError, match="resolution is 32 in the model and 64 in the settings"):
        read_initial(source, changed(config, resolution=64))


def test_a_damaged_model_is_named() -> None:
    config = config_of("dcgan")
    other = tiny_model().files["generator.safetensors"]
    with pytest.raises(ModelError, match=r"generator\.safetensors of the model old@.* do not fit the model"):
        read_initial(files_of(stored("dcgan").with_files(generator=other)), config)
    for content in (b"{}", b'{"family": "dcgan", "network": 5, "categories": []}'):
        with pytest.raises(ModelError, match=r"config\.json of the model old@.* does not describe a model"):
            read_initial(files_of(stored("dcgan").with_files(config=content)), config)


def run(photos: Path, output: Path, *, init: str | None, max_images: int, resume: bool = False) -> Path:
    return train(
        photos_uri=photos,
        output=output,
        config=tiny(precision="fp32"),
        device=CPU,
        limits=Limits(max_images=max_images),
        resume=resume,
        init=None if init is None else resolve(init, None),
    )


def image_folder(folder: Path) -> Path:
    """As ImageNet's: folders of JPEGs by category; one of them is also among the toys."""
    for category in ("n02084071", "n02121808", "plant"):
        (folder / "train" / category).mkdir(parents=True)
        for number, colour_hex in enumerate(COLOURS):
            file = folder / "train" / category / f"{category}_{number}.JPEG"
            file.write_bytes(photo(colour_hex, round_=category == "plant"))
    return folder


def test_pretrained_on_pictures_by_category_and_fine_tuned_on_toys(shards: Path, tmp_path: Path) -> None:
    before = run(image_folder(tmp_path / "pictures"), tmp_path / "first", init=None, max_images=16)
    assert json.loads((before / CONFIG).read_text())["categories"] == ["n02084071", "n02121808", "plant"]

    at_once = run(shards, tmp_path / "second", init=str(before), max_images=0)
    config = json.loads((at_once / CONFIG).read_text())
    assert config["categories"] == ["brick", "plant"]
    assert config["training"]["init"] == f"model@{resolve(str(before), None).version}"
    old, new = (load_file(each / "generator.safetensors") for each in (before, at_once))
    of_categories = "embedding.category.weight"
    assert torch.equal(new[of_categories][1], old[of_categories][2])
    assert [key for key in old if key != of_categories and not torch.equal(old[key], new[key])] == []

    after = run(shards, tmp_path / "third", init=str(before), max_images=16)
    assert not torch.equal(load_file(after / "generator.safetensors")["base.weight"], new["base.weight"])


def test_a_fine_tuning_is_resumed_with_the_same_model(shards: Path, tmp_path: Path) -> None:
    before = str(run(shards, tmp_path / "first", init=None, max_images=8))
    run(shards, tmp_path / "second", init=before, max_images=8)
    with pytest.raises(ModelError, match="made with other values of init"):
        run(shards, tmp_path / "second", init=None, max_images=16, resume=True)
    resumed = run(shards, tmp_path / "second", init=before, max_images=16, resume=True)
    whole = run(shards, tmp_path / "third", init=before, max_images=16)
    assert (resumed / "generator.safetensors").read_bytes() == (whole / "generator.safetensors").read_bytes()


def test_a_model_that_does_not_fit_is_refused_before_the_photos_are_read(tmp_path: Path) -> None:
    init = str(stored("mlp").write(tmp_path / "old"))
    with pytest.raises(BadInput, match="is of the family mlp, but dcgan is to be trained"):
        run(tmp_path / "no photos here", tmp_path / "out", init=init, max_images=8)


def test_one_category_that_the_model_lacks(tmp_path: Path) -> None:
    rows = [photo_row(sku, "dragon") for sku in training_skus(8)]
    init = str(run(write_shard(tmp_path / "toys", eight_rows()), tmp_path / "first", init=None, max_images=4))
    model = run(write_shard(tmp_path / "more", rows), tmp_path / "second", init=init, max_images=8)
    assert json.loads((model / CONFIG).read_text())["categories"] == ["dragon"]


def test_networks_grow_and_keep_the_blocks_of_the_sides_they_had() -> None:
    """From 32 to 64 pixels with half the channels: all maps up to the one of 32 x 32 stay what they were."""
    wide = {"style_encoder": True, "mapping_layers": 1, "latent_size": 8, "condition_size": 8}
    small = tiny(network={**wide, "generator_channels": 8, "max_channels": 16})
    large = replace(small, resolution=64, network=small.network | {"generator_channels": 4})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        built = build("dcgan", small.network_options(categories=len(OLD)))
    files = {
        CONFIG: config_json("dcgan", small.network_options(categories=len(OLD)), OLD),
        "generator.safetensors": weights_of(built[0]),
        "discriminator.safetensors": weights_of(built[1]),
    }
    initial = read_initial(files_of(TinyFiles(name="old", files=files)), large)
    assert initial.grows
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        generator, discriminator = build("dcgan", large.network_options(categories=len(NEW)))
    fresh = {key: value.clone() for key, value in discriminator.state_dict().items()}
    initial.load_pretrained({"generator": generator, "discriminator": discriminator}, NEW, None)
    seen: dict[int, list[Tensor]] = {32: [], 64: []}
    rng = torch.Generator().manual_seed(0)
    latents, colour = torch.randn((2, 8), generator=rng), torch.rand((2, 4), generator=rng)
    for side, network, names in ((32, built[0], OLD), (64, generator, NEW)):
        network.eval()
        for up in network.ups[:3]:
            up.register_forward_hook(lambda module, given, made, side=side: seen[side].append(made))
        network(latents, {"category": torch.full((2,), names.index("wheel")), "colour": colour})
    assert [each.shape[2] for each in seen[64]] == [8, 16, 32]
    torch.testing.assert_close(seen[64], seen[32])
    kept = {key: value for key, value in discriminator.state_dict().items() if torch.equal(value, fresh[key])}
    assert kept.keys() == fresh.keys()  # a discriminator of the other pictures is of no use


def test_a_whitening_is_that_of_the_texts_it_will_read() -> None:
    """The same encoder's goes over; for another encoder's texts the one that was measured on them stays."""
    config = config_of("dcgan")
    config = changed(config, network={**config.network, "whiten_text": True})
    options = config.network_options(categories=len(OLD), text_size=6)
    old, new = (build("dcgan", options) for _ in range(2))
    for network, scale in ((old[0], 1), (old[1], 1), (new[0], 3), (new[1], 3)):
        network.embedding.fit_whitening(
            scale * torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
        )
    files = {
        CONFIG: config_json("dcgan", options, OLD, text_encoder=ENCODER),
        "generator.safetensors": weights_of(old[0]),
        "discriminator.safetensors": weights_of(old[1]),
    }
    initial = read_initial(files_of(TinyFiles(name="old", files=files)), config)
    measured = new[0].embedding.whitening.directions.clone()
    initial.load_pretrained({"generator": new[0]}, OLD, {"name": "another", "identity": "1"})
    assert torch.equal(new[0].embedding.whitening.directions, measured)
    assert not new[0].embedding.text.weight.any()
    initial.load_pretrained({"generator": new[0]}, OLD, ENCODER)
    assert torch.equal(new[0].embedding.whitening.directions, old[0].embedding.whitening.directions)
