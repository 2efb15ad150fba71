"""Loads the files of models, and refuses others."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from tests.models import (
    CATEGORIES,
    COLOURS,
    CPU,
    MakesAFolder,
    TinyFiles,
    changed_config,
    tiny_model,
)
from tests.toygan.artifact.small_models import model as model
from toygan.artifact import load as load_module
from toygan.artifact.calibration import Calibration
from toygan.artifact.config import ModelConfig
from toygan.artifact.load import load_model, read_scope
from toygan.artifact.model import Model
from toygan.artifact.probe_weights import BACKBONE, ProbeWeights
from toygan.conditions.colour import encode_colours
from toygan.errors import ModelError
from toygan.models import build
from toygan.registry.models import resolve

# loading


def test_a_loaded_model_computes_what_its_networks_do(model: Model) -> None:
    """Spectral normalisation is folded into the weights."""
    files = tiny_model().files
    config = json.loads(files["config.json"])
    _, discriminator = build(config["family"], config["network"])
    discriminator.load_state_dict(load(files["discriminator.safetensors"]))
    discriminator.eval()
    images = torch.rand((4, 3, 32, 32), generator=torch.Generator().manual_seed(1)) * 2 - 1
    conditions = {"category": torch.tensor([0, 1, 2, 0]), "colour": encode_colours(list(COLOURS[:4]))}
    with torch.inference_mode():
        wanted = discriminator(images, conditions)
        assert torch.allclose(model.discriminator(images, conditions), wanted, atol=1e-5)
    assert not any("parametrizations" in name for name, _ in model.discriminator.named_parameters())
    assert not any(weight.requires_grad for weight in model.discriminator.parameters())
    assert not model.generator.training
    assert not model.discriminator.training


def test_loading_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    files = tiny_model()
    files.load()
    probe = ProbeWeights(backbone=BACKBONE, weights=(0.0,) * 320, intercept=0.0)
    probed = replace(Calibration.from_json(files.files["calibration.json"]), probe=probe)
    files.with_files(calibration=probed.to_json().encode()).load()
    assert torch.equal(before, torch.random.get_rng_state())


def config_with(**changes: Any) -> bytes:
    return changed_config(tiny_model(), **changes)


NETWORK = json.loads(tiny_model().files["config.json"])["network"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (b"", "is not JSON"),
        (b"\x80\x04", "is not JSON"),
        (b"[]", "is a JSON list, not an object"),
        (config_with(family="vae"), "unknown model family 'vae'"),
        (config_with(family=["dcgan"]), "does not describe a model"),
        (config_with(network=...), "network: Field required"),
        (config_with(network=[1]), "does not describe a model"),
        (config_with(network={**NETWORK, "layers": 3}), "no option layers"),
        (config_with(network={**NETWORK, "latent_size": "16"}), "latent_size"),
        (config_with(network={**NETWORK, "categories": 4}), "names 3 categories, but its networks have 4"),
        (config_with(categories=["brick"]), "names 1 categories, but its networks have 3"),
        (config_with(categories="abc"), "categories: Input should be a valid array"),
        (config_with(categories=[1, 2, 3]), "categories.0: Input should be a valid string"),
        (config_with(resolution=64), "its resolution is 64, but its networks have 32"),
        (config_with(truncation="much"), "truncation: Input should be a valid number"),
    ],
)
def test_a_config_that_describes_no_model_is_refused(config: bytes, said: str) -> None:
    with pytest.raises(ModelError, match=f"(?s)config.json of the model tiny.*{said}"):
        tiny_model().with_files(config=config).load()


def truncated(data: bytes) -> bytes:
    return data[:-100]


def without_a_tensor(data: bytes) -> bytes:
    tensors = load(data)
    tensors.pop(sorted(tensors)[0])
    return save(tensors)


def of_other_shapes(data: bytes) -> bytes:
    return save({name: torch.zeros((*tensor.shape, 2)) for name, tensor in load(data).items()})


@pytest.mark.parametrize("network", ["generator", "discriminator"])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (truncated, "cannot be read"),
        (lambda data: b"", "cannot be read"),
        (lambda data: None, "cannot be read"),
        (without_a_tensor, "the weights do not fit the model: .*found nothing"),
        (of_other_shapes, r"the weights do not fit the model: .*found \(.*2\), wanted \(.*and \d+ more"),
        (lambda data: save({"more": torch.zeros(1)} | load(data)), "more: found .1,., wanted nothing"),
    ],
    ids=["truncated", "empty", "missing", "a tensor is missing", "other shapes", "a tensor too many"],
)
def test_weights_that_do_not_fit_are_refused(
    network: str, damage: Callable[[bytes], bytes | None], said: str
) -> None:
    model = tiny_model()
    damaged = model.with_files(**{network: damage(model.files[f"{network}.safetensors"])})
    with pytest.raises(ModelError, match=f"(?s){network}.safetensors of the model tiny.*{said}"):
        damaged.load()


@pytest.mark.parametrize("file", ["generator", "discriminator", "config", "calibration"])
@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_a_pickle_is_refused_without_being_loaded(tmp_path: Path, file: str, how: str) -> None:
    bait = tmp_path / "somebody-was-here"
    path = tmp_path / "weights"
    if how == "pickle":
        path.write_bytes(pickle.dumps(MakesAFolder(bait)))
        pickle.loads(path.read_bytes())
    else:
        torch.save(MakesAFolder(bait), path)
        torch.load(path, weights_only=False)
    assert bait.is_dir()  # the trap works
    bait.rmdir()
    hostile = tiny_model().with_files(**{file: path.read_bytes()})
    with pytest.raises(ModelError):
        load_model(hostile, CPU)
    with pytest.raises(ModelError):
        resolve(str(hostile.write(tmp_path / "hostile")), None)
    assert not bait.exists()


def test_a_calibration_has_to_know_every_category() -> None:
    model = tiny_model()
    known = json.loads(model.files["calibration.json"])
    del known["categories"]["car"], known["categories"]["wheel"]
    with pytest.raises(ModelError, match="not calibrated for car, wheel; run `toygan calibrate`"):
        model.with_files(calibration=json.dumps(known).encode()).load().require_calibration()
    with pytest.raises(ModelError, match="the model tiny is not calibrated; run `toygan calibrate`"):
        model.with_files(calibration=None).load().require_calibration()
    assert set(model.load().require_calibration().categories) == set(CATEGORIES)


@pytest.mark.parametrize("cache", ["cache", "file/cache"])
def test_a_good_version_is_checked_once_a_machine(
    cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the cache cannot be written, it is checked each time."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))
    good = tiny_model()
    bad = good.with_files(generator=tiny_model(categories=("car",)).files["generator.safetensors"])
    checked = []
    check = load_module._check

    def count(source: TinyFiles, config: ModelConfig) -> None:
        checked.append(source.version)
        check(source, config)

    monkeypatch.setattr(load_module, "_check", count)
    assert read_scope(good) == read_scope(good)
    for _ in range(2):
        with pytest.raises(ModelError):
            read_scope(bad)
    times = 1 if cache == "cache" else 2
    assert checked == [good.version] * times + [bad.version] * 2
