"""Computes one shard: each slot gets an approved picture, or a candidate for review, or neither.

Batch n is decided before the slots of batch n + IN_FLIGHT are chosen. So the schedule and the batch shapes
depend only on the plan and the decisions, never on speed. A shard that is computed again gives the same
bytes.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog_schemas.images import APPROVED, REVIEW
from toygan.approval.checks import Reason, is_near_copy
from toygan.approval.policy import (
    another_attempt_helps,
    pick_for_review,
    reasons_against,
    reasons_before_generation,
)
from toygan.artifact.calibration import Calibration
from toygan.artifact.model import (
    GeneratedBatch,
    Model,
)
from toygan.conditions.condition_types import ImageCondition
from toygan.conditions.product import ProductConditions
from toygan.errors import Retryable
from toygan.generation.candidate_row import undecided_row
from toygan.generation.engine import Engine
from toygan.generation.postprocessing import Postprocessed, PostprocessedBatch
from toygan.images import MIME_TYPES, ImageFormat, encode
from toygan.planning.plan import Slot
from toygan.seeds import image_seed
from toygan.storage.keys import image_key, review_key
from toygan.storage.store import ObjectStore


@dataclass(kw_only=True)
class Pending:
    """A slot without a result yet."""

    slot: Slot
    given: ProductConditions  # the conditions without an image
    against: Sequence[Reason]  # reasons against any picture of the slot; only one attempt is made, for review
    tried: "list[Candidate]" = field(default_factory=list)

    @property
    def attempt(self) -> int:
        """The number of the next attempt, counted over all runs of the pipeline."""
        return self.slot.first_attempt + len(self.tried)

    def may_try_again(self, model: Model) -> bool:
        """Whether the slot has attempts left and another one may be approved.

        If the shape is given, the last reasons and the best score decide, see `another_attempt_helps`.
        """
        if self.against or len(self.tried) >= self.slot.attempts or not model.may_vary:
            return False
        rows = [candidate.row for candidate in self.tried]
        scores = [row["p_real"] for row in rows]
        return not model.shape_is_given or another_attempt_helps(
            rows[-1]["reasons"],
            scores,
            threshold=rows[-1]["threshold"],
            has_own_shape=_has_own_shape(model, self.slot),
        )


@dataclass(kw_only=True)
class Candidate:
    """A row of the metadata table, with the picture's pixels while they may still be needed."""

    row: dict[str, Any]
    pixels: NDArray[np.uint8]
    problems: Sequence[Reason] = ()  # the problems of the product's snapshot


@dataclass(kw_only=True)
class Scored:
    """A generated and scored batch that waits for its checks."""

    candidates: list[Candidate]
    finished: Future[PostprocessedBatch]


@dataclass
class Batch:
    """A batch that waits for the device or for its checks."""

    pending: list[Pending]
    scored: Future[Scored]


@dataclass(kw_only=True)
class ShardRun:
    """The state of one shard while it is computed."""

    engine: Engine
    store: ObjectStore
    run_id: str
    image_format: ImageFormat
    calibration: Calibration
    rows: list[dict[str, Any]] = field(default_factory=list)
    uploads: list[Future[None]] = field(default_factory=list)
    # the perceptual hashes of the pictures that this run has approved, for each sku
    phashes: dict[str, list[str]] = field(default_factory=dict)


