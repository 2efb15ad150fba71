import json
from pathlib import Path
from typing import Final

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.models import tiny_model
from tests.toygan.training.enhancer_pairs import NETWORK, synthetic, write_drawn_bricks
from tests.toygan.training.tiny import changed, tiny
from toygan.artifact.files import ModelFiles
from toygan.conditions.condition_types import ImageCondition
from toygan.data.photos import PhotoSet
from toygan.errors import BadInput
from toygan.models.enhancer import EnhancerConfig
from toygan.training import first_stage
from toygan.training.batches import step_rng
from toygan.training.checks import check_config
from toygan.training.choose import choose_config
from toygan.training.first_stage import load_pairs
from toygan.training.limits import Limits
from toygan.training.pairs import SHIFT, PhotoPairs, Source, draw_pairs
from toygan.training.state import start
from toygan.training.step import train_step
from toygan.training.train import train

CPU = torch.device("cpu")
CONDITION_TYPES: Final[tuple[ImageCondition, ...]] = ("layout", "sketch")
CONFIG = tiny(family="enhancer", resolution=64, network=NETWORK, loss="relativistic", l1_weight=1.0, crop=32)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_drawn_bricks(tmp_path_factory.mktemp("shards"))


def first_stages() -> list[ModelFiles]:
    tiny = [tiny_model(family) for family in ("spade", "pix2pix")]
    return [ModelFiles(name=each.name, version=each.version, files=each.files) for each in tiny]


def pairs(shards: Path, kept: Path, models: list[ModelFiles]) -> PhotoPairs:
    networks = EnhancerConfig(categories=1, resolution=64, **NETWORK)
    return load_pairs(shards, networks, models, keep_sku=lambda sku: True, seed=0, device=CPU, kept=kept)


def batches(photos: PhotoPairs, count: int = 40) -> list[dict[str, Tensor]]:
    rng = torch.Generator().manual_seed(0)
    generated = [draw_pairs(photos, torch.tensor([0, 1]), CONFIG, rng) for _ in range(count)]
    return [each.conditions | {"real": each.real} for each in generated]


def test_a_batch_holds_crops_of_all_that_belongs_together() -> None:
    photos = synthetic((Source(is_photo=True),))
    for batch in batches(photos, 4):
        assert batch["real"].shape == (2, 3, 32, 32)
        assert batch["small"].shape == (2, 3, 16, 16)
        assert batch["layout"].shape == (2, 32, 32)
        assert batch["sketch"].shape == (2, 1, 32, 32)
        assert batch["layout"].dtype == torch.int64


def test_crops_lie_over_their_small_pictures_mirrored_or_not() -> None:
    """Photo and small picture are the same picture here, so a crop made small is the small crop."""
    photos = synthetic((Source(layout=True), Source(is_photo=True)))
    small = photos.images.float().view(2, 3, 32, 2, 32, 2).mean(dim=(3, 5)).round().byte()
    photos = PhotoPairs(**{**vars(photos), "small": small[:, None].expand(-1, 2, -1, -1, -1)})
    generated = [
        draw_pairs(photos, torch.tensor([0]), CONFIG, torch.Generator().manual_seed(n)) for n in range(12)
    ]
    near = [
        (each.real.view(1, 3, 16, 2, 16, 2).mean(dim=(3, 5)) - each.conditions["small"]).abs().max() < 0.01
        for each in generated
    ]
    assert sum(near) >= 6  # two thirds are of the first stage; the others were made worse


def test_most_crops_show_the_product() -> None:
    shown = [(each["layout"] > 0).any().item() for each in batches(synthetic((Source(layout=True),) * 2))]
    assert sum(shown) > 30


@pytest.mark.parametrize(
    ("source", "layout", "lines"),
    [
        (Source(layout=True, lines=True), True, True),
        (Source(lines=True), False, True),
        (Source(layout=True), True, False),
    ],
)
def test_a_picture_comes_with_its_own_drawings_alone(source: Source, layout: bool, lines: bool) -> None:
    photos = synthetic((source, source))
    photos = PhotoPairs(**{**vars(photos), "lines": torch.zeros(2, 64, 64, dtype=torch.uint8)})
    for batch in batches(photos, 8):
        assert (batch["sketch"] == (-1 if lines else 1)).all()
        assert layout or not batch["layout"].any()


def test_drawings_are_withheld_from_some_photos() -> None:
    photos = synthetic((Source(is_photo=True),))
    photos = PhotoPairs(**{**vars(photos), "lines": torch.zeros(2, 64, 64, dtype=torch.uint8)})
    blank = torch.cat([(each["sketch"] > 0).flatten(1).all(1) for each in batches(photos)])
    assert 8 <= int(blank.sum()) <= 34  # a quarter of 80


def test_the_discriminator_gets_its_pictures_moved_a_little() -> None:
    drawn = draw_pairs(synthetic((Source(layout=True),) * 2), torch.arange(2), CONFIG, step_rng(0, 0))
    moved = [each.of_pictures(drawn.real) for each in drawn.augmentations]
    assert any(not torch.equal(each, drawn.real) for each in moved)
    assert all(each.shifts.abs().max() <= SHIFT for each in drawn.augmentations)
    assert not any(each.cuts.any() for each in drawn.augmentations)


