"""The recipes that come with the package, and how recipes are read and run."""

import itertools
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, load_file, save

from tests.models import tiny_model
from tests.shards import eight_rows, photo_row, write_shard
from toygan.artifact.files import CALIBRATION
from toygan.artifact.load import load_model
from toygan.data.split import is_calibration_sku
from toygan.errors import BadInput, RunFailed
from toygan.models import network_config
from toygan.models.layers import NetworkConfig
from toygan.registry.models import resolve
from toygan.training.checkpoint import checkpoint_folders
from toygan.training.recipe import Recipe, read_recipe, recipe_names
from toygan.training.run_recipe import RecipeRun, finished_files, run_recipe

CPU = torch.device("cpu")
# terms that did not exist when the bundled models were trained
LATER = {"detail_energy_weight": 0.0, "structure_weight": 0.0, "ground_weight": 0.0}
BUNDLED = ("toybricks-layout128", "toybricks-sketch128", "toybricks-text128")


@pytest.mark.parametrize("name", recipe_names())
def test_each_stage_goes_on_from_the_one_before(name: str) -> None:
    configs = [stage.config for stage in read_recipe(name).stages]
    networks = [
        network_config(each.family, each.network_options(categories=10, text_size=384)) for each in configs
    ]
    for before, after in itertools.pairwise(networks):
        assert after.grows_from(before) or after == replace(before, **added(before, after))


def added(before: NetworkConfig, after: NetworkConfig) -> dict[str, Any]:
    """What networks may begin with in a later training."""
    there, here = asdict(before), asdict(after)
    may_begin = ("accent_colours", "colour_map", "lines", "layout_classes", "deep_head")
    begun = {name for name in may_begin if name in here and not there[name]}
    return {name: here[name] for name in {"shuffled_share"} & here.keys() | begun}


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_model_was_made_by_its_recipe(name: str) -> None:
    """Its config.json holds the settings of the last stage, and as many images."""
    config = json.loads(resolve(name, None).files["config.json"])
    config["training"]["settings"]["objective"] = LATER | config["training"]["settings"]["objective"]
    last = read_recipe(name).stages[-1]
    settings = last.config.to_json()
    settings["optimizer"]["precision"] = config["training"]["settings"]["optimizer"]["precision"]
    assert config["training"]["settings"] == settings
    assert config["training"]["images_seen"] == last.images
    assert config["truncation"] == read_recipe(name).truncation


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_enhancer_was_made_by_its_recipe(name: str) -> None:
    training = json.loads(resolve(name, None).files["enhancer.json"])["training"]
    training["settings"]["objective"] = LATER | training["settings"]["objective"]
    recipe = "toybricks-enhancer512" if "text" in name else name.replace("128", "-enhancer512")
    last = read_recipe(recipe).stages[-1]
    settings = last.config.to_json()
    settings["optimizer"]["precision"] = training["settings"]["optimizer"]["precision"]
    assert (training["settings"], training["images_seen"]) == (settings, last.images)


def test_a_recipe_begins_with_the_stages_of_another() -> None:
    names = [stage.name for stage in read_recipe("toybricks-text128").stages]
    assert names == ["first", "repeated", "mixed", "coloured", "lines", "longer", "nearer"]


RECIPE = """
family = "dcgan"
truncation = 0.7
acceptance = 0.9
[settings]
resolution = 32
network = { latent_size = 8, generator_channels = 4, discriminator_channels = 4, max_channels = 16 }
optimizer = { precision = "fp32" }
logging = { log_every_images = 8, checkpoint_every_images = 16 }
data = { batch_size = 4 }
[[stages]]
name = "first"
images = 8
[[stages]]
name = "second"
images = 16
settings.data = { seed = 1 }
"""


def recipe_file(folder: Path, text: str = RECIPE) -> str:
    file = folder / "own.toml"
    file.write_text(text)
    return str(file)


def own(folder: Path) -> Recipe:
    return read_recipe(recipe_file(folder))


