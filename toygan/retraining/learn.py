"""Makes the challenger: trains the champion further on the photos of the snapshot, and calibrates it."""

import logging
import shutil
from dataclasses import replace

import torch

from catalog_schemas.validation import TableError
from toygan.artifact.calibration import Calibration
from toygan.artifact.config import ModelConfig, config_of
from toygan.artifact.files import CALIBRATION, CONFIG, ENHANCER, ENHANCER_CONFIG, ModelFiles
from toygan.artifact.load import load_model
from toygan.calibration.calibrate import calibrate
from toygan.calibration.decisions import calibrate_with_people
from toygan.calibration.lines import agreement_line
from toygan.calibration.photos import photos_of
from toygan.disk import replace_file
from toygan.errors import BadInput, ModelError, ObjectNotFound
from toygan.generation.engine import default_batch_size
from toygan.registry.models import resolve
from toygan.retraining.budget import Budget
from toygan.retraining.plan import Attempt, hopeless_if_unusable
from toygan.storage.store import ObjectStore
from toygan.training.choose import config_of_model
from toygan.training.config import LoggingSettings, TrainConfig
from toygan.training.limits import Limits
from toygan.training.train import train

log = logging.getLogger(__name__)

CHECKPOINTS = 10  # a retraining has this number of intervals between checkpoints, of a batch or more each


def learn(
    attempt: Attempt, budget: Budget, device: torch.device, decisions: ObjectStore | None = None
) -> ModelFiles:
    """Trains and calibrates the challenger and returns it. Finished steps are not repeated.

    If the store `decisions` has enough decisions of people about the champion's pictures, the calibration is
    fitted to them, see `toygan.approval.people`.

    The training resumes from its newest checkpoint. If that is impossible, the checkpoints are removed and
    the training starts again. Raises RunFailed if the training diverges, and if there is no photo for the
    calibration.
    """
    model = attempt.training / "model"
    if not (model / CALIBRATION).exists():
        champion = resolve(str(attempt.champion), None)
        config = fine_tuning(config_of(champion), budget.images)
        try:
            _train(attempt, config, budget, device)
        except ModelError as error:
            log.warning("the training cannot be resumed, so it starts from the beginning: %s", error)
            shutil.rmtree(attempt.training)
            _train(attempt, config, budget, device)
        _inherit(attempt)
        _calibrate(attempt, budget, device, decisions)
    found = resolve(str(model), None)
    return ModelFiles(name=attempt.plan.name, version=found.version, files=found.files)


def fine_tuning(config: ModelConfig, max_images: int) -> TrainConfig:
    """Returns the settings to train a model further: those of its last training, which are in its config.

    In a short retraining, log lines and checkpoints are more frequent. Raises as `config_of_model`.
    """
    found = config_of_model(config)
    batch_size = found.data.batch_size
    every = LoggingSettings(
        log_every_images=max(batch_size, max_images // 50),
        checkpoint_every_images=max(batch_size, max_images // CHECKPOINTS),
    )
    return replace(found, logging=every)


def _train(attempt: Attempt, config: TrainConfig, budget: Budget, device: torch.device) -> None:
    train(
        photos_uri=attempt.photos,
        output=attempt.training,
        config=config,
        device=device,
        limits=Limits(max_images=budget.images, max_minutes=budget.training_limit_s / 60),
        resume=True,
        init=resolve(str(attempt.champion), None),
    )


def _inherit(attempt: Attempt) -> None:
    """Copies truncation, credit and enhancer from the champion, because a training does not write these."""
    file = attempt.training / "model" / CONFIG
    champion, own = (
        ModelConfig.from_json(each.read_bytes(), str(each)) for each in (attempt.champion / CONFIG, file)
    )
    inherited = replace(own, truncation=champion.truncation, credit=champion.credit)
    replace_file(file, inherited.to_json())
    for name in (ENHANCER_CONFIG, ENHANCER):
        if (attempt.champion / name).exists():
            replace_file(file.with_name(name), (attempt.champion / name).read_bytes())


def _calibrate(
    attempt: Attempt, budget: Budget, device: torch.device, decisions: ObjectStore | None = None
) -> None:
    folder = attempt.training / "model"
    model = load_model(resolve(str(folder), None), device)
    champions = Calibration.from_json((attempt.champion / CALIBRATION).read_bytes())
    with hopeless_if_unusable():
        calibration = calibrate(
            model,
            photos_of(model, attempt.photos, split="train").with_text(model.text_encoder),
            batch_size=default_batch_size(model),
            samples=budget.samples,
            settings=champions.settings,
            with_probe=champions.probe is not None,
        )
    for warning in calibration.warnings:
        log.warning("%s", warning)
    if decisions is not None:
        source = ModelFiles(name=attempt.plan.name, version=attempt.plan.version, files={})
        calibration = _with_people(calibration, source, decisions, device)
    replace_file(folder / CALIBRATION, calibration.to_json().encode())


def _with_people(
    calibration: Calibration, source: ModelFiles, store: ObjectStore, device: torch.device
) -> Calibration:
    """Fits the calibration to people's decisions about the champion's pictures.

    Without a probe the calibration is returned unchanged: the pictures have only scores of the champion's
    discriminator, and the challenger has another discriminator.
    """
    if calibration.probe is None:
        return calibration
    try:
        fitted = calibrate_with_people(calibration, source, store, device)
    except BadInput as error:  # usually there are too few decisions; the retraining continues
        log.info("the calibration does not use people's decisions: %s", error)
        return calibration
    except (TableError, ObjectNotFound) as error:  # a damaged or missing table must not stop a retraining
        log.warning("the calibration does not use people's decisions: %s; see `toygan verify`", error)
        return calibration
    if fitted.agreement is not None:
        log.info("%s", agreement_line(fitted.agreement))
    return fitted
