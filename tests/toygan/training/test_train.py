import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from tests.shards import eight_rows, photo_row, training_skus, write_shard
from tests.toygan.training.tiny import tiny
from tests.toygan.training.trainings import CPU, run
from toygan.artifact.weights import load_weights
from toygan.data.photos import PhotoSet
from toygan.data.split import is_calibration_sku
from toygan.errors import BadInput, ModelError, RunFailed
from toygan.images import from_uint8
from toygan.models import build
from toygan.models.layers import ConditionalGenerator, Conditions
from toygan.training import fit as fit_module
from toygan.training import guard
from toygan.training.checkpoint import checkpoint_folders
from toygan.training.preview import GRID_COLUMNS, preview_grid
from toygan.training.state import TrainState, start


def ema_pictures(model: Path, photos: PhotoSet, draws: int) -> Tensor:
    """(draws, N, 3, R, R) float32: pictures for the condition of every photo."""
    config = json.loads((model / "config.json").read_text())
    generator, _ = build(config["family"], config["network"])
    load_weights(generator, load_file(model / "generator.safetensors"))
    generator.eval()
    conditions = {"category": photos.category, "colour": photos.colour}
    rng = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        return torch.stack(
            [
                generator(torch.randn(len(photos), generator.latent_size, generator=rng), conditions)
                for _ in range(draws)
            ]
        )


def test_what_a_training_leaves(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = run(shards, tmp_path)
    assert model == tmp_path / "model"
    assert {each.name for each in model.iterdir()} == {
        "config.json",
        "generator.safetensors",
        "discriminator.safetensors",
    }
    config = json.loads((model / "config.json").read_text())
    assert config["categories"] == ["brick", "plant"]
    assert config["training"]["images_seen"] == 40
    assert config["training"]["photos"] == 8
    generator, discriminator = build(config["family"], config["network"])
    load_weights(generator, load_file(model / "generator.safetensors"))
    load_weights(discriminator, load_file(model / "discriminator.safetensors"))
    assert [int(folder.name) for folder in checkpoint_folders(tmp_path)] == [32, 40]
    grids = sorted((tmp_path / "grids").iterdir())
    assert [grid.name for grid in grids] == ["0000000016.png", "0000000032.png", "0000000040.png"]
    assert Image.open(grids[0]).size == (32 * GRID_COLUMNS, 32 * 4)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["images_seen"] for line in lines] == [8, 16, 24, 32, 40]
    assert all(line["images_per_s"] > 0 for line in lines)
    shown = capsys.readouterr().err
    assert "training: 40 of 40 images (100%)" in shown
    assert "images/s" in shown


def test_products_that_calibrate_or_measure_are_left_out(tmp_path: Path) -> None:
    calibrating = next(sku for sku in (f"sku-{number}" for number in range(100)) if is_calibration_sku(sku))
    kept, measured = training_skus(2)
    rows = [photo_row(kept), photo_row(calibrating, "plant"), photo_row(measured, "car", split="val")]
    model = run(write_shard(tmp_path / "shards", rows), tmp_path / "out", max_images=4)
    config = json.loads((model / "config.json").read_text())
    assert config["categories"] == ["brick"]
    assert config["training"]["photos"] == 1


@pytest.mark.parametrize(("max_images", "max_minutes"), [(0, None), (1, None), (None, 0.0)])
def test_however_short_the_weights_are_written(
    shards: Path, tmp_path: Path, max_images: int | None, max_minutes: float | None
) -> None:
    model = run(shards, tmp_path, max_images=max_images, max_minutes=max_minutes)
    images_seen = 4 if max_images else 0
    assert json.loads((model / "config.json").read_text())["training"]["images_seen"] == images_seen
    assert [int(folder.name) for folder in checkpoint_folders(tmp_path)] == [images_seen]


def test_time_ends_a_training(shards: Path, tmp_path: Path) -> None:
    model = run(shards, tmp_path, max_images=None, max_minutes=0.5 / 60)
    images_seen = json.loads((model / "config.json").read_text())["training"]["images_seen"]
    assert images_seen > 0
    assert images_seen % 4 == 0


def test_without_resume_a_training_is_not_overwritten(shards: Path, tmp_path: Path) -> None:
    run(shards, tmp_path, max_images=4)
    with pytest.raises(BadInput, match="holds a training already; give --resume"):
        run(shards, tmp_path)


