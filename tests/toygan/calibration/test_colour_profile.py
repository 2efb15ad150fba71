"""A model is given other colours, so that it shows those of the catalog."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.color import lab2rgb
from torch import Tensor, nn

from tests.models import BATCH, CATEGORIES, COLOURS, CPU, products, tiny_model, tiny_with_layouts
from tests.shards import photo_row, training_skus, write_shard
from toygan.artifact.calibration import Calibration
from toygan.artifact.colour_profile import ColourProfile
from toygan.artifact.load import load_model
from toygan.artifact.model import GeneratedBatch, Model
from toygan.calibration import calibrate as calibrate_module
from toygan.calibration.calibrate import CalibrationSamples, calibrate, calibrate_model, score_photos
from toygan.calibration.colour_profile import fit_profile
from toygan.conditions.colour import encode_colours
from toygan.conditions.product import ProductConditions
from toygan.data.photos import PhotoSet, load_photos
from toygan.data.split import is_calibration_sku
from toygan.models.layers import ConditionalGenerator, Conditions

# Cars are shown 10 L* lighter and 5 b* bluer than given.
PROFILE = ColourProfile(
    shifts={"car": ((0.2, 0.0, -0.1), *((0.0,) * 3,) * 3)}, ranges={"car": ((-4.0,) * 3, (4.0,) * 3)}
)
GREYS = ("#606060", "#808080", "#405060")


class Shows(ConditionalGenerator):
    """A square of the given colour on white, lighter by `lighter` L* in each category; NaN: always black."""

    latent_size = 4

    def __init__(self, *lighter: float) -> None:
        super().__init__()
        self.lighter = torch.tensor(lighter)

    def forward(self, latents: Tensor, conditions: Conditions) -> Tensor:
        lab = conditions["colour"][:, :3] * 50
        lab[:, 0] += 50 + self.lighter[conditions["category"]]
        colour = torch.from_numpy(lab2rgb(lab.nan_to_num().numpy())).float() * 2 - 1
        colour[self.lighter[conditions["category"]].isnan()] = -1
        images = torch.ones(len(latents), 3, 32, 32)
        images[:, :, 8:24, 8:24] = colour[:, :, None, None]
        return images


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bricks and cars in three colours, some of them to calibrate with, and a wheel of no colour."""
    calibrating = [sku for sku in (f"sku-{number}" for number in range(300)) if is_calibration_sku(sku)][:12]
    rows = [
        photo_row(sku, CATEGORIES[number % 2], GREYS[number % 3])
        for number, sku in enumerate([*calibrating, *training_skus(24)])
    ]
    rows.append(photo_row(training_skus(25)[-1], "wheel", colour_hex=None))  # type: ignore[arg-type]
    return write_shard(tmp_path_factory.mktemp("photos"), rows)


@pytest.fixture(scope="module")
def photos(shards: Path) -> PhotoSet:
    return load_photos(shards, resolution=32, split="train", categories=CATEGORIES)


def showing(*lighter: float) -> Model:
    return replace(tiny_model().load(), generator=Shows(*lighter), colour_profile=None)


def told_to(network: nn.Module) -> list[Conditions]:
    """The conditions that the network will be given, in their order."""
    seen: list[Conditions] = []
    network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1]))
    return seen


# drawing


def test_both_networks_are_given_the_corrected_colours() -> None:
    plain = tiny_model(accent_colour="teal").load()
    model = replace(plain, colour_profile=PROFILE)
    wanted = [
        ProductConditions(category="car", colour_hex="#808080", accent_hexes=["#008080"]),
        ProductConditions(category="car", accent_hexes=["#008080"]),
        ProductConditions(category="brick", colour_hex="#808080"),
    ]
    seen = [told_to(model.generator), told_to(model.discriminator)]
    sampled = model.generate([1, 2, 3], wanted, BATCH)
    ((generators,), (discriminators,)) = seen
    assert generators.keys() == discriminators.keys()
    assert all(torch.equal(value, discriminators[name]) for name, value in generators.items())
    grey, teal = encode_colours(["#808080", "#008080"])
    excess, nothing = torch.tensor([0.2, 0.0, -0.1, 0.0]), torch.zeros(4)
    named = torch.stack([torch.stack(each) for each in ([grey, teal], [nothing, teal], [grey, nothing])])
    assert torch.equal(generators["named_colours"][:3], named)
    colours = torch.stack([grey - excess, nothing, grey])
    torch.testing.assert_close(generators["colour"][:3], colours)
    torch.testing.assert_close(
        generators["accents"][:3], torch.stack([teal - excess, teal - excess, nothing])
    )
    before = plain.generate([1, 2, 3], wanted, BATCH)
    changed = (sampled.pixels != before.pixels).any(axis=(1, 2, 3))
    assert changed.tolist() == [True, True, False]
    assert sampled.logits[2] == before.logits[2]


