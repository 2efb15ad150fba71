"""The command finds a configured Prefect server wherever Prefect would find it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn
from unittest.mock import patch

import pytest

from flows import reach
from flows.reach import configured_server


class Imported(Exception):
    """Prefect's settings were read."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The home folder of a user who has no settings of Prefect. The working folder is another one."""
    for folder in ("home", "work"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "work")

    def imported() -> NoReturn:
        raise Imported

    monkeypatch.setattr(reach, "prefect_settings", imported)
    bare = {name: value for name, value in os.environ.items() if not name.upper().startswith("PREFECT_")}
    with patch.dict(os.environ, bare | {"HOME": str(tmp_path / "home")}, clear=True):
        yield tmp_path / "home"


def test_without_settings_prefect_is_not_imported(home: Path) -> None:
    Path("pyproject.toml").write_text('[project]\ndependencies = ["prefect"]\n')
    Path(".env").write_text("TOKEN=1\n")
    os.environ["PREFECT_HOME"] = str(home / "prefect")
    assert configured_server() is None
    assert os.environ["PREFECT_LOGGING_LEVEL"] == "WARNING"  # for a flow that starts all the same


@pytest.mark.parametrize("name", ["PREFECT_API_URL", "PREFECT_PROFILE", "prefect_api_url"])
def test_a_variable_is_found(home: Path, name: str) -> None:
    os.environ[name] = "local"
    with pytest.raises(Imported):
        configured_server()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (".env", "PREFECT_API_URL=http://127.0.0.1:4200/api\n"),
        ("prefect.toml", '[api]\nurl = "http://127.0.0.1:4200/api"\n'),
        ("pyproject.toml", '[tool.prefect.api]\nurl = "http://127.0.0.1:4200/api"\n'),
    ],
)
def test_a_file_of_the_working_folder_is_found(home: Path, name: str, text: str) -> None:
    Path(name).write_text(text)
    with pytest.raises(Imported):
        configured_server()


@pytest.mark.parametrize("folder", [".prefect", "elsewhere"])
def test_a_profile_is_found(home: Path, folder: str) -> None:
    if folder == "elsewhere":
        os.environ["PREFECT_HOME"] = str(home / folder)
    (home / folder).mkdir()
    (home / folder / "profiles.toml").write_text('active = "local"\n')
    with pytest.raises(Imported):
        configured_server()
