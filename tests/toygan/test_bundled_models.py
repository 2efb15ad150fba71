"""What every model that comes with the package has, the real files looked at."""

import json
from importlib import resources

import pytest

from tests.models import CPU
from toygan.artifact.files import CONFIG
from toygan.artifact.load import load_model
from toygan.registry.models import bundled_models, resolve

NAMES = bundled_models()


@pytest.mark.slow
def test_there_is_one_for_each_thing_to_draw_from() -> None:
    generated_from = [load_model(resolve(name, None), CPU).image_condition for name in NAMES]
    assert sorted(map(str, generated_from)) == ["None", "layout", "photo", "sketch"]


@pytest.mark.parametrize("name", NAMES)
def test_it_names_whom_it_owes_and_is_described(name: str) -> None:
    """The photos' licence asks for it: CC BY 4.0."""
    credit = json.loads(resolve(name, None).files[CONFIG])["credit"]
    assert "LDraw Parts Library" in credit
    assert "CC BY 4.0" in credit
    card = (resources.files("toygan") / "pretrained" / name / "model_card.md").read_text()
    assert card.startswith(f"# {name}\n")
    assert "CC BY 4.0" in card


@pytest.mark.parametrize("name", NAMES)
def test_it_is_calibrated_with_a_probe(name: str) -> None:
    model = load_model(resolve(name, None), CPU)
    calibration = model.require_calibration()
    assert calibration.probe is not None
    assert model.probe is not None
    assert set(calibration.categories) == set(model.categories)


def test_together_they_are_small_enough_to_be_installed() -> None:
    sizes = [len(content) for name in NAMES for content in resolve(name, None).files.values()]
    assert sum(sizes) < 60_000_000
