"""What a process computes with: its clock, its cores, its workers, and what becomes of these."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress

import psutil
import pytest
import torch

from tests.conftest import REPOSITORY
from tests.models import ANYTHING, BATCH, COLOURS, products, tiny_model
from tests.toygan.generation.slots import slots
from toygan.artifact.model import GeneratedBatch
from toygan.errors import Retryable, StoreUnavailable
from toygan.generation.engine import (
    Engine,
    Timeline,
    WorkerPool,
)
from toygan.generation.postprocessing import PostprocessedBatch
from toygan.generation.shard import compute_shard
from toygan.storage.memory import MemoryStore

LIMIT_S = 300.0
STAGES = ("generate", "postprocess", "store")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(tiny_model().load(), batch_size=BATCH) as engine:
        yield engine


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not is_so():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def workers() -> set[psutil.Process]:
    """The worker processes of all engines of this process; multiprocessing's resource tracker is none."""
    found = set()
    for child in psutil.Process().children():
        # Processes of earlier tests may end while they are looked at; a zombie is a NoSuchProcess, too.
        with suppress(psutil.NoSuchProcess):
            if any("spawn_main" in part for part in child.cmdline()):
                found.add(child)
    return found


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def finish_one(engine: Engine) -> PostprocessedBatch:
    sampled = engine.generate([1, 2], products("car", COLOURS[:2]))
    limits = [ANYTHING, ANYTHING]
    return engine.worker_pool.postprocess(sampled, [True, False], COLOURS[:2], limits, "webp").result(LIMIT_S)


# the clock


def test_busy_seconds_are_a_union() -> None:
    timeline = Timeline()
    timeline.add("generate", 0.0, 2.0, 8)
    timeline.add("postprocess", 1.0, 3.0, 8)  # overlaps
    timeline.add("store", 1.5, 1.6, 1)  # within
    timeline.add("generate", 5.0, 6.0, 8)  # apart
    timeline.add("store", 6.0, 6.5, 1)  # adjoins
    assert timeline.busy_s() == pytest.approx(4.5)
    assert timeline.busy_s("generate") == pytest.approx(3.0)
    assert timeline.busy_s("postprocess") == pytest.approx(2.0)
    assert timeline.busy_s("store") == pytest.approx(0.6)
    assert timeline.busy_s("generate", "store") == pytest.approx(3.5)
    assert timeline.since(1.5).busy_s() == pytest.approx(1.6)
    assert Timeline().busy_s() == 0.0


def test_busy_seconds_do_not_depend_on_the_order_in_which_work_ended() -> None:
    timeline = Timeline()
    timeline.add("generate", 3.0, 4.0, 1)
    timeline.add("generate", 0.0, 10.0, 1)
    timeline.add("generate", 2.0, 5.0, 1)
    assert timeline.busy_s() == pytest.approx(10.0)


def test_every_stage_leaves_its_time(engine: Engine) -> None:
    began_s = time.monotonic()
    finish_one(engine)
    engine.worker_pool.store(MemoryStore(), "a", b"1", "image/webp").result(LIMIT_S)
    # the note about finished work is made by another thread
    wait_until(
        lambda: {span.stage for span in engine.worker_pool.timeline.since(began_s).spans} == set(STAGES)
    )
    pictures = {span.stage: span.pictures for span in engine.worker_pool.timeline.since(began_s).spans}
    assert pictures == {"generate": 2, "postprocess": 2, "store": 1}
    for span in engine.worker_pool.timeline.since(began_s).spans:
        assert began_s <= span.began_s < span.ended_s <= time.monotonic()


def test_each_core_generates_one_batch_at_a_time() -> None:
    with WorkerPool(torch.device("cpu"), cores=2) as worker_pool:
        engine = Engine(tiny_model().load(), batch_size=BATCH, worker_pool=worker_pool)
        together = threading.Barrier(2)

        def meet(generated: GeneratedBatch) -> int:
            return together.wait(LIMIT_S)  # breaks if the lanes do not run side by side

        lanes = [engine.submit([seed], products("car", [None]), meet) for seed in range(4)]
        assert sorted(lane.result(LIMIT_S) for lane in lanes) == [0, 0, 1, 1]
        began_s = time.monotonic()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda seed: engine.generate([seed], products("car", [None])), range(12)))
        spans = worker_pool.timeline.since(began_s).spans
    assert len(spans) == 12
    at_once = [sum(other.began_s <= span.began_s < other.ended_s for other in spans) for span in spans]
    assert max(at_once) <= 2


def test_lanes_generate_the_same_bytes_as_one_thread(engine: Engine) -> None:
    alone = engine.model.generate([1, 2], products("car", COLOURS[:2]), engine.shape_of(2))
    lanes = [engine.submit([1, 2], products("car", COLOURS[:2]), lambda batch: batch) for _ in range(8)]
    for lane in lanes:
        assert (lane.result(LIMIT_S).pixels == alone.pixels).all()
        assert (lane.result(LIMIT_S).logits == alone.logits).all()


