"""Lets shards of a run fail, in the place of `run_shard`."""

from collections import Counter
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import pytest

from toygan.generation.run import run_shard

Raises = Callable[[int, int], None]


def failing_shards(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> Callable[[Raises], Counter[int]]:
    """Returns a function that makes `module` call `raises(shard, attempt)` before each shard.

    That function returns the number of attempts by shard.
    """

    def install(raises: Raises) -> Counter[int]:
        attempts: Counter[int] = Counter()

        def failing(worker_spec: Any, run_id: str, shard: int, *others: Any) -> Mapping[str, Any]:
            attempts[shard] += 1
            raises(shard, attempts[shard])
            return run_shard(worker_spec, run_id, shard, *others)

        monkeypatch.setattr(module, "run_shard", failing)
        return attempts

    return install
