"""The commands about models: add, promote, train, calibrate."""

import json
import re
from pathlib import Path

import pytest

from flows.exits import BAD_INPUT
from tests.flows.command import Command
from tests.models import nan_model, tiny_model
from tests.shards import eight_rows, photo_row, write_shard
from toygan.data.split import is_calibration_sku
from toygan.training.config import DETERMINED

# models


def test_models_are_added_promoted_and_rolled_back(tmp_path: Path, toygan_here: Command) -> None:
    store = tmp_path / "store"
    old, new = tiny_model(), tiny_model(seed=1)
    for number, model in enumerate((old, new)):
        folder = model.write(tmp_path / str(number) / "toys")
        assert toygan_here("models", "add", folder, "--name", "toys", "--store", store).code == 0
        promoted = toygan_here("models", "promote", f"toys@{model.version}", "--store", store)
        assert promoted.out.startswith(f"champion is toys@{model.version}\nlive pictures stay; ")
    listed = toygan_here("models", "list", "--store", store).out
    assert re.search(rf"^toys@{old.version}  calibrated  0\.\d MB$", listed, re.M)
    assert re.search(rf"^toys@{new.version}  calibrated  0\.\d MB  champion$", listed, re.M)
    shown = toygan_here("models", "show", "--store", store).out
    assert shown.startswith(f"toys@{new.version}\n")
    assert '"family": "dcgan"' in shown
    back = toygan_here("models", "rollback", "--store", store)
    assert back.out.startswith(f"champion is toys@{old.version}\nlive pictures stay; ")
    assert toygan_here("models", "show", "--store", store).out.startswith(f"toys@{old.version}\n")
    first = toygan_here("models", "rollback", "--store", store)
    assert first.out.startswith("champion is toybricks-text128@")
    again = toygan_here("models", "rollback", "--store", store)
    assert again.code == BAD_INPUT
    assert "has no earlier model" in again.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "nobody"], "there is no model 'nobody'"),
        (["promote", "toys", "--store", "STORE"], "there is no model 'toys'; there are: toybricks-"),
        (["promote", "toys@0123456789ab", "--store", "STORE"], "there is no model toys@0123456789ab"),
        (["add", "nowhere", "--name", "toys", "--store", "STORE"], "there is no such folder"),
        (["rollback", "--store", "STORE"], "has no earlier model"),
    ],
)
def test_models_that_are_not_there(
    arguments: list[str], said: str, tmp_path: Path, toygan_here: Command
) -> None:
    store = tmp_path / "store"
    outcome = toygan_here("models", *(str(store) if each == "STORE" else each for each in arguments))
    assert outcome.code == BAD_INPUT
    assert said in outcome.err
    assert "Traceback" not in outcome.err
    assert not store.exists()


def test_the_bundled_models_are_listed_and_shown(toygan_here: Command) -> None:
    """One for every kind of image that a product may be generated from, and one for products without any."""
    listed = toygan_here("models", "list")
    assert listed.code == 0
    found = {}
    for line in listed.out.splitlines():
        reference = line.removesuffix("  bundled")
        assert re.fullmatch(r"[a-z0-9-]+@[0-9a-f]{12}", reference)
        shown = toygan_here("models", "show", reference).out
        assert shown.startswith(f"{reference}\n")
        config = json.loads(shown[shown.index("{") : shown.index("\n}") + 2])
        found[reference.partition("@")[0]] = (config["family"], config["resolution"])
    assert found == {
        "toybricks-layout128": ("spade", 128),
        "toybricks-sketch128": ("pix2pix", 128),
        "toybricks-studio512": ("studio", 512),
        "toybricks-text128": ("spade", 128),
    }
    assert toygan_here("models", "show").out.startswith("toybricks-text128@")


# train, calibrate


