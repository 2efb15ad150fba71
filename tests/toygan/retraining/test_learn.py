"""How a champion is trained on, and what its challenger takes over from it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.models import CATEGORIES, CPU, TinyFiles, changed_config, tiny_model, tiny_with_layouts
from tests.toygan.calibration.decided import FEATURES, put_night
from tests.toygan.retraining.shop import (
    SMALL_BUDGET,
    begun,
    leave_photos,
    skus,
    upload_enough,
    upload_new_category,
)
from toygan.artifact.calibration import Calibration
from toygan.artifact.config import config_of
from toygan.artifact.files import CALIBRATION
from toygan.artifact.load import load_model
from toygan.artifact.probe_weights import BACKBONE, ProbeWeights
from toygan.errors import BadInput, RunFailed
from toygan.registry.models import add_model, resolve
from toygan.registry.promotion import promote
from toygan.retraining import learn as learn_module
from toygan.retraining.learn import fine_tuning, learn
from toygan.retraining.plan import Attempt
from toygan.retraining.snapshot import SHARD, known_products
from toygan.review.record import decide
from toygan.storage.local import LocalStore
from toygan.storage.memory import MemoryStore
from toygan.training.checkpoint import checkpoint_folders
from toygan.training.config import DataSettings, LoggingSettings
from toygan.training.presets import PRESETS
from toygan.uploads.new_categories import NEW_CATEGORY_PHOTOS


def with_config(**changes: Any) -> TinyFiles:
    return tiny_model().with_files(config=changed_config(tiny_model(), **changes))


def test_a_model_is_trained_on_as_it_was_trained() -> None:
    settings = {"data": {"batch_size": 4, "seed": 9}, "objective": {"loss": "minimax"}}
    training = {"images_seen": 5, "settings": settings}
    config = fine_tuning(config_of(with_config(training=training)), 1000)
    assert (config.family, config.resolution) == ("dcgan", 32)
    assert config.data == DataSettings(batch_size=4, seed=9)
    assert config.objective.loss == "minimax"
    assert config.logging == LoggingSettings(log_every_images=20, checkpoint_every_images=100)
    networks = config_of(tiny_model()).networks
    assert config.networks(categories=3) == networks


def test_the_precision_is_left_to_the_device_that_trains_it_on() -> None:
    training = {"settings": {"optimizer": {"precision": "bf16"}}}
    config = fine_tuning(config_of(with_config(training=training)), 1000)
    assert config.optimizer.precision == "auto"


def test_what_its_config_does_not_say_is_the_presets() -> None:
    config = fine_tuning(config_of(tiny_model()), 1_000_000)
    assert (config.optimizer, config.data) == (PRESETS["dcgan"].optimizer, PRESETS["dcgan"].data)


def test_the_bundled_model_can_be_trained_on() -> None:
    bundled = config_of(resolve(None, None))
    config = fine_tuning(bundled, 64_000)
    assert config.resolution == bundled.resolution
    assert config.logging.checkpoint_every_images == 6_400
    assert (config.data.batch_size, config.objective.perceptual_side) == (32, 224)


def test_a_family_that_is_not_known_is_named() -> None:
    with pytest.raises(BadInput, match="unknown model family 'vae'; known are mlp"):
        fine_tuning(config_of(with_config(family="vae")), 1000)


def retraining_of(champion: TinyFiles, folder: Path) -> Attempt:
    """A retraining of the champion, on uploads that are just enough."""
    store = MemoryStore()
    promote(store, "tiny", add_model(store, champion.write(folder / "tiny"), "tiny"))
    upload_enough(store)
    return begun(store, folder / "work")


@pytest.fixture(scope="module")
def attempt(tmp_path_factory: pytest.TempPathFactory) -> Attempt:
    """A retraining of a champion with truncation and credit."""
    folder = tmp_path_factory.mktemp("shop")
    champion = with_config(
        truncation=0.7,
        credit="me",
        training={"settings": {"data": {"batch_size": 8}, "optimizer": {"precision": "bf16"}}},
    )
    return retraining_of(champion, folder)


def test_the_challenger_is_calibrated_and_inherits_the_other_settings(attempt: Attempt) -> None:
    challenger = learn(attempt, SMALL_BUDGET, CPU)
    config = config_of(challenger)
    assert (config.truncation, config.credit, config.training["images_seen"]) == (0.7, "me", 64)
    champion = json.loads((attempt.champion / CALIBRATION).read_bytes())
    assert json.loads(challenger.files[CALIBRATION])["settings"] == champion["settings"]
    assert challenger.name == attempt.plan.name
    assert challenger.version != attempt.plan.version


def test_the_challenger_is_scored_by_a_probe_as_the_champion(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn(attempt, SMALL_BUDGET, CPU)
    files = [folder / CALIBRATION for folder in (attempt.champion, attempt.training / "model")]
    before = [file.read_bytes() for file in files]
    champions = Calibration.from_json(before[0])
    probe = ProbeWeights(backbone=BACKBONE, weights=(1.0,), intercept=0.0)
    asked: list[bool] = []

    def calibrate(*args: Any, with_probe: bool, **options: Any) -> Calibration:
        asked.append(with_probe)
        return champions

    monkeypatch.setattr(learn_module, "calibrate", calibrate)
    for each in (champions, replace(champions, probe=probe)):
        files[0].write_text(each.to_json())
        learn_module._calibrate(attempt, SMALL_BUDGET, CPU)
    assert asked == [False, True]
    for file, content in zip(files, before, strict=True):
        file.write_bytes(content)


@pytest.mark.slow
def test_the_challenger_follows_what_people_decided_about_the_champion(
    attempt: Attempt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They like its red pictures. With few decisions the calibration stays."""
    learn(attempt, SMALL_BUDGET, CPU)
    file = attempt.training / "model" / CALIBRATION
    before = file.read_bytes()
    probe = ProbeWeights(backbone=BACKBONE, weights=(0.0,) * FEATURES, intercept=0.0)
    fresh = replace(Calibration.from_json((attempt.champion / CALIBRATION).read_bytes()), probe=probe)
    monkeypatch.setattr(learn_module, "calibrate", lambda *args, **options: fresh)
    store = LocalStore(tmp_path)
    ids = put_night(store, tiny_model(), [0.0] * 40, model_name=attempt.plan.name)
    decide(store, "approve", ids[:2], by="Ann", reason=None)
    learn_module._calibrate(attempt, SMALL_BUDGET, CPU, store)
    assert Calibration.from_json(file.read_bytes()) == fresh
    decide(store, "approve", ids[::2], by="Ann", reason=None)
    decide(store, "reject", ids[1::2], by="Ann", reason=None)
    learn_module._calibrate(attempt, SMALL_BUDGET, CPU, store)
    agreement = Calibration.from_json(file.read_bytes()).agreement
    assert agreement is not None
    assert agreement.after > agreement.before
    file.write_bytes(before)


