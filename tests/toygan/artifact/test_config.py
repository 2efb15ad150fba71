"""The config of a model, which only `ModelConfig` reads and writes."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.models import CATEGORIES, changed_config, tiny_model
from toygan.artifact.config import ModelConfig, categories_in, config_of
from toygan.artifact.files import CONFIG, ENHANCER_CONFIG
from toygan.conditions.colour_names import ColourNames
from toygan.conditions.text_config import TextConfig
from toygan.errors import ModelError
from toygan.models import network_config
from toygan.registry.models import bundled_models, read_bundled

FULL = ModelConfig(
    family="spade",
    networks=network_config("spade", {"categories": 2, "resolution": 32, "text_size": 6, "lines": True}),
    categories=("积木", "car"),
    text=TextConfig(whole_titles=True, colour_names=ColourNames(hexes={"red": "#B40000"})),
    text_encoder={"name": "reader", "identity": "0"},
    text_smoothing=0.1,
    layout_bank=0.2,
    truncation=0.5,
    credit="me",
    first_stages=("one@1",),
    training={"images_seen": 5},
)


def test_a_config_is_read_as_it_was_written() -> None:
    assert ModelConfig.from_json(FULL.to_json(), "x") == FULL
    plain = config_of(tiny_model())
    assert ModelConfig.from_json(plain.to_json(), "x") == plain


@pytest.mark.parametrize("name", bundled_models())
def test_the_configs_of_bundled_models_are_written_as_they_are(name: str) -> None:
    files = read_bundled(name).files
    for file in {CONFIG, ENHANCER_CONFIG} & files.keys():
        config = ModelConfig.from_json(files[file], file)
        written, kept = json.loads(config.to_json()), json.loads(files[file])
        if config.enlarges:
            kept["network"].setdefault("deep_head", False)  # the option is younger than some of the files
        assert written == kept | {"truncation": config.truncation}


def test_a_config_says_what_a_model_needs_and_can_do() -> None:
    assert (FULL.networks.image_condition, FULL.required_condition) == ("layout", None)
    assert replace(FULL, layout_bank=None).required_condition == "layout"
    assert FULL.networks.lines
    sketch = network_config("pix2pix", {"categories": 2, "layout_classes": 5})
    assert sketch.predicts_layouts
    assert not FULL.networks.predicts_layouts
    enhancer = network_config("enhancer", {"categories": 2, "resolution": 512})
    assert enhancer.needs_small_picture
    assert not sketch.needs_small_picture


def test_categories_are_read_without_the_networks() -> None:
    assert categories_in(tiny_model().files[CONFIG], "x") == CATEGORIES
    with pytest.raises(
        ModelError, match="here does not describe a model: its options: family: Field required"
    ):
        categories_in(b"{}", "here")


def test_an_enhancer_is_no_model_that_generates_by_itself() -> None:
    networks = network_config("enhancer", {"categories": 1, "resolution": 512})
    config = ModelConfig(family="enhancer", networks=networks, categories=("any",))
    model = tiny_model().with_files(config=config.to_json())
    assert config_of(model, may_enlarge=True) == config
    with pytest.raises(ModelError, match="it is an enhancer, which only enlarges"):
        config_of(model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour_names": {"red": "scarlet"}}, "colour_names: .*scarlet"),
        ({"text_encoder": {"name": "reader"}}, "text_encoder and a text_size above 0 go together"),
        ({"truncation": 1.5}, r"truncation is 1\.5; it must lie from 0 to 1"),
        ({"trunkation": 1.0}, "no option trunkation; known are family, resolution"),
        ({"whole_titles": ...}, "whole_titles: Field required"),
    ],
)
def test_values_that_do_not_fit_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=f"x does not describe a model: .*{message}"):
        ModelConfig.from_json(changed_config(tiny_model(), **changes), "x")
