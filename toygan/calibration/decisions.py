"""Calibrates a model with people's decisions about its pictures, see `toygan.approval.people`."""

import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from catalog_schemas.decisions import APPROVE, REJECT
from toygan.approval.people import DecidedPictures, fit_to_people
from toygan.artifact.calibration import Calibration
from toygan.artifact.files import CALIBRATION, ModelFiles
from toygan.calibration.features import features, load_feature_extractor
from toygan.errors import BadInput, ObjectNotFound
from toygan.images import decode
from toygan.planning.decisions import stored_decisions, without_undone
from toygan.progress import Progress
from toygan.review.record import read_pictures
from toygan.storage.store import ObjectStore

if TYPE_CHECKING:
    from toygan.artifact.feature_extractor import FeatureExtractor

_THREADS = 16
_AT_ONCE = 32  # pictures
_BY_SCORE = "score_below_threshold"

log = logging.getLogger(__name__)


def calibrate_with_people(
    calibration: Calibration, model: ModelFiles, store: ObjectStore, device: torch.device
) -> Calibration:
    """Fits a model's calibration to people's decisions in a store.

    The fit starts from the calibration as it was before any decisions, so the fit can be repeated when there
    are more decisions. If the model has a probe, the decisions about pictures of all versions of the model
    are used, and the probe scores these pictures again. Without a probe, only pictures of this version are
    used, with their stored scores. Raises BadInput if there are too few decisions.
    """
    base = calibration.without_people()
    return fit_to_people(base, decided_pictures(base, model, store, device))


def decided_pictures(
    calibration: Calibration, model: ModelFiles, store: ObjectStore, device: torch.device
) -> DecidedPictures:
    """Returns the pictures that people approved or rejected and that pass all checks.

    A picture whose file is missing or damaged is left out, with a warning. Raises BadInput if there is no
    decision about a picture of the model.
    """
    probe = calibration.probe
    last = _last_decisions(store)
    rows = [
        row
        for row in read_pictures(store, last, ("reasons", "logit")).values()
        if row["model_name"] == model.name
        and (probe or row["model_version"] == model.version)
        and row["category"] in calibration.categories
        and set(row["reasons"]) <= {_BY_SCORE}
        and row["logit"] is not None
    ]
    if not rows:
        raise BadInput(
            f"{store.uri}: none of the {len(last):,} decisions of people is about a picture by {model.name}"
            f"{'' if probe else '@' + model.version} that passes all checks"
        )
    if probe is None:
        _check_scorer(calibration, model)
        return _table(rows, last, np.array([row["logit"] for row in rows]), None)
    rows, evidence = _evidence(store, rows, load_feature_extractor(device, probe.side))
    if not rows:
        raise BadInput(f"{store.uri}: no file of the decided pictures can be read; see `toygan verify`")
    return _table(rows, last, probe.logits(evidence), evidence)


def _check_scorer(calibration: Calibration, model: ModelFiles) -> None:
    """Raises BadInput unless the calibration's discriminator or probe computed the stored scores."""
    if CALIBRATION not in model.files:
        return
    before = Calibration.from_json(model.files[CALIBRATION].decode())
    if before.probe != calibration.probe:
        raise BadInput(
            "the probe of the new calibration did not compute the stored scores of the decided pictures; "
            "give --probe, or calibrate without --decisions first"
        )


def _last_decisions(store: ObjectStore) -> dict[str, bool]:
    """Returns, for each picture with an approval or a rejection, whether its last such decision was an
    approval.
    """
    made = without_undone(stored_decisions(store))
    made = made.filter(pc.is_in(made["decision"], value_set=pa.array([APPROVE, REJECT]))).sort_by("commit")
    return {
        image_id: decision == APPROVE
        for image_id, decision in zip(made["image_id"].to_pylist(), made["decision"].to_pylist(), strict=True)
    }


def _table(
    rows: list[dict[str, Any]],
    last: Mapping[str, bool],
    logits: NDArray[np.float64],
    evidence: NDArray[np.float64] | None,
) -> DecidedPictures:
    return DecidedPictures(
        categories=np.array([row["category"] for row in rows]),
        skus=np.array([row["sku"] for row in rows]),
        is_approved=np.array([last[row["image_id"]] for row in rows]),
        logits=logits,
        evidence=evidence,
    )


def _evidence(
    store: ObjectStore, rows: list[dict[str, Any]], extractor: "FeatureExtractor"
) -> tuple[list[dict[str, Any]], NDArray[np.float64]]:
    """Returns the rows whose pictures can be read, and the evidence (N, K) of these pictures."""
    found, kept = [], []
    with Progress(total=len(rows), unit="pictures", description="scoring") as progress:
        for row, pixels in _pictures(store, rows):
            # The pictures are processed one by one, because they may differ in size.
            found.append(features(extractor, torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)))
            kept.append(row)
            progress.advance(1)
    return kept, np.concatenate(found) if found else np.empty((0, 0))


def _pictures(
    store: ObjectStore, rows: list[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], NDArray[np.uint8]]]:
    def read(row: dict[str, Any]) -> NDArray[np.uint8] | None:
        try:
            return decode(store.get(row["image_uri"]))
        except (BadInput, ObjectNotFound) as error:
            log.warning(
                "the picture %s, about which a person decided, is left out: %s", row["image_uri"], error
            )
            return None

    with ThreadPoolExecutor(_THREADS, "decided-pictures") as pool:
        for first in range(0, len(rows), _AT_ONCE):
            batch = rows[first : first + _AT_ONCE]
            for row, pixels in zip(batch, pool.map(read, batch), strict=True):
                if pixels is not None:
                    yield row, pixels
