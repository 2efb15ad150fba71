"""The resources of a process: models on a device, worker processes, threads that store.

The stages of the work overlap. While the device generates a batch, worker processes check and encode earlier
batches, and threads upload the approved pictures. On a CPU several lanes, that is threads, generate at the
same time, each on one core. Two lanes are faster than two threads for one batch, especially if the machine
has other work. Every stage records its times in the `Timeline`.
"""

import gc
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from toygan.artifact.limits import CategoryLimits
from toygan.artifact.model import GeneratedBatch, Model
from toygan.conditions.condition_types import ImageCondition
from toygan.conditions.image import READERS
from toygan.conditions.product import ProductConditions
from toygan.device import usable_cores
from toygan.generation.postprocessing import Origin, PostprocessedBatch, postprocess, postprocessing_pool
from toygan.images import ImageFormat
from toygan.memory import keep_freed_memory
from toygan.planning.condition_files import read_kept
from toygan.storage.store import ObjectStore

Stage = Literal["generate", "postprocess", "store"]
Result = TypeVar("Result")

STORING_THREADS = 16
IN_FLIGHT = 4  # the largest number of batches of a shard that are generated but not decided
# The size of the largest batch on a CPU, as pictures x height x width. Larger batches than 2 pictures of 128
# x 128 pixels are not faster per picture, and need more memory. On a GPU, the largest batch has 512 pictures
# of 64 x 64 pixels.
CPU_BATCH_PIXELS = 2**15
CUDA_BATCH_PIXELS = 2**21
MOST_CPU_PICTURES = 32


@dataclass(frozen=True, slots=True)
class Span:
    """One piece of work: when it ran (time.monotonic()) and how many pictures it handled."""

    stage: Stage
    began_s: float
    ended_s: float
    pictures: int


@dataclass
class Timeline:
    """The pieces of work that a process has done, in the order in which they ended.

    Safe to use from many threads.
    """

    spans: list[Span] = field(default_factory=list)

    def add(self, stage: Stage, began_s: float, ended_s: float, pictures: int) -> None:
        self.spans.append(Span(stage, began_s, ended_s, pictures))

    def since(self, began_s: float) -> "Timeline":
        """The pieces of work that began at `began_s` or later."""
        return Timeline([span for span in self.spans if span.began_s >= began_s])

    def busy_s(self, *stages: Stage) -> float:
        """The time in seconds during which at least one of `stages` (default: all) was at work.

        Overlaps count once.
        """
        chosen = sorted((s.began_s, s.ended_s) for s in self.spans if not stages or s.stage in stages)
        total, covered_to = 0.0, float("-inf")
        for began_s, ended_s in chosen:
            total += max(0.0, ended_s - max(began_s, covered_to))
            covered_to = max(covered_to, ended_s)
        return total


def default_batch_size(model: Model) -> int:
    """Returns the number of pictures in the largest batch.

    It depends only on model, resolution and device.
    """
    on_cpu = model.device.type == "cpu"
    pictures = (CPU_BATCH_PIXELS if on_cpu else CUDA_BATCH_PIXELS) // model.generated_resolution**2
    return max(1, min(pictures, MOST_CPU_PICTURES) if on_cpu else pictures)


