"""A run without Prefect, as the command line does it if no server is configured."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows import steps
from flows.steps import run_here
from tests.flows.failing_shards import Raises, failing_shards
from tests.toygan.generation.disturbed_runs import contents, lead_to
from tests.toygan.generation.disturbed_runs import folder as folder
from tests.toygan.generation.disturbed_runs import store as store
from tests.toygan.generation.whole_runs import generate, request
from toygan.errors import ModelError, RunFailed, StoreUnavailable
from toygan.publishing.verify import verify
from toygan.storage.memory import MemoryStore

pytestmark = pytest.mark.usefixtures("a_shard_per_category")


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Callable[[Raises], Counter[int]]:
    monkeypatch.setattr(steps, "_RETRY_AFTER_S", (0.0, 0.0, 0.0))
    return failing_shards(monkeypatch, steps)


def test_the_pictures_are_those_of_the_flow(
    folder: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_here(request(folder), is_new=True)
    assert verify(store).problems == ()
    other = MemoryStore("other")
    lead_to(other, monkeypatch)
    generate(request(folder))
    assert contents(store, "images/", "review/") == contents(other, "images/", "review/")


@pytest.mark.parametrize("shards_at_a_time", [1, 2])
def test_a_failure_that_passes_is_tried_again(
    folder: Path, store: MemoryStore, fail: Any, monkeypatch: pytest.MonkeyPatch, shards_at_a_time: int
) -> None:
    def raises(shard: int, attempt: int) -> None:
        if shard == 1 and attempt < 4:
            raise StoreUnavailable("the server is busy")

    monkeypatch.setenv("TOYGAN_SHARDS_AT_A_TIME", str(shards_at_a_time))
    attempts = fail(raises)
    shards = run_here(request(folder), is_new=True).manifest.shards
    assert attempts == dict.fromkeys(range(shards), 1) | {1: 4}
    assert verify(store).problems == ()


def test_a_failure_that_stays_does_not_stop_the_others(
    folder: Path, store: MemoryStore, fail: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def raises(shard: int, attempt: int) -> None:
        if shard == 0:
            raise ZeroDivisionError("a defect")

    attempts = fail(raises)
    with pytest.raises(RunFailed, match=r"1 of \d+ shards failed; run again with the run id run-1.*a defect"):
        run_here(request(folder), is_new=True)
    assert attempts[0] == 4
    assert caplog.text.count("shard 0 failed, and is tried again: a defect") == 3
    assert verify(store).open_runs == ("run-1",)
    again = fail(lambda shard, attempt: None)
    run_here(request(folder), is_new=False)
    assert again == {0: 1}
    assert verify(store).problems == ()


def test_bad_input_is_not_tried_again(folder: Path, store: MemoryStore, fail: Any) -> None:
    def raises(shard: int, attempt: int) -> None:
        if shard == 0:
            raise ModelError("the model is gone")

    attempts = fail(raises)
    with pytest.raises(ModelError, match="the model is gone"):
        run_here(request(folder), is_new=True)
    assert set(attempts.values()) == {1}
    assert len(attempts) > 1