def test_batches_are_functions_of_their_random_numbers() -> None:
    photos = synthetic((Source(layout=True), Source(is_photo=True)))
    for one, other in zip(batches(photos, 3), batches(photos, 3), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_first_stages_draw_every_photo_from_its_own_drawings(shards: Path, tmp_path: Path) -> None:
    found = pairs(shards, tmp_path / "small", first_stages())
    assert found.small.shape == (8, 3, 3, 32, 32)
    assert found.sources == (Source(layout=True), Source(lines=True), Source(is_photo=True))
    assert not torch.equal(found.small[:, 0], found.small[:, 1])
    given = found.conditions(torch.tensor([0, 3]))
    assert given["small"].shape == (2, 3, 32, 32)
    assert "layout" in given
    assert "sketch" not in given


def test_generated_pictures_are_kept(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = pairs(shards, tmp_path / "small", first_stages())
    generated: list[PhotoSet] = []
    monkeypatch.setattr(first_stage, "generate_small", lambda model, photos, *rest: generated.append(photos))
    after = pairs(shards, tmp_path / "small", first_stages())
    assert torch.equal(before.small, after.small)
    assert before.sha256 == after.sha256
    assert not generated


def test_pictures_of_other_models_are_generated_anew(shards: Path, tmp_path: Path) -> None:
    both = pairs(shards, tmp_path / "small", first_stages())
    alone = pairs(shards, tmp_path / "small", first_stages()[1:])
    assert torch.equal(alone.small[:, 1], both.small[:, 2])
    assert both.sha256 != alone.sha256


def test_a_model_that_draws_from_no_image_is_refused(shards: Path, tmp_path: Path) -> None:
    tiny = tiny_model()
    model = ModelFiles(name=tiny.name, version=tiny.version, files=tiny.files)
    with pytest.raises(BadInput, match="does not generate from layouts or sketches"):
        pairs(shards, tmp_path / "small", [model])


def test_a_model_of_other_pixels_is_refused(shards: Path, tmp_path: Path) -> None:
    networks = EnhancerConfig(categories=1, resolution=64, **NETWORK | {"small_resolution": 16})
    with pytest.raises(
        BadInput, match="generates pictures of 32 pixels, but the enhancer enlarges pictures of 16"
    ):
        load_pairs(
            shards,
            networks,
            first_stages(),
            keep_sku=lambda sku: True,
            seed=0,
            device=CPU,
            kept=tmp_path / "small",
        )


def run(shards: Path, output: Path, *, max_images: int, resume: bool = False) -> Path:
    return train(
        photos_uri=shards,
        output=output,
        config=CONFIG,
        device=CPU,
        limits=Limits(max_images=max_images),
        resume=resume,
        first_stages=first_stages(),
    )


@pytest.mark.slow
def test_a_resumed_enhancer_ends_as_an_undisturbed_one(shards: Path, tmp_path: Path) -> None:
    whole = run(shards, tmp_path / "whole", max_images=32)
    run(shards, tmp_path / "parts", max_images=16)
    parts = run(shards, tmp_path / "parts", max_images=32, resume=True)
    for name in ("generator.safetensors", "discriminator.safetensors", "config.json"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes()
    config = json.loads((whole / "config.json").read_text())
    assert config["first_stages"] == [f"{each.name}@{each.version}" for each in first_stages()]
    with Image.open(tmp_path / "whole" / "grids" / "0000000032.png") as grid:
        assert grid.size == (64, 3 * 64)  # of one category: small, enlarged, photo


def test_first_stages_are_for_enhancers_alone(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="only enhancers have first stages; the family dcgan has none"):
        train(
            photos_uri=shards,
            output=tmp_path,
            config=tiny(),
            device=CPU,
            limits=Limits(max_images=4),
            first_stages=first_stages(),
        )


@pytest.mark.parametrize("crop", [31, 128])
def test_crops_that_do_not_fit_are_refused(crop: int) -> None:
    with pytest.raises(BadInput, match=f"crop is {crop}; it must be a multiple of 2 and at most 64"):
        check_config(changed(CONFIG, crop=crop))


def test_crops_too_small_for_patches_of_detail_are_refused() -> None:
    for option in ("detail_weight", "detail_energy_weight"):
        assert check_config(changed(CONFIG, crop=22, **{option: 1.0}))
        with pytest.raises(BadInput, match=rf"{option} is 1\.0; it needs .* at least 22 pixels .* have 20"):
            check_config(changed(CONFIG, crop=20, **{option: 1.0}))


@pytest.mark.slow
@pytest.mark.parametrize("resolution", [256, 512])
def test_the_preset_takes_its_steps_at_each_resolution(resolution: int) -> None:
    preset = choose_config("enhancer", resolution=resolution)
    config = changed(preset, batch_size=2, precision="fp32")
    photos = synthetic((Source(layout=True), Source(is_photo=True)), side=resolution, small_side=128)
    state = start(config, categories=1, device=CPU)
    before = state.generator.head.weight.detach().clone()
    for _ in range(2):
        rng = step_rng(0, state.images_seen)
        losses = train_step(state, draw_pairs(photos, torch.tensor([0, 1]), config, rng), config, rng)
        state.images_seen += config.data.batch_size
    assert losses.isfinite().all()
    assert not torch.equal(state.generator.head.weight, before)