def batch_shapes(largest: int, device: torch.device) -> tuple[int, ...]:
    """Returns the numbers of pictures that a batch may have, ascending.

    The bytes of a picture depend on the shape of its batch. The shapes are `largest` and the powers of two on
    a CPU. On a GPU, where batches are padded, there are fewer shapes: each is about a quarter of the next.
    """
    step = 2 if device.type == "cpu" else 4
    shapes = {largest}
    while largest > 1:
        largest = max(1, largest // step)
        shapes.add(1 << (largest.bit_length() - 1))
    return tuple(sorted(shapes))


def share_cores(device: torch.device, cores: int | None = None) -> tuple[int, int]:
    """Returns the number of lanes that generate and the number of worker processes that postprocess.

    `cores` is the number of cores to use, by default all that the process may use. On a CPU each core gets a
    lane, because generating a batch takes much longer than postprocessing it. A GPU has one lane, which needs
    one core of the machine.
    """
    cores = cores or usable_cores()
    if device.type == "cpu":
        return cores, max(1, cores // 4)
    return 1, max(1, cores - 1)


class WorkerPool(AbstractContextManager["WorkerPool"]):
    """The resources that the models of a process share: a device, postprocessing workers, storing threads."""

    def __init__(self, device: torch.device, *, cores: int | None = None) -> None:
        self.timeline = Timeline()
        lanes, self._workers = share_cores(device, cores)
        torch.set_num_threads(1)
        threadpool_limits(1, "blas")
        gc.freeze()  # a collection that visits the objects of all modules stops every lane
        if device.type == "cpu":
            keep_freed_memory()
        self._device = ThreadPoolExecutor(lanes, "device", initializer=torch.set_num_threads, initargs=(1,))
        self._postprocessing_lock = threading.Lock()
        self._postprocessing = postprocessing_pool(self._workers)
        for _ in range(self._workers):  # started now, so that the workers start while models are being loaded
            self._postprocessing.submit(int)
        self._storing = ThreadPoolExecutor(STORING_THREADS, thread_name_prefix="store")

    def on_device(self, work: Callable[[], Result]) -> Future[Result]:
        """Runs a function in the next free lane of the device. Calls of all models are served in order."""
        return self._device.submit(work)

    def postprocess(
        self,
        generated: GeneratedBatch,
        may_be_approved: Sequence[bool],
        colour_hexes: Sequence[str | None],
        limits: Sequence[CategoryLimits],
        image_format: ImageFormat,
    ) -> Future[PostprocessedBatch]:
        """Sends the pictures to a worker process; see `toygan.generation.postprocessing.postprocess`.

        A pool with a killed worker takes no more work. The shards that wait for the pool fail with
        BrokenProcessPool, and are tried again with a new pool.
        """
        origins = [
            Origin(
                layout_similarity=similarity,
                snapshot=None if snapshot is None else snapshot.pixels,
                shape=shape,
            )
            for similarity, snapshot, shape in zip(
                generated.layout_similarities, generated.snapshots, generated.shapes, strict=True
            )
        ]
        of_each = (generated.finite.tolist(), may_be_approved, colour_hexes, origins, limits)
        work = (generated.pixels, *of_each, image_format)
        with self._postprocessing_lock:
            try:
                future = self._postprocessing.submit(postprocess, *work)
            except BrokenProcessPool:
                _let_go(self._postprocessing)
                self._postprocessing = postprocessing_pool(self._workers)
                future = self._postprocessing.submit(postprocess, *work)
        future.add_done_callback(self._note_postprocessed)
        return future

    def store(self, store: ObjectStore, key: str, data: bytes, content_type: str) -> Future[None]:
        """Uploads an object in a thread, with the caller's context variables.

        The caller must check the result before a commit.
        """
        return self._storing.submit(copy_context().run, self._put, store, key, data, content_type)

    def read_conditions(
        self, store: ObjectStore, kind: ImageCondition, digests: Sequence[str], resolution: int
    ) -> list[NDArray[np.uint8]]:
        """Reads the kept files with the sha256 `digests`, by means of `toygan.conditions.image`.

        Raises BadInput when a file is missing or damaged.
        """

        def read(digest: str) -> NDArray[np.uint8]:
            return READERS[kind](read_kept(store, digest), resolution)

        return list(self._storing.map(read, digests))

    def _put(self, store: ObjectStore, key: str, data: bytes, content_type: str) -> None:
        began_s = time.monotonic()
        store.put(key, data, content_type=content_type)
        self.timeline.add("store", began_s, time.monotonic(), 1)

    def _note_postprocessed(self, future: Future[PostprocessedBatch]) -> None:
        if not future.cancelled() and future.exception() is None:
            batch = future.result()
            self.timeline.add("postprocess", batch.began_s, batch.ended_s, len(batch.candidates))

    def close(self) -> None:
        self._device.shutdown(cancel_futures=True)
        self._postprocessing.shutdown(cancel_futures=True)
        self._storing.shutdown(cancel_futures=True)

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _let_go(broken: ProcessPoolExecutor) -> None:
    """Closes the reading end of a broken pool's pipe, so that the thread that writes to it ends.

    Before 3.11.7 and 3.12.1, Python waits for this thread when the process ends, and the thread waits for the
    killed worker (CPython's issue 94777). Debian 12 has Python 3.11.2. Later versions close the pipe
    themselves, perhaps at this moment, and the same file cannot be closed twice.
    """
    version = sys.version_info
    if version >= (3, 12, 1) or (3, 11, 7) <= version < (3, 12):
        return
    queue = getattr(broken, "_call_queue", None)
    if queue is not None:
        queue._reader.close()


class Engine(AbstractContextManager["Engine"]):
    """A model with its batch shapes and its worker pool. Several shards may use it at the same time.

    Engines may share a worker pool. An engine without a given pool creates one, and closes this pool when it
    is closed itself.
    """

    def __init__(
        self, model: Model, *, batch_size: int | None = None, worker_pool: WorkerPool | None = None
    ) -> None:
        self.model = model
        self.batch_size = batch_size or default_batch_size(model)
        self.shapes = batch_shapes(self.batch_size, model.device)
        self.worker_pool = worker_pool or WorkerPool(model.device)
        self._owns_worker_pool = worker_pool is None

    def next_batch(self, waiting: int, in_flight: int) -> int:
        """Returns how many waiting pictures the next batch gets; 0 if a batch has to be decided before.

        `in_flight` batches, at most IN_FLIGHT, are submitted and not decided. On a CPU, padding takes as long
        as pictures, and small batches hardly longer than large ones. So the last pictures go into small
        batches, whose shapes they fill, and every lane gets work. The number does not depend on the lanes,
        because the bytes of a picture depend on the shape of its batch. A GPU takes about as long for a small
        batch as for a large one, so it waits for pictures until no batch is in flight.
        """
        if not waiting or in_flight >= IN_FLIGHT:
            return 0
        if self.model.device.type != "cpu":
            return min(waiting, self.batch_size) if waiting >= self.batch_size or not in_flight else 0
        if waiting > self.batch_size:
            return self.batch_size
        share = -(-waiting // IN_FLIGHT)
        return max(shape for shape in self.shapes if shape <= share)

    def shape_of(self, pictures: int) -> int:
        """Returns the smallest batch shape that holds `pictures` pictures."""
        return next(shape for shape in self.shapes if shape >= pictures)

    def generate(self, seeds: Sequence[int], products: Sequence[ProductConditions]) -> GeneratedBatch:
        """Generates and scores the pictures, at most `batch_size` of them, in a lane of the device."""
        return self.submit(seeds, products, lambda generated: generated).result()

    def submit(
        self,
        seeds: Sequence[int],
        products: Sequence[ProductConditions],
        then: Callable[[GeneratedBatch], Result],
    ) -> Future[Result]:
        """Starts `generate`. The lane calls `then` with the batch; the future's result is that of `then`."""

        def work() -> Result:
            began_s = time.monotonic()
            generated = self.model.generate(seeds, products, self.shape_of(len(seeds)))
            self.worker_pool.timeline.add("generate", began_s, time.monotonic(), len(seeds))
            return then(generated)

        return self.worker_pool.on_device(work)

    def __exit__(self, *exc_info: object) -> None:
        if self._owns_worker_pool:
            self.worker_pool.close()
