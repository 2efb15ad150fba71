"""The recipes for a GPU run; how long they take there is reckoned from two steps here, not measured."""

import pytest
import torch

from tests.benchmarks.gpu import Assumptions, flops_per_image, stages
from toygan.training.recipe import Stage

STAGES = dict(stages())


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_a_recipe_is_as_long_as_its_rates_decay(stage: Stage) -> None:
    assert stage.config.resolution in (256, 512)
    assert stage.config.schedule.lr_decay_images == stage.images


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, stage in STAGES.items() if stage.config.resolution == 256])
def test_a_recipe_of_256_pixels_runs_and_says_how_long_it_is(name: str) -> None:
    torch.manual_seed(0)
    assert 10e9 < flops_per_image(STAGES[name].config) < 1e12


def test_hours_by_hand() -> None:
    """100 TFLOPS at a tenth of the peak: 10 TFLOP a second, 36 PFLOP an hour."""
    assert Assumptions(peak_tflops=100, utilisation=0.1).hours(72e15) == pytest.approx(2)
