"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def toybricks() -> Path:
    """The folder of the real photos and catalog; tests that need it are skipped where it is missing."""
    default = REPOSITORY.parent / "shared" / "data" / "toybricks"
    folder = Path(os.environ.get("TOYGAN_TOYBRICKS", default))
    if not (folder / "catalog.parquet").is_file():
        pytest.skip(f"the toybricks data is not at {folder}; set TOYGAN_TOYBRICKS to run this test")
    return folder