def compute_shard(
    slots: Sequence[Slot],
    *,
    engine: Engine,
    store: ObjectStore,
    run_id: str,
    image_format: ImageFormat,
) -> list[dict[str, Any]]:
    """Generates, scores and stores the pictures of a shard; returns its rows in the order of the decisions.

    On return, every picture that a row names is in the store. Raises Retryable if a worker process died,
    StoreUnavailable if an upload failed after all retries, ModelError if the model is not calibrated.
    """
    run = ShardRun(
        engine=engine,
        store=store,
        run_id=run_id,
        image_format=image_format,
        calibration=engine.model.require_calibration(),
    )
    given = [
        engine.model.conditions_of(
            category=slot.category,
            title=slot.title,
            description=slot.description,
            language=slot.language,
            colour=slot.colour,
            colour_hex=slot.colour_hex,
            finish=slot.finish,
        )
        for slot in slots
    ]
    against = _reasons_before_generation(engine.model, slots, given)
    waiting = deque(
        Pending(slot=slot, given=product, against=reasons)
        for slot, product, reasons in zip(slots, given, against, strict=True)
    )
    in_flight: deque[Batch] = deque()
    while waiting or in_flight:
        if pictures := engine.next_batch(len(waiting), len(in_flight)):
            in_flight.append(_submit(run, [waiting.popleft() for _ in range(pictures)]))
        else:
            waiting.extend(_decide(run, in_flight.popleft()))
    for upload in run.uploads:
        upload.result()
    return run.rows


def _reasons_before_generation(
    model: Model, slots: Sequence[Slot], given: Sequence[ProductConditions]
) -> Iterator[Sequence[Reason]]:
    """Yields, for each slot, the reasons against its pictures that are known before generation."""
    seeds = [[_seed(model, slot, slot.first_attempt + n) for n in range(slot.attempts)] for slot in slots]
    similarities = model.best_similarities(given, seeds)
    calibration = model.require_calibration()
    # the picture has the snapshot's colour, even if the catalog names no colour
    shows_colour = model.image_condition == "photo"
    for slot, of_bank in zip(slots, similarities, strict=True):
        similarity = None if _has_own_shape(model, slot) else of_bank
        asks_colour = calibration.of(slot.category).limits.colour_delta_e_max is not None
        lacks_colour = asks_colour and not shows_colour and slot.colour_hex is None
        yield reasons_before_generation(best_similarity=similarity, lacks_colour=lacks_colour)


def _has_own_shape(model: Model, slot: Slot) -> bool:
    """Whether the product's own image gives the shape, and not a layout of the bank."""
    return bool(model.config.images_taken(slot.condition_sha256))


def _seed(model: Model, slot: Slot, attempt: int) -> int:
    return image_seed(slot.sku, slot.image_index, attempt, model.name, model.version)


def _submit(run: ShardRun, pending: list[Pending]) -> Batch:
    """Starts the generation of the next attempt of some slots."""
    seeds = [_seed(run.engine.model, each.slot, each.attempt) for each in pending]
    then = partial(_scored, run, pending, seeds)
    return Batch(pending, run.engine.submit(seeds, _with_images(run, pending), then))


def _scored(
    run: ShardRun, pending: Sequence[Pending], seeds: Sequence[int], generated: GeneratedBatch
) -> Scored:
    """Makes the rows of a generated batch, and sends the batch to its checks."""
    scales = [run.calibration.of(each.slot.category) for each in pending]
    p_reals = [scale.p_real(logit) for scale, logit in zip(scales, generated.logits.tolist(), strict=True)]
    may_be_approved = generated.finite & np.greater_equal(p_reals, [scale.threshold for scale in scales])
    may_be_approved &= [not each.against for each in pending]
    may_be_approved &= [snapshot is None or not snapshot.problems for snapshot in generated.snapshots]
    finished = run.engine.worker_pool.postprocess(
        generated,
        may_be_approved.tolist(),
        [each.slot.colour_hex for each in pending],
        [scale.limits for scale in scales],
        run.image_format,
    )
    candidates = []
    for i, each in enumerate(pending):
        snapshot = generated.snapshots[i]
        row = undecided_row(
            each.slot,
            each.given,
            run.engine.model,
            attempt=each.attempt,
            seed=seeds[i],
            layout_similarity=generated.layout_similarities[i],
            snapshot=snapshot,
        )
        row |= {"run_id": run.run_id, "threshold": scales[i].threshold}
        row["batch_size"] = run.engine.shape_of(len(pending))
        if generated.finite[i]:
            row |= {"logit": float(generated.logits[i]), "p_real": p_reals[i]}
        problems = () if snapshot is None else snapshot.problems
        candidates.append(Candidate(row=row, pixels=generated.pixels[i], problems=problems))
    return Scored(candidates=candidates, finished=finished)


