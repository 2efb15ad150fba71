import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.toygan.training.tiny import changed, tiny
from toygan import training
from toygan.artifact.config import ModelConfig
from toygan.conditions.text_config import TextConfig
from toygan.errors import BadInput
from toygan.models import FAMILIES
from toygan.training.checks import check_config
from toygan.training.choose import choose_config, config_of_model
from toygan.training.config import DETERMINED, GROUPS, TrainConfig
from toygan.training.presets import PRESETS
from toygan.training.state import start


def test_every_family_has_a_preset_that_fits_it() -> None:
    assert set(FAMILIES) <= set(PRESETS)
    for name, config in PRESETS.items():
        assert config.family == name or name not in FAMILIES
        assert check_config(config) == config


@pytest.mark.slow
def test_every_preset_generates() -> None:
    for config in PRESETS.values():
        state = start(config, categories=10, device=torch.device("cpu"))
        latents = torch.zeros(1, state.generator.latent_size)
        side = config.resolution
        conditions = {"category": torch.zeros(1, dtype=torch.int64), "colour": torch.zeros(1, 4)}
        conditions |= {"sketch": torch.ones(1, 1, side, side)}
        conditions |= {"layout": torch.zeros(1, side, side, dtype=torch.int64)}
        conditions |= {"photo": torch.zeros(1, 4, side, side)}
        conditions |= {"small": torch.ones(1, 3, side // 4, side // 4)}
        state.discriminator.eval()
        images = state.ema(latents, conditions)
        assert images.shape == (1, 3, config.resolution, config.resolution)
        assert state.discriminator(images, conditions).shape == (1,)


def test_a_config_survives_json() -> None:
    config = changed(PRESETS["dcgan"], adam_betas=(0.0, 0.9), seed=3)
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; it must be above 0"),
        ({"checkpoint_every_images": -1}, "checkpoint_every_images is -1"),
        ({"ema_half_life_images": float("nan")}, "ema_half_life_images is nan"),
        ({"generator_lr": 0.0}, "generator_lr is 0.0; it must lie between 0 and 1"),
        ({"discriminator_lr": 1.0}, "discriminator_lr is 1.0"),
        ({"adam_betas": (0.5, 1.0)}, "adam_betas is"),
        (
            {"augmentation_ramp_images": -1},
            "augmentation_ramp_images is -1; it must be 0 or",
        ),
        ({"colour_dropout": 1.5}, "colour_dropout is 1.5; it must lie from 0 to 1"),
        ({"colour_mixing": -0.1}, "colour_mixing is -0.1; it must lie from 0 to 1"),
        ({"text_smoothing": 0.1}, "text_smoothing needs a text_encoder"),
        (
            {"text_smoothing": -0.1, "text_encoder": "any"},
            "text_smoothing is -0.1; it must be 0 or a positive",
        ),
        ({"prior_share": 1.0}, "prior_share is 1.0; it must lie from 0 to below 1"),
        ({"layout_weight": -1.0}, "layout_weight is -1.0; it must be 0 or a positive number"),
        ({"loss": "bce"}, "loss is 'bce'; it must be one of minimax, non_saturating, hinge, relativistic"),
        ({"r1_gamma": -1.0}, "r1_gamma is -1.0; it must be 0 or a positive number"),
        ({"r2_gamma": float("nan")}, "r2_gamma is nan"),
        ({"l1_weight": float("inf")}, "l1_weight is inf"),
        ({"penalty_every_steps": 0}, "penalty_every_steps is 0; it must be above 0"),
        ({"precision": "int8"}, "precision is 'int8'; it must be one of auto, fp32, bf16, fp16"),
        ({"lr_decay_images": -1}, "lr_decay_images is -1; it must be 0 or a positive number"),
        ({"network": {"resolution": 128}}, "network holds resolution"),
    ],
)
def test_values_are_checked_where_the_config_is_made(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        changed(PRESETS["dcgan"], **changes)


def write(folder: Path, text: str) -> Path:
    file = folder / "config.json"
    file.write_text(text)
    return file


def test_a_file_overrides_the_preset_option_by_option(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        '{"data": {"batch_size": 8}, "optimizer": {"generator_lr": 0.1}, "network": {"max_channels": 32}}',
    )
    config = choose_config("dcgan", resolution=32, file=file)
    preset = PRESETS["dcgan"]
    assert config == changed(
        preset,
        batch_size=8,
        generator_lr=0.1,
        resolution=32,
        network=preset.network | {"max_channels": 32},
    )
    assert choose_config("dcgan") == preset


def test_an_unknown_preset_lists_the_known_ones() -> None:
    assert {"r3gan", *FAMILIES} <= set(PRESETS)
    known = ", ".join(PRESETS)
    with pytest.raises(BadInput, match=f"unknown model family or preset 'biggan'; known are {known}"):
        choose_config("biggan")


def test_a_preset_of_another_name_trains_its_family(tmp_path: Path) -> None:
    config = choose_config("r3gan", file=write(tmp_path, '{"family": "dcgan", "data": {"batch_size": 8}}'))
    assert config == changed(PRESETS["r3gan"], batch_size=8)
    with pytest.raises(BadInput, match="is a config of 'mlp', but 'dcgan' is to be trained"):
        choose_config("r3gan", file=write(tmp_path, '{"family": "mlp"}'))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"datum": {}}', "training: no option datum; known are family, resolution, network, conditions"),
        ('{"data": {"batchsize": 8}}', "data: no option batchsize; known are seed, batch_size, crop"),
        ('{"batch_size": 8, "seed": 1}', "training: batch_size, seed must be in the group 'data'"),
        ('{"data": {"batch_size": "8"}}', "batch_size: .*integer, found '8'"),
        ('{"data": {"batch_size": -8}}', "batch_size is -8"),
        ('{"data": 8}', "data: "),
        ('{"network": {"depth": 3}}', "networks of dcgan: no option depth; known are"),
        ('{"resolution": 48}', "resolution is 48; it must be a power of two from 32"),
        (
            '{"objective": {"kl_weight": 0.1}}',
            "kl_weight is 0.1; dcgan has no style encoder, so leave it at 0",
        ),
        ('{"network": 5}', "network: "),
        ('{"optimizer": {"precision": "fp8"}}', "precision: "),
        ('{"family": "mlp"}', "is a config of 'mlp', but 'dcgan' is to be trained"),
        ("[1]", "must hold a JSON object, not a list"),
        ('{"batch_size": 8', "cannot be read"),
        ("\xff", "cannot be read"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        choose_config("dcgan", file=write(tmp_path, text))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"missing\.json cannot be read"):
        choose_config("dcgan", file=tmp_path / "missing.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path_length_weight": 2.0}, r"path_length_weight is 2\.0; dcgan has no styles, so leave it at 0"),
        ({"kl_weight": 0.1}, r"kl_weight is 0\.1; dcgan has no style encoder, so leave it at 0"),
        ({"structure_weight": 1.0}, "dcgan has no masks of products, so leave it at 0"),
        ({"feature_matching_weight": 1.0}, "dcgan has no features to match, so leave it at 0"),
        (
            {"layout_bank": 0.1},
            r"layout_bank is 0\.1; dcgan does not generate from layouts, so leave it at 0",
        ),
        ({"prior_share": 0.5}, r"prior_share is 0\.5; it needs a kl_weight above 0, or networks"),
        (
            {"family": "studio", "network": {}, "resolution": 64, "augmentation_ramp_images": 64},
            "augmentation_ramp_images is 64; studio augments no pictures, leave it at 0",
        ),
        ({"network": {"depth": 3}}, "networks of dcgan: no option depth; known are"),
        ({"family": "biggan"}, "unknown model family 'biggan'; known are mlp, dcgan, stylegan"),
    ],
)
def test_what_a_family_cannot_use_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        check_config(tiny(**changes))


