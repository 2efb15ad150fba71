from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.shards import eight_rows, write_shard
from toygan.data.photos import PhotoSet, load_photos


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks of four channels are faster so, and a training is the same bit for bit with as many
    threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight photos: two categories in four colours."""
    return write_shard(tmp_path_factory.mktemp("shards"), eight_rows())


@pytest.fixture(scope="session")
def photos(shards: Path) -> PhotoSet:
    return load_photos(shards, resolution=32, split="train")