def _with_images(run: ShardRun, pending: Sequence[Pending]) -> Sequence[ProductConditions]:
    """Returns the conditions with their images.

    Each attempt reads the images again, because all images of a shard would fill the memory.
    """
    model, read = run.engine.model, run.engine.worker_pool.read_conditions
    digests = [each.slot.condition_sha256 for each in pending]
    taken = [model.config.images_taken(of_slot) for of_slot in digests]
    images: list[dict[ImageCondition, NDArray[np.uint8]]] = [{} for _ in pending]
    for kind in dict.fromkeys(kind for of_slot in taken for kind in of_slot):
        rows = [row for row, of_slot in enumerate(taken) if kind in of_slot]
        found = read(run.store, kind, [digests[row][kind] for row in rows], model.resolution)
        for row, image in zip(rows, found, strict=True):
            images[row][kind] = image
    return [each.given.with_images(own) for each, own in zip(pending, images, strict=True)]


def _decide(run: ShardRun, batch: Batch) -> list[Pending]:
    """Writes the rows of a batch and starts its uploads. Returns the slots that need another attempt."""
    try:
        scored = batch.scored.result()
        finished = scored.finished.result().candidates
    except BrokenProcessPool as error:
        raise Retryable(
            "a worker process that checks pictures was killed, perhaps because memory ran out"
        ) from error
    again = []
    for pending, candidate, checked in zip(batch.pending, scored.candidates, finished, strict=True):
        run.rows.append(candidate.row)
        if _approve(run, pending, candidate, checked):
            continue
        pending.tried.append(candidate)
        if pending.may_try_again(run.engine.model):
            again.append(pending)
        else:
            _send_to_review(run, pending)
    return again


def _approve(run: ShardRun, pending: Pending, candidate: Candidate, checked: Postprocessed) -> bool:
    slot, row, measures = pending.slot, candidate.row, checked.measures
    finite = row["p_real"] is not None
    approved = run.phashes.setdefault(slot.sku, [])
    if finite and measures is not None:
        row |= {
            "phash": measures.phash,
            "fill_ratio": measures.fill_ratio,
            "background_white": measures.background_white,
            "colour_delta_e": measures.colour_delta_e,
        }
    row["reasons"] = reasons_against(
        finite=finite,
        before_generation=[*pending.against, *candidate.problems],
        failed_checks=checked.failed_checks,
        near_copy=row["phash"] is not None and is_near_copy(row["phash"], [*slot.sibling_phashes, *approved]),
        p_real=row["p_real"] if finite else float("nan"),
        threshold=row["threshold"],
    )
    if row["reasons"] or checked.file is None:
        return False
    approved.append(row["phash"])
    _keep(
        run,
        row,
        APPROVED,
        image_key(slot.category, slot.sku, row["image_id"], run.image_format),
        checked.file,
    )
    return True


def _send_to_review(run: ShardRun, pending: Pending) -> None:
    """Stores the best candidate, unless an earlier run left one with at least its score."""
    tried = pending.tried
    best = pick_for_review(
        [candidate.row["p_real"] for candidate in tried], better_than=pending.slot.review_p_real
    )
    if best is not None:
        row = tried[best].row
        file = encode(tried[best].pixels, run.image_format)
        _keep(run, row, REVIEW, review_key(run.run_id, row["image_id"], run.image_format), file)


def _keep(run: ShardRun, row: dict[str, Any], decision: str, key: str, file: bytes) -> None:
    """Starts the upload of a picture, and writes the decision and the picture's key into its row."""
    row |= {
        "decision": decision,
        "image_uri": key,
        "sha256": sha256(file).hexdigest(),
        "width": run.engine.model.resolution,
        "height": run.engine.model.resolution,
        "format": run.image_format,
        "bytes": len(file),
    }
    run.uploads.append(run.engine.worker_pool.store(run.store, key, file, MIME_TYPES[run.image_format]))
