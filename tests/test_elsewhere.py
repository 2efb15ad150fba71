"""Without Unix and without the packages for training, imports work and pictures are generated."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.models import tiny_model

HERE = Path(__file__).parent
IMPORTS_ALL = """
import importlib, pkgutil, sys
for name in ("catalog_schemas", "toygan", "flows"):
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, f"{name}."):
        if not module.name.startswith(("toygan.interchange.keras_", "toygan.interchange.examples.")):
            importlib.import_module(module.name)
from toygan import locks
assert locks.sys.platform == "win32", "the hook is not there"
"""


def run_elsewhere(*arguments: str | Path, home: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(HERE / "elsewhere"), str(HERE.parent)])
    environment = {**os.environ, "PYTHONPATH": path, "PREFECT_HOME": str(home)}
    environment.pop("PREFECT_API_URL", None)
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, env=environment, cwd=home
    )


@pytest.mark.slow
@pytest.mark.service
def test_everything_can_be_imported_without_unix(tmp_path: Path) -> None:
    outcome = run_elsewhere("-c", IMPORTS_ALL, home=tmp_path)
    assert outcome.returncode == 0, outcome.stderr


@pytest.mark.slow
@pytest.mark.service
def test_pictures_are_generated_into_a_folder_without_unix(tmp_path: Path) -> None:
    model = tiny_model().write(tmp_path / "tiny")
    catalog = tmp_path / "catalog.csv"
    pd.DataFrame({"sku": ["1", "2"], "category": "car", "title": "car"}).to_csv(catalog, index=False)
    outcome = run_elsewhere(
        *("-m", "flows.cli", "generate", "--catalog", catalog, "--output", tmp_path / "store"),
        *("--model", model),
        home=tmp_path,
    )
    assert outcome.returncode == 0, outcome.stderr
    rows = pd.concat(map(pd.read_parquet, (tmp_path / "store" / "metadata").rglob("part-*.parquet")))
    assert set(rows["sku"]) == {"1", "2"}
