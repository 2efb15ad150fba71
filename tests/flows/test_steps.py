"""Shards that are computed before Prefect's server answers."""

import logging
from pathlib import Path
from typing import Any

import pytest

from flows import steps
from flows.steps import begin_early, begin_run, compute_early, end_run
from tests.toygan.generation.disturbed_runs import contents, lead_to
from tests.toygan.generation.disturbed_runs import folder as folder
from tests.toygan.generation.disturbed_runs import store as store
from tests.toygan.generation.whole_runs import generate, request
from toygan.errors import StoreUnavailable
from toygan.generation.request import RunRequest
from toygan.generation.run import run_shard
from toygan.publishing.verify import verify
from toygan.storage.memory import MemoryStore

pytestmark = pytest.mark.usefixtures("a_shard_per_category")


def rest(wanted: RunRequest) -> list[int]:
    """Does what the flow does, and returns the shards that were left for it."""
    begun = begin_run(wanted)
    for shard in begun.run.pending:
        run_shard(begun.run.worker_spec, wanted.run_id, shard, "webp")
    end_run(begun, logging.getLogger(__name__), lambda *_: None)
    return list(begun.run.pending)


def test_the_flow_gets_the_shards_that_are_left(
    folder: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = request(folder)
    shards = len(begin_early(wanted, is_new=True).run.pending)
    answers = iter([False, True])
    assert compute_early(wanted, lambda: next(answers)) == 1
    assert rest(wanted) == list(range(1, shards))
    assert verify(store).problems == ()
    undisturbed = MemoryStore("undisturbed")
    lead_to(undisturbed, monkeypatch)
    generate(wanted)
    assert contents(store, "images/") == contents(undisturbed, "images/")


def test_a_shard_that_fails_is_left_for_the_flow(
    folder: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise StoreUnavailable("no answer")

    wanted = request(folder)
    shards = list(begin_early(wanted, is_new=True).run.pending)
    monkeypatch.setattr(steps, "run_shard", fail)
    assert compute_early(wanted, lambda: False) == 0
    assert rest(wanted) == shards
    assert verify(store).problems == ()


def test_all_shards_may_be_done_before_the_flow_begins(folder: Path, store: MemoryStore) -> None:
    wanted = request(folder)
    shards = len(begin_early(wanted, is_new=True).run.pending)
    assert compute_early(wanted, lambda: False) == shards
    assert rest(wanted) == []
    assert verify(store).problems == ()
