"""The estimate of wrongly recoloured pixels, and the file in which it is kept."""

from pathlib import Path

import numpy as np
import pytest

from toygan.artifact import mixed_labels
from toygan.artifact.mixed_labels import mixed_shares
from toygan.errors import ModelError
from toygan.images import encode_labels

CLASSES = 5
CATEGORIES = ("car", "car", "brick")
LABELS = ((2, 3), (2,), (3,))


@pytest.fixture(autouse=True)
def _small_banks_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixed_labels, "FEWEST_KEPT", 1)


def layouts() -> list[bytes]:
    """Half of each layout has label 2; of the other half label 3 has a part."""
    found = []
    for rows in (8, 4, 0):
        labels = np.full((16, 16), 2, dtype=np.uint8)
        labels[8 : 8 + rows] = 3
        found.append(encode_labels(labels))
    return found


def shares(folder: Path | None, files: list[bytes] | None = None) -> list[float]:
    return mixed_shares(CATEGORIES, files or layouts(), LABELS, CLASSES, folder).tolist()


def test_the_share_is_that_of_products_that_do_not_name_the_label(tmp_path: Path) -> None:
    """Both cars name label 2. The second car does not name label 3, which has a quarter of its pixels."""
    assert shares(tmp_path) == shares(None) == [0.25, 0.0, 0.0]


def test_a_kept_estimate_is_used_without_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = shares(tmp_path)
    monkeypatch.setattr(mixed_labels, "decode_labels", None)
    assert shares(tmp_path) == found
    with pytest.raises(TypeError):  # other layouts have no kept estimate
        shares(tmp_path, layouts()[::-1])


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00"])
def test_a_damaged_file_is_written_anew(tmp_path: Path, content: bytes) -> None:
    found = shares(tmp_path)
    [path] = tmp_path.iterdir()
    kept = path.read_bytes()
    path.write_bytes(content)
    assert shares(tmp_path) == found
    assert path.read_bytes() == kept


def test_an_array_of_another_length_is_not_used(tmp_path: Path) -> None:
    found = shares(tmp_path)
    [path] = tmp_path.iterdir()
    np.save(path, np.zeros(2))
    assert shares(tmp_path) == found


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert shares(tmp_path / "file") == shares(None)


def test_a_damaged_layout_is_named(tmp_path: Path) -> None:
    bad = [*layouts()[:2], encode_labels(np.full((4, 4), CLASSES, dtype=np.uint8))]
    with pytest.raises(ModelError, match="a layout of the layout bank: it holds the label 5"):
        shares(tmp_path, bad)
    assert list(tmp_path.iterdir()) == []


def test_the_estimate_of_a_small_bank_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixed_labels, "FEWEST_KEPT", 4)
    assert shares(tmp_path) == shares(None)
    assert list(tmp_path.iterdir()) == []
