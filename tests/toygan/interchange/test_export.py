"""Which models can be exported."""

from pathlib import Path

import pytest

from tests.models import CPU, tiny_studio
from toygan.artifact.load import load_model
from toygan.errors import BadInput
from toygan.interchange.export import export_model


def test_a_model_for_snapshots_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="tiny-studio needs snapshots"):
        export_model(load_model(tiny_studio(), CPU), "onnx", tmp_path / "made")
    assert not (tmp_path / "made").exists()