# errors and deaths


class FullStore(MemoryStore):
    def put(self, key: str, data: bytes, *, content_type: str = "application/octet-stream") -> None:
        raise StoreUnavailable("the disk is full")


def test_an_upload_that_failed_says_so_when_it_is_asked(engine: Engine) -> None:
    upload = engine.worker_pool.store(FullStore(), "a", b"1", "image/webp")
    with pytest.raises(StoreUnavailable, match="the disk is full"):
        upload.result(LIMIT_S)
    with pytest.raises(StoreUnavailable, match="the disk is full"):
        compute_shard(slots(4), engine=engine, store=FullStore(), run_id="r", image_format="webp")


@pytest.mark.slow
def test_a_worker_that_is_killed_fails_its_shard_and_the_next_one_works() -> None:
    work = {"run_id": "r", "image_format": "webp"}
    others = workers()
    with Engine(tiny_model().load(), batch_size=BATCH) as engine, ThreadPoolExecutor(1) as pool:
        undisturbed = MemoryStore()
        rows = compute_shard(slots(40), engine=engine, store=undisturbed, **work)
        mine = workers() - others
        assert mine
        for worker in mine:
            worker.suspend()  # so that its work is surely unfinished when it dies
        began_s = time.monotonic()
        shard = pool.submit(compute_shard, slots(40), engine=engine, store=MemoryStore(), **work)
        wait_until(lambda: bool(engine.worker_pool.timeline.since(began_s).spans))
        for worker in mine:
            worker.kill()
        with pytest.raises(Retryable, match=r"a worker process .* was killed"):
            shard.result(LIMIT_S)
        store = MemoryStore()
        again = compute_shard(slots(40), engine=engine, store=store, **work)
    assert [row["sha256"] for row in again] == [row["sha256"] for row in rows]
    assert [(info.key, store.get(info.key)) for info in store.list()] == [
        (info.key, undisturbed.get(info.key)) for info in undisturbed.list()
    ]


@pytest.mark.slow
def test_work_of_a_killed_worker_fails_and_one_new_pool_is_made() -> None:
    others = workers()
    with Engine(tiny_model().load(), batch_size=BATCH) as engine:
        finish_one(engine)
        mine = workers() - others
        for worker in mine:
            worker.suspend()
        sampled = engine.generate([1], products("car", [None]))
        waiting = [
            engine.worker_pool.postprocess(sampled, [True], [None], [ANYTHING], "webp") for _ in range(3)
        ]
        for worker in mine:
            worker.kill()
        for future in waiting:
            with pytest.raises(BrokenProcessPool):
                future.result(LIMIT_S)
        with ThreadPoolExecutor(4) as pool:
            assert len(list(pool.map(lambda _: finish_one(engine), range(4)))) == 4
        assert len([worker for worker in workers() - others if is_alive(worker)]) == len(mine)


def test_closing_ends_the_workers() -> None:
    others = workers()
    with Engine(tiny_model().load(), batch_size=BATCH) as engine:
        finish_one(engine)
        mine = workers() - others
        assert mine
    wait_until(lambda: not any(map(is_alive, mine)))


def test_batches_wait_while_no_worker_process_is_free(engine: Engine) -> None:
    """Drawing runs ahead of the checks by a bounded number of batches."""
    finish_one(engine)
    stopped = workers()
    for worker in stopped:
        worker.suspend()
    began_s = time.monotonic()
    shard = threading.Thread(
        target=compute_shard,
        args=(slots(80),),
        kwargs={"engine": engine, "store": MemoryStore(), "run_id": "r", "image_format": "webp"},
    )
    shard.start()
    wait_until(lambda: len(engine.worker_pool.timeline.since(began_s).spans) >= 4)
    time.sleep(0.2)
    ahead = len(engine.worker_pool.timeline.since(began_s).spans)
    for worker in stopped:
        worker.resume()
    shard.join(LIMIT_S)
    assert ahead == 4
    assert not shard.is_alive()


PARENT = """
from tests.models import ANYTHING, products, tiny_model
from toygan.generation.engine import Engine

if __name__ == "__main__":
    engine = Engine(tiny_model().load(), batch_size=8)
    drawn = engine.generate(range(8), products("car", [None] * 8))
    while True:
        engine.worker_pool.postprocess(drawn, [True] * 8, [None] * 8, [ANYTHING] * 8, "png").result()
        print("busy", flush=True)
"""


@pytest.mark.service
def test_workers_die_with_a_parent_that_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "busy\n"
        children = psutil.Process(parent.pid).children(recursive=True)
        assert children
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    wait_until(lambda: not any(map(is_alive, children)))