def test_every_preset_fits_its_family() -> None:
    for preset in PRESETS.values():
        assert check_config(preset) == preset


def test_a_model_is_trained_further_by_its_own_settings(tmp_path: Path) -> None:
    """The file and the resolution override them, and the networks are the model's."""
    trained = tiny(batch_size=8, loss="minimax", accent_colours=2, precision="bf16")
    options = asdict(trained.networks())
    trained = changed(trained, network={name: options[name] for name in options.keys() - set(DETERMINED)})
    stored = ModelConfig(
        family="dcgan",
        networks=trained.networks(categories=3),
        categories=("car", "brick", "wheel"),
        text=TextConfig(accent_colours=2),
        training={"images_seen": 5, "settings": changed(trained, network={}).to_json()},
    )
    assert config_of_model(stored) == changed(trained, precision="auto")
    file = write(tmp_path, '{"data": {"seed": 7}, "network": {"max_channels": 32}}')
    wider = trained.network | {"max_channels": 32}
    assert config_of_model(stored, resolution=64, file=file) == changed(
        trained, precision="auto", seed=7, resolution=64, network=wider
    )
    with pytest.raises(BadInput, match="the family 'vae' cannot be trained; known are mlp"):
        config_of_model(replace(stored, family="vae"))


def test_every_option_is_described_in_the_readme() -> None:
    text = Path(training.__file__).with_name("README.md").read_text()
    options = [each.name for group in GROUPS.values() for each in fields(group)]
    assert len(options) == len(set(options))  # so a message that names an option is enough
    assert [name for name in options if f"| `{name}` |" not in text] == []
    networks = {each.name for family in FAMILIES.values() for each in fields(family().config)}
    assert [name for name in networks - set(DETERMINED) if f"`{name}`" not in text] == []
