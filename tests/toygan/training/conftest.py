from pathlib import Path

import pytest

from tests.shards import eight_rows, write_shard
from toygan.data.photos import PhotoSet, load_photos


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight photos: two categories in four colours."""
    return write_shard(tmp_path_factory.mktemp("shards"), eight_rows())


@pytest.fixture(scope="session")
def photos(shards: Path) -> PhotoSet:
    return load_photos(shards, resolution=32, split="train")