def test_a_stage_changes_the_settings_that_all_stages_share(tmp_path: Path) -> None:
    first, second = own(tmp_path).stages
    assert (first.config.data.seed, second.config.data.seed) == (0, 1)
    assert first.config.data.batch_size == second.config.data.batch_size == 4
    assert (first.images, second.images) == (8, 16)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("acceptance = 0.9", "acceptance = 2.0", "the recipe own: acceptance is 2.0; it must lie above 0"),
        ("acceptance = 0.9", "accept = 0.9", "the recipe own: no option accept; known are family, stages"),
        ("\nimages = 16\n", "\nimages = 0\n", "the recipe own, stage 'second': images is 0"),
        ("\nimages = 16\n", "\n", "the recipe own, stage 'second': images: Field required"),
        ("seed = 1", "sed = 1", "the recipe own, stage 'second': data: no option sed; known are seed"),
        ('name = "second"', 'name = "first"', "the recipe own has several stages with the name first"),
        ('name = "second"', 'name = "../x"', "it may contain only letters, digits and -"),
        ('family = "dcgan"', 'family = "vae"', "unknown model family or preset 'vae'"),
        ('family = "dcgan"', "family = ", "the recipe own cannot be read"),
        (
            "truncation",
            'start = { recipe = "spade-256", stage = "x" }\ntruncation',
            "which has only the stages training",
        ),
    ],
)
def test_recipes_that_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert RECIPE.count(old) == 1
    with pytest.raises(BadInput, match=message):
        read_recipe(recipe_file(tmp_path, RECIPE.replace(old, new)))


def test_an_unknown_recipe_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f"no recipe 'mine'; known are {', '.join(recipe_names())}"):
        read_recipe("mine")
    with pytest.raises(BadInput, match=r"missing\.toml cannot be read"):
        read_recipe(str(tmp_path / "missing.toml"))
    (tmp_path / "deep.toml").write_text("a = " + "[" * 100_000)
    with pytest.raises(BadInput, match="deep cannot be read"):
        read_recipe(str(tmp_path / "deep.toml"))


@pytest.mark.slow
@pytest.mark.usefixtures("few_samples")
def test_a_recipe_makes_a_calibrated_model_and_resumes(tmp_path: Path) -> None:
    """A run that is stopped after the first stage and resumed makes the same model as an undisturbed one."""
    calibrating = [sku for sku in (f"c-{number}" for number in range(400)) if is_calibration_sku(sku)]
    rows = [*eight_rows(), *(photo_row(sku) for sku in calibrating[:12])]
    photos = write_shard(tmp_path / "photos", rows)
    run = RecipeRun(recipe=own(tmp_path), photos_uri=str(photos), output=tmp_path / "whole", device=CPU)
    whole = run_recipe(run)
    assert whole == tmp_path / "whole" / "model"
    parts = replace(run, output=tmp_path / "parts")
    first = parts.output / "first" / "model"
    assert run_recipe(replace(parts, should_stop=first.exists)) is None
    assert not checkpoint_folders(parts.output / "second")
    with pytest.raises(BadInput, match="holds a training already; give --resume to continue it"):
        run_recipe(parts)
    assert run_recipe(replace(parts, resume=True)) == parts.model
    files = {file.name: file.read_bytes() for file in whole.iterdir()}
    assert files == {file.name: file.read_bytes() for file in parts.model.iterdir()}
    assert json.loads(files[CALIBRATION])["settings"]["acceptance"] == 0.9
    config = json.loads(files["config.json"])
    assert (config["truncation"], config["training"]["images_seen"]) == (0.7, 16)
    assert config["training"]["init"].startswith("model@")
    kernels = load_file(whole / "generator.safetensors")
    assert {value.dtype for value in kernels.values() if value.ndim > 1} == {torch.float16}
    assert load_model(resolve(str(whole), None), CPU).calibration is not None
    made_at = parts.model.stat().st_mtime_ns
    assert run_recipe(replace(parts, resume=True)) == parts.model
    assert parts.model.stat().st_mtime_ns == made_at


def test_vectors_and_counts_keep_their_precision() -> None:
    tensors = {"kernel": torch.ones(2, 2), "variance": torch.full((2,), 1e-9), "batches": torch.tensor(7)}
    files = {
        "config.json": tiny_model().files["config.json"],
        **dict.fromkeys(("generator.safetensors", "discriminator.safetensors"), save(tensors)),
    }
    finished = finished_files(files, 0.5)
    assert json.loads(finished["config.json"])["truncation"] == 0.5
    halved = {name: torch.float16 if name == "kernel" else value.dtype for name, value in tensors.items()}
    found = load(finished["generator.safetensors"])
    assert {name: value.dtype for name, value in found.items()} == halved
    assert all(torch.equal(value.to(tensors[name].dtype), tensors[name]) for name, value in found.items())


def test_weights_too_large_for_half_precision_are_an_error() -> None:
    weights = save({"kernel": torch.full((2, 2), 1e6)})
    files = {**tiny_model().files, "generator.safetensors": weights, "discriminator.safetensors": weights}
    with pytest.raises(
        RunFailed, match=r"generator\.safetensors holds numbers that are too large for half precision"
    ):
        finished_files(files, 1.0)
