"""Trainings that start from a model, and networks that grow."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.models import TinyFiles, config_json, tiny_model, weights_of
from tests.shards import COLOURS, eight_rows, photo, photo_row, training_skus, write_shard
from tests.toygan.training.initial_models import ENCODER, NEW, OLD, config_of, files_of, stored
from tests.toygan.training.tiny import changed, tiny
from toygan.artifact.files import CONFIG
from toygan.errors import BadInput, ModelError
from toygan.models import build
from toygan.registry.models import resolve
from toygan.training.initial import read_initial
from toygan.training.limits import Limits
from toygan.training.train import train

CPU = torch.device("cpu")


def test_a_model_that_does_not_fit_is_named_beside_what_is_wanted() -> None:
    source = files_of(stored("dcgan"))
    with pytest.raises(ModelError, match=f"old@{source.version} is of the family dcgan, but mlp is to be"):
        read_initial(source, config_of("mlp"))
    config = config_of("dcgan")
    wider = changed(config, network=config.network | {"max_channels": 32, "latent_size": 9})
    with pytest.raises(
        ModelError, match="latent_size is 8 in the model, but 9 in the settings, max_channels is 16 in the"
    ):
        read_initial(source, wider)
    with pytest.raises(ModelError, match="resolution is 32 in the model, but 64 in the settings"):
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
