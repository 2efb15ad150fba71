"""`toygan calibrate`: fits the map from a model's score to `p_real`, and the limits of the checks.

The map is fitted to two sets. One consists of the photos of the calibration products (`toygan.data.split`),
which training left out. The other consists of generated pictures with the conditions of those photos. Both
sets show the same products, so only the quality of the pictures distinguishes them. The calibration products
are few. Therefore thresholds and a probe are fitted with the conditions of the photos that training used. All
pictures are generated with the colour profile, which is fitted first. Photos of the split `val` are not used.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from toygan.approval.checks import Reason, check, fit_limits
from toygan.approval.fidelity import check_snapshot
from toygan.approval.fit import fit_calibration
from toygan.approval.measures import AT_ONCE, measure
from toygan.approval.probe import fit_probe
from toygan.artifact.calibration import Calibration, CalibrationSettings
from toygan.artifact.enhancer import enhancer_files
from toygan.artifact.files import CALIBRATION, ModelFiles, model_version
from toygan.artifact.limits import CategoryLimits
from toygan.artifact.load import load_model
from toygan.artifact.model import GeneratedBatch, Model
from toygan.artifact.probe_weights import Floats, ProbeWeights
from toygan.calibration.colour_profile import PROFILED_PER_CATEGORY, fit_profile
from toygan.calibration.decisions import calibrate_with_people
from toygan.calibration.features import features, load_feature_extractor
from toygan.calibration.lines import calibration_lines
from toygan.calibration.photos import photos_of
from toygan.calibration.sampling import generate_of_category
from toygan.conditions.product_shape import product_shapes
from toygan.data.photos import PhotoSet
from toygan.data.split import is_calibration_sku
from toygan.disk import disk_errors, replace_file
from toygan.errors import BadInput, ModelError
from toygan.generation.engine import default_batch_size
from toygan.images import from_uint8
from toygan.progress import Progress
from toygan.registry.hub import hub_reference
from toygan.registry.models import add_files, folder_of, resolve
from toygan.storage.open_store import open_store

if TYPE_CHECKING:
    from toygan.artifact.feature_extractor import FeatureExtractor


@dataclass(frozen=True, kw_only=True)
class CalibrationSamples:
    """The numbers of pictures that a calibration generates for each category.

    A calibration generates two times `generated` plus three times `profiled` pictures. A share of n pictures,
    such as the share that a threshold approves, has a standard error of at most 0.5 / sqrt(n). For 512
    pictures this is 2.2 percentage points.
    """

    generated: int = 512  # the number of pictures for the calibration, and also for the thresholds
    # the number of pictures to fit a colour profile, and also to test it
    profiled: int = PROFILED_PER_CATEGORY

    def __post_init__(self) -> None:
        for name in ("generated", "profiled"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")

    @property
    def per_category(self) -> int:
        """The total number of pictures that are generated for a category."""
        return 2 * self.generated + 3 * self.profiled


def calibrate(
    model: Model,
    photos: PhotoSet,
    *,
    batch_size: int,
    samples: CalibrationSamples | None = None,
    settings: CalibrationSettings | None = None,
    with_probe: bool = False,
) -> Calibration:
    """Fits limits, colour profile, calibration and thresholds of every category of the model.

    Ignores an earlier calibration of the model. `photos` are all photos of the split `train` at the model's
    resolution, with the model's categories. With `with_probe`, a probe (`toygan.approval.probe`) scores the
    pictures in place of the discriminator. Raises BadInput if no photo shows a calibration product. With
    `with_probe`, also raises BadInput if all photos show calibration products. Raises ModelError if the model
    returns NaN or infinity.
    """
    settings, samples = settings or CalibrationSettings(), samples or CalibrationSamples()
    model = replace(model, calibration=None, probe=None, colour_profile=None)
    held_out = _rows_for_calibration(photos, with_probe=with_probe)
    limits = _limits(model, photos)
    if model.may_vary:
        profile = fit_profile(model, photos, batch_size, pictures=samples.profiled)
    else:  # a snapshot gives only one picture, which keeps the snapshot's colours
        most = max(len(photos.of_category(index)) for index in range(len(model.categories)))
        samples, profile = replace(samples, generated=min(samples.generated, most)), None
    model = replace(model, colour_profile=profile)
    extractor = load_feature_extractor(model.device) if with_probe else None
    real = _of_photos(extractor, model, photos, held_out, batch_size)
    numbers = range(samples.generated)
    # these numbers give other seeds than `numbers`
    following = range(samples.generated, 2 * samples.generated)
    generated = _generate(model, photos, held_out, limits, extractor, numbers, batch_size)
    seen = sorted({*range(len(photos))} - {*held_out}) or held_out
    typical = _generate(model, photos, seen, limits, extractor, following, batch_size)
    probe: ProbeWeights | None = None
    typical_logits = _logits(typical, probe)
    if with_probe:
        learnt = _of_photos(extractor, model, photos, seen, batch_size)
        fitted = fit_probe(
            learnt.evidence,
            typical.evidence,
            real_products=learnt.skus,
            generated_products=typical.skus,
            folds=settings.folds,
            seed=settings.seed,
        )
        probe = fitted.weights
        typical_logits = {name: each.tolist() for name, each in fitted.generated_logits.items()}
    calibration = fit_calibration(
        real_logits=_logits(real, probe),
        generated_logits=_logits(generated, probe),
        typical_logits=typical_logits,
        typical_passed=typical.passed,
        limits=limits,
        settings=settings,
    )
    return replace(calibration, probe=probe, colour_profile=model.colour_profile)


def _rows_for_calibration(photos: PhotoSet, *, with_probe: bool) -> list[int]:
    held_out = [row for row, sku in enumerate(photos.skus) if is_calibration_sku(sku)]
    if not held_out:
        raise BadInput(
            f"none of the {len(set(photos.skus))} products is a calibration product; "
            "a tenth of all products is, chosen by the sha256 of the sku; give photos of more products"
        )
    if with_probe and len(held_out) == len(photos):
        raise BadInput(
            "all photos are of calibration products, so no photo is left for the fit of a probe; "
            "give photos of more products, or calibrate without a probe"
        )
    return held_out


def _limits(model: Model, photos: PhotoSet) -> dict[str, CategoryLimits]:
    """Fits the limits of every category. A category without photos gets the limits of all photos."""
    measures = [
        each
        for rows in torch.split(torch.arange(len(photos)), AT_ONCE)
        for each in measure(
            photos.images[rows].permute(0, 2, 3, 1).numpy(),
            [photos.colour_hexes[row] for row in rows.tolist()],
            product_shapes(photos.conditions(rows)),
        )
    ]
    of = {
        name: [measures[row] for row in photos.of_category(index)]
        for index, name in enumerate(model.categories)
    }
    limits = fit_limits({name: each for name, each in of.items() if each})
    pooled = fit_limits({"": measures})[""]
    return {name: limits.get(name, pooled) for name in model.categories}


@dataclass(frozen=True, kw_only=True)
class _Side:
    """Photos or generated pictures, N for each category."""

    evidence: dict[str, Floats]  # (N, K)
    skus: dict[str, list[str]]  # the product of each photo, or the product that gave a picture's conditions


@dataclass(frozen=True, kw_only=True)
class _Generated(_Side):
    passed: dict[str, list[bool]]  # whether each picture passed the checks


def _logits(side: _Side, probe: ProbeWeights | None) -> dict[str, list[float]]:
    """Returns the logits by category: those of the probe, or without a probe those of the discriminator."""
    return {
        name: (each[:, 0] if probe is None else probe.logits(each)).tolist()
        for name, each in side.evidence.items()
    }


def _of_photos(
    extractor: "FeatureExtractor | None", model: Model, photos: PhotoSet, rows: Sequence[int], batch_size: int
) -> _Side:
    """Collects the evidence of the photos `rows` batch by batch, because all photos would fill the memory."""
    batches = [rows[first : first + batch_size] for first in range(0, len(rows), batch_size)]
    if extractor is None:
        evidence = score_photos(model, photos, rows, batch_size)[:, None].astype(np.float64)
    else:
        evidence = np.concatenate([features(extractor, photos.images[batch]) for batch in batches])
    of = {name: (photos.category[rows] == index).numpy() for index, name in enumerate(model.categories)}
    skus = np.array([photos.skus[row] for row in rows])
    return _Side(
        evidence={name: evidence[chosen] for name, chosen in of.items()},
        skus={name: skus[chosen].tolist() for name, chosen in of.items()},
    )


def _generate(
    model: Model,
    photos: PhotoSet,
    wanted_rows: Sequence[int],
    limits: Mapping[str, CategoryLimits],
    extractor: "FeatureExtractor | None",
    numbers: range,
    batch_size: int,
) -> _Generated:
    """Generates one picture for each number and category, with the conditions of the photos `wanted_rows`.

    A model whose pictures do not depend on the seed gets at most one picture for each photo.
    """
    generated, among = _Generated(evidence={}, skus={}, passed={}), frozenset(wanted_rows)
    with Progress(
        total=len(numbers) * len(model.categories), unit="pictures", description="calibrating"
    ) as progress:
        for index, name in enumerate(model.categories):
            of_category = photos.of_category(index)
            # A category without wanted photos uses its other photos. If it has none, it uses all photos.
            rows = [row for row in of_category if row in among] or of_category or range(len(photos))
            products = [replace(photos.product(row), category=name) for row in rows]
            seen, passed = [], []
            own = numbers if model.may_vary else numbers[: len(products)]
            for first in range(0, len(own), batch_size):
                batch = own[first : first + batch_size]
                wanted = [products[number % len(products)] for number in batch]
                generated_batch = generate_of_category(model, "calibration", name, wanted, batch, batch_size)
                images = torch.from_numpy(generated_batch.pixels).permute(0, 3, 1, 2)
                seen.append(
                    generated_batch.logits[:, None].astype(np.float64)
                    if extractor is None
                    else features(extractor, images)
                )
                passed += _pass(generated_batch, [product.colour_hex for product in wanted], limits[name])
                progress.advance(len(batch))
            generated.evidence[name], generated.passed[name] = np.concatenate(seen), passed
            generated.skus[name] = [photos.skus[rows[number % len(rows)]] for number in own]
    return generated


def _pass(
    generated_batch: GeneratedBatch, wanted: Sequence[str | None], limits: CategoryLimits
) -> list[bool]:
    """Says for each picture of a batch whether it passes the checks that a run makes."""
    passed = []
    measured = measure(generated_batch.pixels, wanted, generated_batch.shapes)
    for number, measures in enumerate(measured):
        failed: Sequence[Reason] = check(measures, limits, generated_batch.layout_similarities[number])
        snapshot = generated_batch.snapshots[number]
        if snapshot is not None:
            failed = check_snapshot(failed, generated_batch.pixels[number], snapshot.pixels)
        passed.append(not failed)
    return passed


@torch.inference_mode()
def score_photos(model: Model, photos: PhotoSet, rows: Sequence[int], batch_size: int) -> NDArray[np.float32]:
    """Returns the logits (len(rows),) of real photos; see `Model.score`."""
    logits = []
    for first in range(0, len(rows), batch_size):
        chosen = torch.tensor(rows[first : first + batch_size])
        conditions = {name: value.to(model.device) for name, value in photos.conditions(chosen).items()}
        images = from_uint8(photos.images[chosen].to(model.device))
        logits.append(model.score(images, conditions).cpu().numpy())
    return np.concatenate(logits)


def calibrate_model(
    reference: str,
    *,
    photos: str | Path | None,
    store_uri: str | None,
    device: torch.device,
    settings: CalibrationSettings | None = None,
    with_probe: bool = False,
    enhancer: ModelFiles | None = None,
    decisions_uri: str | None = None,
) -> Iterator[str]:
    """Calibrates the model that `reference` names and yields the results as lines of text.

    - `photos`: see `toygan.data.sources`. Without photos, the calibration is only fitted to the decisions.
    - `with_probe`: see `calibrate`.
    - `enhancer`: is stored with the model, and the calibration is fitted to the enlarged pictures.
    - `decisions_uri`: a store with people's decisions, see `toygan.approval.people`.

    If the model is a folder, the file `calibration.json` is written into it. If the model is in a store, a
    new version is added, since versions never change. Raises ModelError for a bundled model without a store,
    because bundled models are read-only.
    """
    store = open_store(store_uri) if store_uri else None
    source = resolve(reference, store)
    folder = folder_of(reference)
    if folder is None and store is None:
        place = "on the Hub" if hub_reference(reference) else "bundled"
        raise ModelError(
            f"{reference} is {place} and cannot be changed; copy its folder and give the copy, or give "
            "--store URI, to which the calibrated model is added"
        )
    added = {} if enhancer is None else enhancer_files(enhancer)
    source = replace(source, files={**source.files, **added})
    model = load_model(source, device)
    if photos is None:
        calibration = model.require_calibration()
    else:
        real = photos_of(model, photos, split="train").with_text(model.text_encoder)
        calibration = calibrate(
            model, real, batch_size=default_batch_size(model), settings=settings, with_probe=with_probe
        )
    if decisions_uri is not None:
        calibration = calibrate_with_people(calibration, source, open_store(decisions_uri), device)
    text = calibration.to_json().encode()
    if folder is not None:
        with disk_errors(folder, "the model keeps the calibration that it had"):
            for name, data in added.items():
                replace_file(folder / name, data)
            replace_file(folder / CALIBRATION, text)
        version = model_version({**source.files, CALIBRATION: text})
    elif store is not None:
        version = add_files(store, {**source.files, CALIBRATION: text}, source.name)
    yield f"{source.name}@{version} is calibrated; expected calibration error {calibration.ece:.3f}"
    yield from calibration_lines(calibration)
