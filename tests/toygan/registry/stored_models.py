"""Models in stores, for tests."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from tests.models import config_json
from toygan.storage.memory import MemoryStore


def weights(value: float) -> bytes:
    return save({"layer.weight": np.full((3, 4), value, np.float32), "layer.bias": np.zeros(3, np.float32)})


def model_folder(folder: Path, value: float = 1.0, *, calibrated: bool = True) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(config_json("dcgan", {"categories": 3}))
    (folder / "generator.safetensors").write_bytes(weights(value))
    (folder / "discriminator.safetensors").write_bytes(weights(-value))
    if calibrated:
        (folder / "calibration.json").write_text('{"categories": {}}')
        (folder / "text_bank.safetensors").write_bytes(weights(value / 2))
    return folder


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    return model_folder(tmp_path / "toys")


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder with one bundled model named `starter`, in place of the real one."""
    package = tmp_path / "package"
    model_folder(package / "pretrained" / "starter", 7.0)
    monkeypatch.setattr("toygan.registry.models.resources.files", lambda name: package)
    return package / "pretrained"
