"""Runs a recipe: first all trainings, then rounding to half precision, truncation and calibration.

An enhancer is not calibrated. It is fitted to the white ground of the photos.

OUTPUT/<stage>/   the files of one training, see `toygan.training.checkpoint`
OUTPUT/model/     the finished model

A second run resumes the first: finished stages stay, and an unfinished training continues from its newest
checkpoint.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load, save

from toygan.artifact.calibration import CalibrationSettings
from toygan.artifact.config import ModelConfig
from toygan.artifact.files import CALIBRATION, CONFIG, WEIGHTS, ModelFiles, read_folder
from toygan.calibration.calibrate import calibrate_model
from toygan.data.split import is_calibration_sku
from toygan.disk import disk_errors, new_folder
from toygan.errors import BadInput, RunFailed
from toygan.registry.models import resolve
from toygan.training.checkpoint import checkpoint_folders
from toygan.training.first_stage import load_pairs
from toygan.training.limits import Limits
from toygan.training.pairs import PhotoPairs
from toygan.training.recipe import Recipe, Stage
from toygan.training.train import SMALL_PICTURES, train
from toygan.training.white_ground import with_white_ground

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RecipeRun:
    """One run of a recipe."""

    recipe: Recipe
    photos_uri: str
    output: Path
    device: torch.device
    resume: bool = False
    max_images: int | None = None  # the largest number of images of each stage, to try out a recipe
    should_stop: Callable[[], bool] = lambda: False

    @property
    def model(self) -> Path:
        """The folder of the finished model."""
        return self.output / "model"

    def images_of(self, stage: Stage) -> int:
        return stage.images if self.max_images is None else min(stage.images, self.max_images)


def run_recipe(run: RecipeRun) -> Path | None:
    """Trains, finishes and calibrates the model; returns its folder, or None if `should_stop()` was true.

    Without `resume`, it raises BadInput for an output that has trainings. It also raises the errors of
    `train` and `calibrate_model`.
    """
    begun = [stage.name for stage in run.recipe.stages if checkpoint_folders(run.output / stage.name)]
    if begun and not run.resume:
        raise BadInput(
            f"{run.output} holds a training already; give --resume to continue it, or give another folder"
        )
    first_stages = [resolve(each, None) for each in run.recipe.first_stages]
    folder: Path | None = None
    for number, stage in enumerate(run.recipe.stages, 1):
        log.info("stage %d of %d: %s", number, len(run.recipe.stages), stage.name)
        folder = _train(run, stage, folder, first_stages)
        if run.should_stop():
            return None
    assert folder is not None
    return _finished(run, folder)


def _train(run: RecipeRun, stage: Stage, before: Path | None, first_stages: Sequence[ModelFiles]) -> Path:
    """Trains one stage, starting from the weights in `before`, and returns the folder of its model.

    A stage that is already trained stays as it is.
    """
    output = run.output.resolve() / stage.name
    if (output / "model").exists() and _images_seen(output / "model") >= run.images_of(stage):
        return output / "model"
    return train(
        photos_uri=run.photos_uri,
        output=output,
        config=stage.config,
        device=run.device,
        limits=Limits(max_images=run.images_of(stage), should_stop=run.should_stop),
        resume=True,
        init=None if before is None else resolve(str(before), None),
        first_stages=first_stages,
    )


def _images_seen(model: Path) -> int:
    config = ModelConfig.from_json((model / CONFIG).read_bytes(), str(model / CONFIG))
    images: int = config.training["images_seen"]
    return images


def _finished(run: RecipeRun, trained: Path) -> Path:
    """Returns the folder of the finished model. It is calibrated, except if it is an enhancer."""
    files = finished_files(read_folder(trained), run.recipe.truncation)
    enlarges = run.recipe.stages[-1].config.networks().needs_small_picture
    if enlarges:
        files = with_white_ground(files, _last_pairs(run), run.device)
    is_new = not run.model.exists() or not files.items() <= read_folder(run.model).items()
    if is_new:
        with disk_errors(run.output, "the trainings are kept"), new_folder(run.model) as fresh:
            for name, content in files.items():
                (fresh / name).write_bytes(content)
    if not enlarges and (is_new or not (run.model / CALIBRATION).exists()):
        lines = calibrate_model(
            str(run.model.resolve()),
            photos=run.photos_uri,
            store_uri=None,
            device=run.device,
            settings=CalibrationSettings(acceptance=run.recipe.acceptance),
            with_probe=run.recipe.probe,
        )
        for line in lines:
            log.info("%s", line)
    return run.model


def _last_pairs(run: RecipeRun) -> PhotoPairs:
    """Returns the photos and small pictures of the last training of an enhancer."""
    last = run.recipe.stages[-1]
    return load_pairs(
        run.photos_uri,
        last.config.networks(),
        [resolve(each, None) for each in run.recipe.first_stages],
        keep_sku=lambda sku: not is_calibration_sku(sku),
        seed=last.config.data.seed,
        device=run.device,
        kept=run.output / last.name / SMALL_PICTURES,
    )


def finished_files(files: Mapping[str, bytes], truncation: float) -> dict[str, bytes]:
    """Returns the files of a model with the truncation, and with kernels and matrices in half precision.

    So the model takes half the space. Vectors stay in float32, because the variances of a normalisation may
    be too small for half precision. Raises RunFailed for weights that are too large for half precision.
    """
    config = replace(ModelConfig.from_json(files[CONFIG], CONFIG), truncation=truncation)
    return {**files, CONFIG: config.to_json(), **{name: _halved(name, files[name]) for name in WEIGHTS}}


def _halved(name: str, content: bytes) -> bytes:
    halved = {
        key: value.half() if value.ndim > 1 and value.is_floating_point() else value
        for key, value in load(content).items()
    }
    if not all(value.isfinite().all() for value in halved.values()):
        raise RunFailed(
            f"{name} holds numbers that are too large for half precision; train with lower learning rates"
        )
    return save(halved)
