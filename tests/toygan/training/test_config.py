import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from toygan.errors import BadInput
from toygan.models import FAMILIES, network_config
from toygan.training import config as config_module
from toygan.training.config import PRESETS, TrainConfig, choose_config
from toygan.training.state import start


def test_every_family_has_a_preset_and_every_preset_builds() -> None:
    assert set(FAMILIES) <= set(PRESETS)
    for name, config in PRESETS.items():
        assert config.family == name or name not in FAMILIES
        state = start(config, categories=10, device=torch.device("cpu"))
        latents = torch.zeros(1, state.generator.latent_size)
        side = config.resolution
        conditions = {"category": torch.zeros(1, dtype=torch.int64), "colour": torch.zeros(1, 4)}
        conditions |= {"sketch": torch.ones(1, 1, side, side)}
        conditions |= {"layout": torch.zeros(1, side, side, dtype=torch.int64)}
        conditions |= {"small": torch.ones(1, 3, side // 4, side // 4)}
        state.discriminator.eval()
        images = state.ema(latents, conditions)
        assert images.shape == (1, 3, config.resolution, config.resolution)
        assert state.discriminator(images, conditions).shape == (1,)


def test_a_config_survives_json() -> None:
    config = replace(PRESETS["dcgan"], adam_betas=(0.0, 0.9), seed=3)
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
        ({"augmentation_target": 1.0}, "augmentation_target is 1.0; it must lie between -1 and 1"),
        ({"augmentation_ramp_images": 0}, "augmentation_ramp_images is 0; it must be above 0"),
        ({"colour_dropout": 1.5}, "colour_dropout is 1.5; it must lie from 0 to 1"),
        ({"colour_mixing": -0.1}, "colour_mixing is -0.1; it must lie from 0 to 1"),
        ({"text_dropout": 1.5}, "text_dropout is 1.5; it must lie from 0 to 1"),
        ({"text_smoothing": 0.1}, "text_smoothing needs a text_encoder"),
        (
            {"text_smoothing": -0.1, "text_encoder": "any"},
            "text_smoothing is -0.1; it must be 0 or a positive",
        ),
        ({"prior_share": 1.0}, "prior_share is 1.0; it must lie from 0 to below 1"),
        ({"prior_share": 0.5, "kl_weight": 0.1, "l1_weight": 1.0, "adversarial": False}, "for adversarial"),
        ({"layout_weight": -1.0}, "layout_weight is -1.0; it must be 0 or a positive number"),
        ({"loss": "bce"}, "loss is 'bce'; it must be one of minimax, non_saturating, hinge, least_squares,"),
        ({"r1_gamma": -1.0}, "r1_gamma is -1.0; it must be 0 or a positive number"),
        ({"r2_gamma": float("nan")}, "r2_gamma is nan"),
        ({"wgan_lambda": float("inf")}, "wgan_lambda is inf"),
        ({"penalty_every_steps": 0}, "penalty_every_steps is 0; it must be above 0"),
        ({"precision": "int8"}, "precision is 'int8'; it must be one of auto, fp32, bf16, fp16"),
        ({"lr_decay_images": -1}, "lr_decay_images is -1; it must not be below 0"),
        ({"network": {"resolution": 128}}, "network holds resolution"),
    ],
)
def test_values_are_checked_where_the_config_is_made(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        replace(PRESETS["dcgan"], **changes)


def write(folder: Path, text: str) -> Path:
    file = folder / "config.json"
    file.write_text(text)
    return file


def test_a_file_overrides_the_preset_option_by_option(tmp_path: Path) -> None:
    file = write(tmp_path, '{"batch_size": 8, "adam_betas": [0, 0.99], "network": {"max_channels": 32}}')
    config = choose_config("dcgan", resolution=32, file=file)
    preset = PRESETS["dcgan"]
    assert config == replace(
        preset,
        batch_size=8,
        adam_betas=(0.0, 0.99),
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
    config = choose_config("r3gan", file=write(tmp_path, '{"family": "dcgan", "batch_size": 8}'))
    assert config == replace(PRESETS["r3gan"], batch_size=8)
    with pytest.raises(BadInput, match="is a config of 'mlp', but 'dcgan' is to be trained"):
        choose_config("r3gan", file=write(tmp_path, '{"family": "mlp"}'))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"batchsize": 8}', "no option batchsize; known are family, resolution, network, text_encoder"),
        ('{"batch_size": "8"}', "batch_size: .*integer, found '8'"),
        ('{"batch_size": -8}', "batch_size is -8"),
        ('{"network": 5}', "network: "),
        ('{"precision": "fp8"}', "precision: "),
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


def test_every_config_that_comes_along_fits_its_family() -> None:
    """Their names begin with the family."""
    files = sorted((Path(config_module.__file__).parent / "configs").glob("*.json"))
    assert files
    for file in files:
        chosen = choose_config(file.stem.partition("-")[0], file=file)
        network_config(chosen.family, chosen.network_options(categories=10))
    reference = choose_config("stylegan", file=files[0].with_name("stylegan-reference.json")).network
    assert (reference["channel_base"], reference["max_channels"]) == (16_384, 512)