def test_without_a_profile_nothing_is_corrected() -> None:
    model = tiny_model().load()
    assert model.colour_profile is None
    seen = told_to(model.generator)
    model.generate([1], products("car", [COLOURS[0]]), BATCH)
    assert seen[0].keys() == {"category", "colour"}
    assert torch.equal(seen[0]["colour"][:1], encode_colours([COLOURS[0]]))


def test_photos_are_scored_with_the_colours_that_they_show(photos: PhotoSet) -> None:
    model = replace(tiny_model().load(), colour_profile=PROFILE)
    seen = told_to(model.discriminator)
    score_photos(model, photos, range(BATCH), BATCH)
    assert torch.equal(seen[0]["colour"], photos.colour[:BATCH])
    assert "named_colours" not in seen[0]


def test_layout_bank_are_those_of_the_products_own_colours() -> None:
    plain = tiny_with_layouts().load()
    model = replace(plain, colour_profile=PROFILE)
    seen = told_to(model.generator)  # of both
    wanted = products("car", ["#B40000", "#1E5AA8"])
    sampled = [each.generate([5, 5], wanted, BATCH).pixels for each in (plain, model)]
    assert torch.equal(seen[0]["layout"], seen[1]["layout"])
    assert (sampled[0] != sampled[1]).any(axis=(1, 2, 3)).all()


def test_it_is_loaded_with_the_calibration() -> None:
    files = tiny_model()
    calibration = replace(Calibration.from_json(files.files["calibration.json"]), colour_profile=PROFILE)
    profiled = files.with_files(calibration=calibration.to_json().encode())
    assert profiled.load().colour_profile == PROFILE
    assert profiled.version != files.version
    assert files.with_files(calibration=None).load().colour_profile is None


# fitting


def test_a_shift_is_kept_where_the_shown_colour_comes_nearer(photos: PhotoSet) -> None:
    """Bricks are 15 L* too light, which is 0.3 in units of 50; cars are always black."""
    profile = fit_profile(showing(15, torch.nan, 15), photos, BATCH, pictures=32)
    assert profile is not None
    assert profile.shifts.keys() == profile.errors.keys() == {"brick"}
    grey = encode_colours(["#808080"]).numpy()[None]
    np.testing.assert_allclose((grey - profile.correct(grey, ["brick"]))[0, 0], [0.3, 0, 0, 0], atol=0.01)
    before, after = profile.errors["brick"]
    assert before > 12
    assert after < 1


def test_a_generator_that_does_not_heed_colours_gets_none(photos: PhotoSet) -> None:
    model = showing(*[torch.nan] * 3)
    assert fit_profile(model, photos, BATCH, pictures=32) is None
    assert (
        calibrate(
            model, photos, batch_size=BATCH, samples=CalibrationSamples(generated=20, profiled=32)
        ).colour_profile
        is None
    )


def test_later_pictures_are_generated_with_the_profile(
    photos: PhotoSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever profile the model had before."""
    model, used = showing(15, 0, 0), []
    draw = Model.generate

    def seen(model: Model, seeds: Sequence[int], wanted: Any, size: int) -> GeneratedBatch:
        used.append(model.colour_profile)
        return draw(model, seeds, wanted, size)

    monkeypatch.setattr(Model, "generate", seen)
    found = calibrate(
        replace(model, colour_profile=PROFILE),
        photos,
        batch_size=BATCH,
        samples=CalibrationSamples(generated=8, profiled=32),
    )
    assert found.colour_profile is not None
    assert "brick" in found.colour_profile.shifts
    assert used[-6:] == [found.colour_profile] * 6  # two rounds of three categories
    assert PROFILE not in used
    assert found == calibrate(
        model, photos, batch_size=BATCH, samples=CalibrationSamples(generated=8, profiled=32)
    )


@pytest.mark.slow
def test_the_command_says_what_it_did(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(source: Any, device: torch.device) -> Model:
        return replace(load_model(source, device), generator=Shows(15, torch.nan, 0))

    monkeypatch.setattr(calibrate_module, "load_model", load)
    folder = tiny_model().write(tmp_path / "toys")
    lines = list(calibrate_model(str(folder), photos=shards, store_uri=None, device=CPU))
    profile = Calibration.from_json((folder / "calibration.json").read_bytes()).colour_profile
    assert profile is not None
    before, after = profile.errors["brick"]
    assert lines[1].endswith(f"; median colour error {before:.1f} -> {after:.1f} by the colour profile")
    assert "colour" not in lines[2]
