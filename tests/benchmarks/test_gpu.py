"""The recipes for a GPU run; how long they take there is reckoned from two steps here, not measured."""

import pytest
import torch

from tests.benchmarks.bundled import Stage
from tests.benchmarks.gpu import RECIPES, TEXT_SIZE, Assumptions, config_of, flops_per_image
from toygan.models import network_config


@pytest.mark.parametrize("stage", RECIPES, ids=[each.config for each in RECIPES])
def test_a_recipe_is_as_long_as_its_rates_decay(stage: Stage) -> None:
    config = config_of(stage)
    assert config.resolution in (256, 512)
    assert config.lr_decay_images == stage.images


@pytest.mark.slow
@pytest.mark.parametrize("stage", RECIPES[::2], ids=[each.config for each in RECIPES[::2]])
def test_a_recipe_of_256_pixels_runs_and_says_how_long_it_is(stage: Stage) -> None:
    torch.manual_seed(0)
    assert 10e9 < flops_per_image(config_of(stage)) < 1e12


def test_512_pixels_grow_from_256() -> None:
    smaller, larger = (config_of(each) for each in RECIPES if each.family == "projected")
    networks = [
        network_config(each.family, each.network_options(categories=10, text_size=TEXT_SIZE))
        for each in (smaller, larger)
    ]
    assert networks[1].grows_from(networks[0])


def test_hours_by_hand() -> None:
    """100 TFLOPS at a tenth of the peak: 10 TFLOP a second, 36 PFLOP an hour."""
    assert Assumptions(peak_tflops=100, utilisation=0.1).hours(72e15) == pytest.approx(2)
