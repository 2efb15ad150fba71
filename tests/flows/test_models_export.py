"""The command `toygan models export`."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.flows.command import Command
from tests.models import tiny_with_layouts


@pytest.mark.slow
def test_a_calibrated_model_with_layouts_is_exported_by_name(tmp_path: Path, toygan_here: Command) -> None:
    folder = tiny_with_layouts().write(tmp_path / "tiny-layouts")
    outcome = toygan_here("models", "export", folder, "--format", "onnx", "--to", tmp_path / "to")
    assert outcome.code == 0, outcome.err
    said = json.loads((tmp_path / "to" / "interchange.json").read_text())
    assert list(said["networks"]) == ["generator", "layout_predictor"]
    inputs = np.load(tmp_path / "to" / "example_inputs.npz")
    assert inputs["layout"].shape == (4, 32, 32)
