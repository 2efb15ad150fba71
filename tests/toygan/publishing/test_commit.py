"""The commit of a run, and the live table after several of them."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog_schemas.images import OF_CANDIDATE, read_current
from catalog_schemas.validation import TableError
from tests.toygan.generation.runs import candidate
from tests.toygan.generation.slots import slot
from tests.toygan.publishing.commits import Key, Run, decisions
from toygan.errors import BadInput, ObjectNotFound
from toygan.publishing.commit import (
    complete_open_runs,
)
from toygan.publishing.commit_log import reserve
from toygan.storage.keys import (
    ATTEMPTS_KEY,
    COMMITS_KEY,
    CURRENT_KEY,
    part_key,
)
from toygan.storage.memory import MemoryStore


class CountingStore(MemoryStore):
    """Notes which keys are put."""

    def __init__(self) -> None:
        super().__init__()
        self.puts: list[str] = []

    def put(self, key: str, data: bytes, *, content_type: str = "application/octet-stream") -> None:
        self.puts.append(key)
        super().put(key, data, content_type=content_type)

    def put_if(self, key: str, data: bytes, version: str | None, **options: str) -> str:
        self.puts.append(key)
        return super().put_if(key, data, version, **options)


def live(store: MemoryStore) -> dict[Key, str]:
    """Which run made each live picture."""
    try:
        rows = read_current(store.get(CURRENT_KEY)).to_pylist()
    except ObjectNotFound:
        return {}
    return {(row["sku"], row["image_index"]): row["run_id"] for row in rows}


def winners(runs: list[Run]) -> dict[Key, str]:
    """By hand: of the runs that approved a picture of a slot the one of the highest commit."""
    best: dict[Key, Run] = {}
    for run in sorted(runs, key=lambda run: (run.commit, run.run_id)):
        best |= {key: run for key, decision in run.decisions.items() if decision == "approved"}
    return {key: run.run_id for key, run in best.items()}


# Two of the same, too: as a store without conditional writes may give.
commits = st.integers(1, 4)


some_runs = st.lists(st.tuples(commits, decisions), min_size=1, max_size=4).map(
    lambda generated: [
        Run(run_id=f"run-{number}", commit=commit, decisions=of)
        for number, (commit, of) in enumerate(generated)
    ]
)


@settings(max_examples=15, deadline=None)
@given(runs=some_runs, data=st.data())
@pytest.mark.slow
def test_the_highest_commit_wins_whatever_the_order_of_the_calls(
    runs: list[Run], data: st.DataObject
) -> None:
    calls = data.draw(st.permutations(runs)) + data.draw(st.lists(st.sampled_from(runs), max_size=3))
    store = MemoryStore()
    for run in runs:
        run.put(store)
    for run in calls:
        run.make_live(store)
    assert live(store) == winners(runs)

    in_order = MemoryStore()
    for run in sorted(runs, key=lambda run: (run.commit, run.run_id)):
        run.put(in_order)
        run.make_live(in_order)
    assert live(in_order) == winners(runs)
    for key in (CURRENT_KEY, ATTEMPTS_KEY, COMMITS_KEY):
        assert store.get(key) == in_order.get(key)
    for key in (CURRENT_KEY, ATTEMPTS_KEY, COMMITS_KEY):  # all that is needed lies in manifests and parts
        store.delete(key)
        complete_open_runs(store)
        assert store.get(key) == in_order.get(key)


@settings(max_examples=10, deadline=None)
@given(runs=some_runs)
@pytest.mark.slow
def test_doing_it_again_writes_nothing(runs: list[Run]) -> None:
    store = CountingStore()
    for run in runs:
        run.put(store)
        run.make_live(store)
    store.puts.clear()
    for run in runs:
        run.make_live(store)
    assert store.puts == []


class Race(MemoryStore):
    """A store in which another run finishes after the live table was read and before it is written."""

    def __init__(self) -> None:
        super().__init__()
        self.other: Run | None = None

    def get_versioned(self, key: str) -> tuple[bytes, str]:
        try:
            return super().get_versioned(key)
        finally:
            if self.other is not None:
                other, self.other = self.other, None
                other.make_live(self)


@settings(max_examples=15, deadline=None)
@given(runs=some_runs, data=st.data())
@pytest.mark.slow
def test_runs_that_finish_at_the_same_moment_lose_nothing(runs: list[Run], data: st.DataObject) -> None:
    store = Race()
    for run in runs:
        run.put(store)
    for run in data.draw(st.permutations(runs)):
        store.other = data.draw(st.sampled_from(runs))
        run.make_live(store)
    assert live(store) == winners(runs)


def test_a_live_row_says_what_its_candidate_said() -> None:
    store = MemoryStore()
    run = Run(
        run_id="run-1",
        commit=1,
        decisions={("bb", 1): "approved", ("a", 0): "approved"},
    )
    run.put(store)
    run.make_live(store)
    table = read_current(store.get(CURRENT_KEY))
    assert [(row["sku"], row["image_index"]) for row in table.to_pylist()] == [("a", 0), ("bb", 1)]
    row = candidate(slot(0, sku="bb", image_index=1), "run-1")
    assert table.to_pylist()[1] == {name: row[name] for name in OF_CANDIDATE} | {
        "commit": 1,
        "decided_by": "machine",
    }


@pytest.mark.parametrize("decision", ["review", "rejected"])
def test_a_run_that_approved_nothing_changes_no_live_picture(decision: str) -> None:
    store = CountingStore()
    failed = Run(run_id="run-2", commit=2, decisions={("a", 0): decision})
    failed.put(store)
    failed.make_live(store)
    assert live(store) == {}
    good = Run(run_id="run-1", commit=1, decisions={("a", 0): "approved"})
    good.put(store)
    good.make_live(store)
    before = store.get(CURRENT_KEY)
    store.puts.clear()
    failed.make_live(store)
    assert store.puts == []
    assert store.get(CURRENT_KEY) == before


def test_the_next_run_makes_a_commit_live_that_was_not() -> None:
    store = MemoryStore()
    first, died = (
        Run(run_id=name, commit=reserve(store, name), decisions={("a", 0): "approved", (name, 0): "review"})
        for name in ("first", "died")
    )
    first.put(store)
    first.make_live(store)
    complete_open_runs(store)
    assert live(store) == {("a", 0): "first"}
    died.put(store)
    complete_open_runs(store)
    assert live(store) == {("a", 0): "died"}
    assert reserve(store, "third") == 3
    complete_open_runs(store)  # it has no manifest yet
    assert live(store) == {("a", 0): "died"}


def test_a_number_is_taken_once_and_kept_by_a_run_that_is_taken_up_again() -> None:
    store = MemoryStore()
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda number: reserve(store, f"run-{number}"), range(40)))
    assert sorted(taken) == list(range(1, 41))
    assert [reserve(store, f"run-{number}") for number in range(40)] == taken


@pytest.mark.parametrize("key", [COMMITS_KEY, ATTEMPTS_KEY])
def test_a_damaged_summary_is_named_with_the_remedy(key: str) -> None:
    store = MemoryStore()
    run = Run(run_id="run-1", commit=1, decisions={("a", 0): "approved"})
    run.put(store)
    run.make_live(store)
    good = store.get(key)
    store.put(key, b"PAR1 and no more")
    with pytest.raises(BadInput, match=f"{key}.*remove it; the next run makes it again"):
        run.make_live(store)
    store.delete(key)
    complete_open_runs(store)
    assert store.get(key) == good


def test_a_missing_or_damaged_part_leaves_the_live_table_as_it_was() -> None:
    store = MemoryStore()
    run = Run(run_id="run-1", commit=1, decisions={("a", 0): "approved"})
    run.put(store)
    store.put(part_key("run-1", 0), b"PAR1 no more")
    with pytest.raises(TableError, match=r"part-00000\.parquet"):
        run.make_live(store)
    store.delete(part_key("run-1", 0))
    with pytest.raises(ObjectNotFound, match=r"part-00000\.parquet"):
        run.make_live(store)
    assert not store.exists(CURRENT_KEY)