@pytest.mark.slow
@pytest.mark.usefixtures("few_samples")
def test_a_model_is_trained_and_calibrated(tmp_path: Path, toygan_here: Command) -> None:
    """From photos to a model that generate takes: the commands name each other."""
    calibrating = [sku for sku in (f"c-{number}" for number in range(400)) if is_calibration_sku(sku)]
    rows = [*eight_rows(), *(photo_row(sku) for sku in calibrating[:12])]
    photos = write_shard(tmp_path / "photos", rows)
    network = {"latent_size": 8, "generator_channels": 4, "discriminator_channels": 4, "max_channels": 16}
    options = {"data": {"batch_size": 4}, "network": network}
    (tmp_path / "config.json").write_text(json.dumps(options))
    trained = toygan_here(
        *("train", "--photos", photos, "--resolution", "32", "--output", tmp_path / "training"),
        *("--config", tmp_path / "config.json", "--max-images", "16"),
    )
    assert trained.code == 0, trained.err
    model = tmp_path / "training" / "model"
    assert f"toygan calibrate --model {model} --photos {photos}" in trained.out

    refused = toygan_here("calibrate", "--model", model, "--photos", tmp_path / "nowhere")
    assert refused.code == BAD_INPUT
    assert "no photos in" in refused.err
    calibrated = toygan_here("calibrate", "--model", model, "--photos", photos, "--acceptance", 0.8)
    assert calibrated.code == 0, calibrated.err
    assert calibrated.out.startswith("model@")
    assert json.loads((model / "calibration.json").read_bytes())["settings"]["acceptance"] == 0.8
    probed = toygan_here("calibrate", "--model", model, "--photos", photos, "--probe")
    assert probed.code == 0, probed.err
    assert json.loads((model / "calibration.json").read_bytes())["probe"]["weights"]


def test_a_training_starts_from_a_model_of_a_store(tmp_path: Path, toygan_here: Command) -> None:
    photos, store = write_shard(tmp_path / "photos", eight_rows()), tmp_path / "store"
    tiny = tiny_model()
    folder = tiny.write(tmp_path / "tiny")
    assert toygan_here("models", "add", folder, "--name", "toys", "--store", store).code == 0
    options = {"data": {"batch_size": 4}, "network": json.loads(tiny.files["config.json"])["network"]}
    for name in DETERMINED:
        options["network"].pop(name, None)
    (tmp_path / "config.json").write_text(json.dumps(options))
    given = ("train", "--photos", photos, "--resolution", "32", "--config", tmp_path / "config.json")
    given += ("--max-images", "8", "--init", "toys", "--output", tmp_path / "training")
    refused = toygan_here(*given)
    assert refused.code == BAD_INPUT
    assert "there is no model 'toys'" in refused.err
    assert not (tmp_path / "training").exists()
    trained = toygan_here(*given, "--store", store)
    assert trained.code == 0, trained.err
    config = json.loads((tmp_path / "training" / "model" / "config.json").read_text())
    assert config["training"]["init"] == f"toys@{tiny.version}"


def test_a_model_of_nan_is_not_calibrated(tmp_path: Path, toygan_here: Command) -> None:
    calibrating = [sku for sku in (f"c-{number}" for number in range(400)) if is_calibration_sku(sku)]
    photos = write_shard(tmp_path / "photos", [photo_row(sku) for sku in calibrating[:12]])
    folder = nan_model().with_files(calibration=None).write(tmp_path / "tiny")
    outcome = toygan_here("calibrate", "--model", folder, "--photos", photos)
    assert outcome.code == BAD_INPUT
    assert "returns NaN or infinity" in outcome.err
    assert not (folder / "calibration.json").exists()


def test_training_without_photos_is_refused(tmp_path: Path, toygan_here: Command) -> None:
    where = ("--photos", tmp_path / "nowhere", "--output", tmp_path / "training")
    for more, said in (((), "no photos in"), (("--family", "vae"), "preset 'vae'; known are mlp, dcgan")):
        outcome = toygan_here("train", *where, *more)
        assert outcome.code == BAD_INPUT
        assert said in outcome.err
        assert not (tmp_path / "training").exists()