def test_resume_where_nothing_is_begins(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(
        '{"images_seen": 8}\n'
    )  # of one that died before its first checkpoint
    run(shards, tmp_path, max_images=8, resume=True)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(("max_images", "max_minutes"), [(-1, None), (None, -0.5), (None, float("nan"))])
def test_bad_lengths(shards: Path, tmp_path: Path, max_images: int | None, max_minutes: float | None) -> None:
    with pytest.raises(BadInput, match="must not be below 0"):
        run(shards, tmp_path, max_images=max_images, max_minutes=max_minutes)


def test_a_checkpoint_of_another_training_is_refused(shards: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(shards, output, max_images=4)
    with pytest.raises(ModelError, match=r"made with other values of data\.seed;"):
        run(shards, output, config=tiny(seed=1), resume=True)
    fewer = write_shard(tmp_path / "fewer", eight_rows()[:-1])
    with pytest.raises(ModelError, match="made with other photos"):
        run(fewer, output, resume=True)
    one_category = write_shard(tmp_path / "one", eight_rows()[:4])
    with pytest.raises(ModelError, match="made with other values of categories"):
        run(one_category, output, resume=True)


def test_a_damaged_checkpoint_is_named_and_the_one_before_resumes(shards: Path, tmp_path: Path) -> None:
    run(shards, tmp_path, max_images=32)
    newest = checkpoint_folders(tmp_path)[-1]
    weights = newest / "state.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match=f"{newest.name} cannot be read .*; remove it"):
        run(shards, tmp_path, resume=True)
    for file in newest.iterdir():
        file.unlink()
    newest.rmdir()
    run(shards, tmp_path, max_images=36, resume=True)
    assert [int(folder.name) for folder in checkpoint_folders(tmp_path)] == [32, 36]


def test_one_category(tmp_path: Path) -> None:
    model = run(write_shard(tmp_path / "shards", eight_rows()[:4]), tmp_path / "out", max_images=8)
    assert json.loads((model / "config.json").read_text())["network"]["categories"] == 1


def test_a_batch_larger_than_all_photos(shards: Path, tmp_path: Path) -> None:
    model = run(shards, tmp_path, config=tiny(batch_size=20), max_images=40)
    assert json.loads((model / "config.json").read_text())["training"]["images_seen"] == 40


def test_weights_that_blow_up_do_not_replace_good_ones(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_step = fit_module.train_step

    def step(state: TrainState, *rest: Any) -> Tensor:
        losses = real_step(state, *rest)
        if state.images_seen >= 20:
            next(state.generator.parameters()).data.fill_(float("nan"))
        return losses

    monkeypatch.setattr(fit_module, "train_step", step)
    with pytest.raises(
        RunFailed, match=r"the training failed after 24 images: generator/.* no longer finite"
    ):
        run(shards, tmp_path)
    assert [int(folder.name) for folder in checkpoint_folders(tmp_path)] == [16]
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["training"]["images_seen"] == 16
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    rolled_back = [line for line in lines if "rolled_back" in line]
    assert [line["failed_at"] for line in rolled_back] == [24] * guard.MAX_ROLLBACKS


class Painter(ConditionalGenerator):
    """Paints the category's number in red, the lightness of the colour in green, the first latent in blue."""

    latent_size = 3

    def forward(self, latents: Tensor, conditions: Conditions) -> Tensor:
        red = conditions["category"] / 10
        channels = torch.stack([red, conditions["colour"][:, 0], latents[:, 0].clamp(-1, 1)], dim=1)
        return channels[:, :, None, None].expand(-1, 3, 32, 32)


def test_below_photos_the_grid_shows_their_generated_pictures(photos: PhotoSet) -> None:
    """Each of the two categories has four photos, so each of them comes twice."""
    state = start(tiny(), categories=2, device=CPU)
    state.ema = Painter()
    grid = preview_grid(state, photos, 0, CPU)
    assert grid.shape == (4 * 32, GRID_COLUMNS * 32, 3)
    rows = [grid[top : top + 32] for top in (0, 32, 64, 96)]
    lightness = np.round((photos.colour[:, 0].numpy() + 1) * 127.5)
    for category in (0, 1):
        real, generated = (
            np.split(each, GRID_COLUMNS, axis=1) for each in rows[2 * category : 2 * category + 2]
        )
        shown = [
            next(
                number
                for number in photos.of_category(category)
                if np.array_equal(tile, photos.images[number].permute(1, 2, 0).numpy())
            )
            for tile in real
        ]
        assert sorted(shown) == sorted(photos.of_category(category) * 2)
        assert {tile[16, 16, 0] for tile in generated} == {(128, 140)[category]}  # 127.5, 140.25
        assert [tile[16, 16, 1] for tile in generated] == lightness[shown].tolist()
        assert len({int(tile[16, 16, 2]) for tile in generated}) > GRID_COLUMNS // 2
    assert np.array_equal(grid, preview_grid(state, photos, 0, CPU))


@pytest.mark.slow
def test_eight_photos_are_learnt(shards: Path, photos: PhotoSet, tmp_path: Path) -> None:
    """Each of the eight conditions has one photo, so a generator that follows its condition comes close to
    it."""
    config = tiny(
        network={
            "latent_size": 4,
            "condition_size": 16,
            "generator_channels": 8,
            "discriminator_channels": 16,
            "max_channels": 64,
        },
        batch_size=8,
        generator_lr=1e-3,
        discriminator_lr=1e-3,
        colour_dropout=0.0,
        ema_half_life_images=400,
        log_every_images=1_000_000,
        checkpoint_every_images=1_000_000,
    )
    real = from_uint8(photos.images)

    fresh = ema_pictures(run(shards, tmp_path / "fresh", config=config, max_images=0), photos, draws=4)
    taught = ema_pictures(run(shards, tmp_path / "taught", config=config, max_images=8_000), photos, draws=4)
    # Mean absolute differences of each picture from each photo, (draws, 8 pictures, 8 photos), on a scale 2
    # wide.
    before, after = ((each[:, :, None] - real).abs().mean(dim=(3, 4, 5)) for each in (fresh, taught))
    own_before, own_after = (each.diagonal(dim1=1, dim2=2).mean().item() for each in (before, after))
    assert own_after < 0.2 * own_before  # measured: 0.10 and 0.89
    nearest_is_own = (after.argmin(2) == torch.arange(8)).float().mean().item()
    assert nearest_is_own > 0.6  # measured: 1.0; guessing finds one in eight
