"""Checks and encodes generated pictures in worker processes.

Neither this module nor its imports import torch, so that a worker starts fast and needs little memory.
"""

import gc
import logging
import os
import signal
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from threading import Thread

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from toygan.approval.checks import Reason, check
from toygan.approval.fidelity import check_snapshot
from toygan.approval.measures import Measures, measure
from toygan.artifact.limits import CategoryLimits
from toygan.conditions.shape import Shape
from toygan.images import ImageFormat, encode
from toygan.memory import keep_freed_memory

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a picture was generated from, as far as the checks need it."""

    layout_similarity: float | None  # see `toygan.approval.checks.check`
    snapshot: NDArray[np.uint8] | None  # (R, R, 4), the framed snapshot with the mask of the product
    shape: Shape | None


@dataclass(frozen=True, kw_only=True)
class Postprocessed:
    """One candidate after the checks."""

    measures: Measures | None  # None if the picture could not be measured
    failed_checks: tuple[Reason, ...]  # empty if the picture passed
    file: bytes | None  # the encoded picture; None unless the picture can be approved


@dataclass(frozen=True, kw_only=True)
class PostprocessedBatch:
    candidates: list[Postprocessed]
    began_s: float  # the start by time.monotonic(), the same clock in all processes of a machine
    ended_s: float


def postprocess(
    pixels: NDArray[np.uint8],
    finite: Sequence[bool],
    may_be_approved: Sequence[bool],
    colour_hexes: Sequence[str | None],
    origins: Sequence[Origin],
    limits: Sequence[CategoryLimits],
    image_format: ImageFormat,
) -> PostprocessedBatch:
    """Checks the pictures (B, H, W, 3) and encodes those that `may_be_approved` and pass.

    Each sequence holds one value per picture. A picture that was made from a framed snapshot must agree with
    the snapshot, see `toygan.approval.fidelity`.
    """
    began_s = time.monotonic()
    candidates = [
        _postprocess_one(picture, measures, origin, of_category, image_format if wanted and ok else None)
        for picture, measures, origin, of_category, ok, wanted in zip(
            pixels,
            _measure_all(pixels, colour_hexes, [origin.shape for origin in origins]),
            origins,
            limits,
            finite,
            may_be_approved,
            strict=True,
        )
    ]
    return PostprocessedBatch(candidates=candidates, began_s=began_s, ended_s=time.monotonic())


def _measure_all(
    pixels: NDArray[np.uint8],
    colour_hexes: Sequence[str | None],
    shapes: Sequence[Shape | None],
) -> Sequence[Measures | None]:
    try:
        return measure(pixels, colour_hexes, shapes)
    except Exception:
        # A fault of one picture must not stop the others of the batch.
        log.exception("a batch could not be measured; its pictures are measured one by one")
    return [_measure_one(*each) for each in zip(pixels, colour_hexes, shapes, strict=True)]


def _measure_one(picture: NDArray[np.uint8], colour_hex: str | None, shape: Shape | None) -> Measures | None:
    try:
        return measure(picture[None], [colour_hex], [shape])[0]
    except Exception:
        log.exception("a picture with the wanted colour %s could not be measured", colour_hex)
        return None


def _postprocess_one(
    picture: NDArray[np.uint8],
    measures: Measures | None,
    origin: Origin,
    limits: CategoryLimits,
    image_format: ImageFormat | None,
) -> Postprocessed:
    if measures is None:
        return Postprocessed(measures=None, failed_checks=("not_measurable",), file=None)
    failed = tuple(check(measures, limits, origin.layout_similarity))
    if origin.snapshot is not None:
        failed = check_snapshot(failed, picture, origin.snapshot)
    file = encode(picture, image_format) if image_format and not failed else None
    return Postprocessed(measures=measures, failed_checks=failed, file=file)


def postprocessing_pool(workers: int) -> ProcessPoolExecutor:
    """Starts processes for `postprocess`. Threads would block each other and the generator at the GIL.

    The processes are spawned, not forked, because the parent runs threads. They end with the parent, even if
    the parent is killed.
    """
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start_worker)


def _start_worker() -> None:
    threadpool_limits(1, "blas")  # idle threads of OpenBLAS wait busily
    keep_freed_memory()
    gc.freeze()  # see `toygan.memory.importing`
    _live_with_parent()


def _live_with_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent decides
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()