def test_what_is_done_is_not_done_again(attempt: Attempt) -> None:
    done = learn(attempt, SMALL_BUDGET, CPU)
    before = {file: file.stat().st_mtime_ns for file in attempt.training.rglob("*")}
    assert learn(attempt, SMALL_BUDGET, CPU) == done
    assert before == {file: file.stat().st_mtime_ns for file in attempt.training.rglob("*")}


def test_photos_that_cannot_calibrate_make_an_attempt_hopeless(attempt: Attempt) -> None:
    learn(attempt, SMALL_BUDGET, CPU)
    shard = attempt.photos / SHARD
    before = shard.read_bytes()
    leave_photos(attempt, "calibration", 0)
    with pytest.raises(RunFailed, match="none of the 5 products is a calibration product"):
        learn_module._calibrate(attempt, SMALL_BUDGET, CPU)
    shard.write_bytes(before)


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_resumed_is_done_without(attempt: Attempt) -> None:
    done = learn(attempt, SMALL_BUDGET, CPU)
    shutil.rmtree(attempt.training / "model")
    newest = checkpoint_folders(attempt.training)[-1]
    (newest / "state.json").write_text("{")
    assert learn(attempt, SMALL_BUDGET, CPU).version == done.version


@pytest.mark.slow
def test_a_champion_with_layouts_of_its_own_learns_from_uploads(tmp_path: Path) -> None:
    """Which have none: its layout predictor draws them, and they are drawn from afterwards, too."""
    champion = tiny_with_layouts()
    challenger = load_model(learn(retraining_of(champion, tmp_path), SMALL_BUDGET, CPU), CPU)
    earlier = champion.load()
    assert challenger.layout_bank is not None
    assert earlier.layout_bank is not None
    assert len(challenger.layout_bank.categories) == 15 + len(earlier.layout_bank.categories)
    assert challenger.calibration is not None
    assert challenger.image_condition is None


@pytest.mark.slow
def test_a_new_category_is_learnt_and_the_others_keep_what_they_know(tmp_path: Path) -> None:
    store, champion = MemoryStore(), tiny_model()
    promote(store, "tiny", add_model(store, champion.write(tmp_path / "tiny"), "tiny"))
    upload_enough(store)
    upload_new_category(store, "robot", {"train": NEW_CATEGORY_PHOTOS})
    found = begun(store, tmp_path / "work", max_images=16)
    assert found.plan.contents.by_category["robot"] == {"train": 20, "calibration": 0, "val": 0}
    challenger = load_model(learn(found, SMALL_BUDGET, CPU), CPU)
    assert challenger.categories == (*CATEGORIES[:2], "robot", *CATEGORIES[2:])
    assert challenger.require_calibration().categories.keys() == set(challenger.categories)
    assert not known_products(found.photos, CATEGORIES)(skus("train", NEW_CATEGORY_PHOTOS + 5)[-1])
    generated = challenger.generate(
        [1],
        [
            challenger.conditions_of(
                category="robot",
                title=None,
                description=None,
                language="en",
                colour=None,
                colour_hex="#B40000",
                finish=None,
            )
        ],
        8,
    )
    assert generated.pixels.shape == (1, 32, 32, 3)
