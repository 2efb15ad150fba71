"""A model version of a bucket is downloaded once, whatever happens to the cache."""

from pathlib import Path

import pytest

from tests.models import tiny_model
from tests.servers import S3Server, fresh_bucket
from toygan.artifact.files import ModelFiles
from toygan.registry import kept_models
from toygan.registry.kept_models import read_through
from toygan.registry.models import add_model, resolve
from toygan.storage.keys import model_key
from toygan.storage.open_store import open_store


class Source:
    """A model, and how often it was read."""

    def __init__(self, model: ModelFiles) -> None:
        self._model, self.reads = model, 0

    def __call__(self) -> ModelFiles:
        self.reads += 1
        return self._model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    folder = tmp_path_factory.mktemp("kept") / "tiny"
    tiny_model().write(folder)
    return resolve(str(folder), None)


def read(source: Source, model: ModelFiles, folder: Path | None) -> ModelFiles:
    return read_through(model.name, model.version, source, folder)


def test_a_version_is_read_once(model: ModelFiles, tmp_path: Path) -> None:
    source = Source(model)
    for _ in range(3):
        assert read(source, model, tmp_path / "kept") == model
    assert source.reads == 1
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [model.version]


@pytest.mark.parametrize("damage", ["cut", "gone", "more", "folder"])
def test_a_damaged_kept_model_is_read_anew(model: ModelFiles, tmp_path: Path, damage: str) -> None:
    source = Source(model)
    read(source, model, tmp_path)
    config = tmp_path / model.version / "config.json"
    match damage:
        case "cut":
            config.write_bytes(config.read_bytes()[:-1])
        case "gone":
            config.unlink()
        case "more":
            (tmp_path / model.version / "enhancer.safetensors").write_bytes(b"other")
        case "folder":
            config.unlink()
            config.mkdir()
    for _ in range(2):
        assert read(source, model, tmp_path) == model
    assert source.reads == 2


def test_a_cache_that_cannot_be_written_changes_nothing(
    model: ModelFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    source = Source(model)
    for folder in (tmp_path / "file", None):
        assert read(source, model, folder) == model
    assert source.reads == 2
    assert "cannot be kept" in caplog.text


def test_an_odd_version_is_never_joined_into_a_path(model: ModelFiles, tmp_path: Path) -> None:
    source = Source(model)
    assert read_through("tiny", "../../odd", source, tmp_path / "kept") == model
    assert not (tmp_path / "kept").exists()


def test_few_versions_are_kept(model: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_models, "MOST_KEPT", 2)
    for number in range(4):
        (tmp_path / f"{number:012d}").mkdir()
    read(Source(model), model, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    assert (tmp_path / model.version).is_dir()


@pytest.mark.service
def test_a_model_in_a_bucket_is_downloaded_once(
    model: ModelFiles, tmp_path: Path, moto: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store = open_store(fresh_bucket(moto, monkeypatch))
    folder = tmp_path / "tiny"
    folder.mkdir()
    for name, data in model.files.items():
        (folder / name).write_bytes(data)
    add_model(store, folder, "tiny")
    assert resolve("tiny", store) == model
    for name in set(model.files) - {"config.json"}:  # the list of models needs this one
        store.delete(model_key("tiny", model.version, name))
    assert resolve("tiny", store) == model
