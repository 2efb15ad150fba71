"""Calibrates the model of a folder or of a store."""

from pathlib import Path
from typing import Any

import pytest

from tests.models import CPU
from tests.toygan.calibration.calibrations import FEW, model_files
from tests.toygan.calibration.calibrations import shards as shards
from toygan.artifact.calibration import Calibration
from toygan.artifact.files import CALIBRATION
from toygan.calibration import calibrate as calibrate_module
from toygan.calibration.calibrate import calibrate_model
from toygan.errors import ModelError
from toygan.registry.models import add_model, list_models, resolve
from toygan.storage.memory import named_memory_store

# the command's part


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer generated pictures than the command takes."""
    original = calibrate_module.calibrate

    def quick(*args: Any, **options: Any) -> Calibration:
        return original(*args, **options, samples=FEW)

    monkeypatch.setattr(calibrate_module, "calibrate", quick)


@pytest.mark.usefixtures("few")
@pytest.mark.slow
def test_a_folder_gets_its_calibration(shards: Path, tmp_path: Path) -> None:
    folder = model_files().with_files(calibration=None).write(tmp_path / "toys")
    lines = list(calibrate_model(str(folder), photos=shards, store_uri=None, device=CPU))
    resolved = resolve(str(folder), None)
    calibration = Calibration.from_json(resolved.files[CALIBRATION])
    assert lines[0].startswith(f"toys@{resolved.version} is calibrated; expected calibration error ")
    assert lines[0].endswith(f"{calibration.ece:.3f}")
    assert lines[1].startswith(f"  brick: threshold {calibration.categories['brick'].threshold:.3f}, ")
    assert "12 real and 20 generated pictures" in lines[1]
    assert lines[3:] == [f"warning: {warning}" for warning in calibration.warnings]
    # once more: the old calibration gives way
    again = list(calibrate_model(str(folder), photos=shards, store_uri=None, device=CPU))
    assert again == lines


@pytest.mark.usefixtures("few")
def test_a_model_of_a_store_becomes_a_new_version(shards: Path, tmp_path: Path) -> None:
    store = named_memory_store(tmp_path.name)
    folder = model_files().with_files(calibration=None).write(tmp_path / "toys")
    before = add_model(store, folder, "toys")
    lines = list(
        calibrate_model(f"toys@{before}", photos=shards, store_uri=f"memory://{tmp_path.name}", device=CPU)
    )
    made = {model.version: model.calibrated for model in list_models(store)}
    assert made.pop(before) is False
    ((after, calibrated),) = made.items()
    assert calibrated
    assert lines[0].startswith(f"toys@{after} is calibrated")
    assert resolve(f"toys@{before}", store).files == model_files().with_files(calibration=None).files


def test_a_bundled_model_stays_as_it_is(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model_files().write(tmp_path / "toys")
    bundled = resolve(str(folder), None)
    monkeypatch.setattr(calibrate_module, "resolve", lambda reference, store: bundled)
    with pytest.raises(ModelError, match="toys is bundled and cannot be changed; copy its folder"):
        list(calibrate_model("toys", photos=shards, store_uri=None, device=CPU))


def test_a_model_that_is_not_there_is_named(shards: Path) -> None:
    for store_uri in (None, "memory://nothing"):
        with pytest.raises(ModelError, match="there is no model 'nobody'"):
            list(calibrate_model("nobody", photos=shards, store_uri=store_uri, device=CPU))
