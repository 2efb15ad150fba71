from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from tests.toygan.training.enhancer_pairs import NETWORK, synthetic, write_drawn_bricks
from toygan.artifact.config import ModelConfig
from toygan.artifact.files import CONFIG, read_folder
from toygan.images import to_uint8
from toygan.models.enhancer import EnhancerConfig, Generator
from toygan.training import white_ground
from toygan.training.pairs import PhotoPairs, Source
from toygan.training.recipe import read_recipe
from toygan.training.run_recipe import RecipeRun, run_recipe
from toygan.training.white_ground import BIAS, FIRST_WHITE, white_shift, with_white_ground

CPU = torch.device("cpu")
SOURCES = (Source(layout=True), Source(is_photo=True))


def enhancer() -> Generator:
    """A new one enlarges pictures plainly."""
    torch.manual_seed(0)
    return Generator(EnhancerConfig(categories=1, resolution=64, **NETWORK)).eval()


def photos(*, white: float, small: Tensor | int) -> PhotoPairs:
    """Two photos whose upper rows are pure white; the first stage's small pictures have the value `small`."""
    pairs = synthetic(SOURCES)
    images = torch.full_like(pairs.images, 200)
    images[:, :, : round(64 * white)] = 255
    shown = pairs.small.clone()
    shown[:, 0] = small
    shown[:, 1] = 100
    return replace(pairs, images=images, small=shown)


def test_white_is_lifted_until_it_is_as_white_as_in_the_photos() -> None:
    """Everywhere 250 of 255, while half of the photos' border is white."""
    shift = white_shift(enhancer(), photos(white=0.5, small=250), CPU)
    assert shift == pytest.approx((254.5 - 250) / 127.5, abs=1e-5)


def test_as_much_of_the_border_is_white_as_in_the_photos() -> None:
    levels = torch.linspace(240, 254, 32).round().byte()
    pairs = photos(white=0.5, small=levels[:, None].expand(32, 32))
    generator = enhancer()
    assert generator.to_rgb.bias is not None
    with torch.no_grad():
        generator.to_rgb.bias += white_shift(generator, pairs, CPU)
        small = pairs.small[:1, 0].float() / 127.5 - 1
        picture = torch.from_numpy(to_uint8(generator(torch.zeros(1, 0), {"small": small})))[0]
    border = torch.cat([picture[0], picture[-1], picture[1:-1, 0], picture[1:-1, -1]])
    assert (border == 255).all(dim=1).float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_two_first_stages_are_served_equally_well() -> None:
    """One has a border of 254, the other of 250: none is white before, and then all of the first."""
    pairs = photos(white=0.5, small=254)
    small = torch.cat(
        [pairs.small[:, :1], torch.full_like(pairs.small[:, :1], 250), pairs.small[:, 1:]], dim=1
    )
    both = replace(pairs, small=small, sources=(SOURCES[0], *SOURCES))
    shift = white_shift(enhancer(), both, CPU)
    assert shift == pytest.approx((254.5 - 254) / 127.5, abs=1e-4)


@pytest.mark.parametrize("white", [0.0, 1.0])
def test_photos_that_are_white_everywhere_or_nowhere_say_nothing(white: float) -> None:
    assert white_shift(enhancer(), photos(white=white, small=250), CPU) == 0


def test_without_a_first_stage_the_downscaled_photos_count() -> None:
    pairs = photos(white=0.5, small=250)
    alone = replace(pairs, small=pairs.small[:, 1:], sources=SOURCES[1:])
    assert white_shift(enhancer(), alone, CPU) == pytest.approx(FIRST_WHITE - (100 / 127.5 - 1), abs=1e-5)


def test_only_the_last_bias_of_the_files_changes() -> None:
    config = EnhancerConfig(categories=1, resolution=64, **NETWORK)
    files = {
        CONFIG: ModelConfig(family="enhancer", networks=config, categories=("brick",)).to_json(),
        "generator.safetensors": save(enhancer().state_dict()),
        "discriminator.safetensors": b"other",
    }
    pairs = photos(white=0.5, small=250)
    changed = with_white_ground(files, pairs, CPU)
    assert {name for name in files if files[name] != changed[name]} == {"generator.safetensors"}
    before, after = (load(each["generator.safetensors"]) for each in (files, changed))
    assert {name for name in before if not torch.equal(before[name], after[name])} == {BIAS}
    shift = white_shift(enhancer(), pairs, CPU)
    torch.testing.assert_close(after[BIAS], before[BIAS] + shift)


RECIPE = """
family = "enhancer"
[settings]
resolution = 64
network = { small_resolution = 32, generator_channels = 4, generator_blocks = 1, discriminator_channels = 4 }
optimizer = { precision = "fp32" }
data = { batch_size = 4, crop = 32 }
[[stages]]
name = "only"
images = 4
"""


@pytest.mark.slow
def test_the_recipe_of_an_enhancer_ends_with_the_white_ground(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.toml").write_text(RECIPE)
    photos_uri = str(write_drawn_bricks(tmp_path / "photos"))
    recipe = read_recipe(str(tmp_path / "own.toml"))
    monkeypatch.setattr(white_ground, "white_shift", lambda *_: 0.25)
    made = run_recipe(RecipeRun(recipe=recipe, photos_uri=photos_uri, output=tmp_path / "made", device=CPU))
    assert made is not None
    trained, final = (
        load(read_folder(folder)["generator.safetensors"]) for folder in (tmp_path / "made/only/model", made)
    )
    torch.testing.assert_close(final[BIAS], trained[BIAS] + 0.25)
