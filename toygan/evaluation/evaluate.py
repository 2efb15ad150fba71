"""`toygan evaluate`: measures the pictures of a model against the photos of the split `val`.

The photos of `val` are used only for measuring: no model is trained on them, calibrated with them or chosen
by them. The pictures are generated with the conditions of the photos in `val`, the same number with those of
each photo. The photos of `train` are used in three ways. Pictures are compared with them, to find copies. The
category classifier and the segmenter are trained on them. Their figures show what a perfect model would
reach.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from timm.models import EfficientNet
from torch import Tensor

from toygan.approval.checks import Reason, check
from toygan.approval.fidelity import with_snapshot
from toygan.approval.measures import Measures, measure
from toygan.artifact.limits import CategoryLimits
from toygan.artifact.load import load_model
from toygan.artifact.model import Model
from toygan.calibration.calibrate import score_photos
from toygan.calibration.photos import photos_of
from toygan.conditions.shape import Shape
from toygan.data.photos import PhotoSet
from toygan.errors import BadInput
from toygan.evaluation import metrics
from toygan.evaluation.approval import (
    ACCEPTANCE,
    approve,
    approve_randomly,
    calibration_error,
    mean_scores,
)
from toygan.evaluation.features import (
    Efficientnet,
    FeatureNetwork,
    FeatureNetworkName,
    Features,
    load_feature_network,
    load_network,
)
from toygan.evaluation.generated import (
    GeneratedPictures,
    Pairs,
    generate_pictures,
    generated_pairs,
    photo_pairs,
)
from toygan.evaluation.perceptual import perceptual_distances
from toygan.evaluation.result import Approval, Evaluation, Pair
from toygan.evaluation.sample_sets import FEWEST as FEWEST
from toygan.evaluation.sample_sets import (
    SampleSet,
    Segmented,
    colour_errors,
    compare,
    fit_classifier,
    group,
)
from toygan.evaluation.segmentation import EPOCHS, fit_segmenter, segment, shrink
from toygan.generation.engine import default_batch_size
from toygan.images import encode
from toygan.models.segmenter import Segmenter
from toygan.progress import Progress
from toygan.registry.models import resolve
from toygan.storage.open_store import open_store

PICTURES: Final = 1000
CLOSEST: Final = 8
NEAR_COPY_QUANTILE: Final = 0.01
RANDOM_DRAWS: Final = 5


def evaluate_model(
    reference: str,
    *,
    photos: str | Path,
    store_uri: str | None,
    device: torch.device,
    pictures: int = PICTURES,
    seed: int = 0,
    feature_network: FeatureNetworkName = "efficientnet",
    inception_weights: Path | None = None,
) -> Evaluation:
    """Evaluates the model that `reference` names (`toygan.registry.models.resolve`).

    `photos`: see `toygan.data.sources`. Raises ModelError; raises BadInput for photos that cannot be used and
    for a feature network with missing weights.
    """
    model = load_model(resolve(reference, open_store(store_uri) if store_uri else None), device)
    network = load_feature_network(feature_network, device, inception_weights=inception_weights)
    val, train = (photos_of(model, photos, split=split) for split in ("val", "train"))
    return evaluate(model, val, train, pictures=pictures, seed=seed, network=network)


def evaluate(
    model: Model,
    val: PhotoSet,
    train: PhotoSet,
    *,
    pictures: int = PICTURES,
    seed: int = 0,
    network: FeatureNetwork | None = None,
) -> Evaluation:
    """Generates `pictures` pictures and measures them on the model's device; equal seeds give equal figures.

    Both photo sets have the model's resolution, categories and condition images. `network` is
    EfficientNet-Lite0 by default. On one core it takes about 50 ms for each picture and each photo, and five
    minutes more for a model that takes layouts. Raises BadInput for fewer than ten pictures, fewer than ten
    photos of `val`, or fewer than ten photos of `train`. Raises ModelError if a picture is not finite.
    """
    for count, what in ((pictures, "pictures"), (len(val), "photos of val"), (len(train), "training photos")):
        if count < FEWEST:
            raise BadInput(f"{count} {what} are too few; at least {FEWEST} are needed")
    network = network or Efficientnet(model.device)
    takes_layouts = model.image_condition == "layout"
    work = 2 * pictures + len(val) + len(train) + (EPOCHS * len(train) if takes_layouts else 0)
    with Progress(total=work, unit="pictures", description="evaluating") as progress:
        generated = generate_pictures(model, val, pictures=pictures, seed=seed, progress=progress)
        train_features, val_features, generated_features = (
            network.extract(images, progress.advance)
            for images in (train.images, val.images, generated.images)
        )
        segmenter = _fit_segmenter(model, val, train, seed, progress.advance) if takes_layouts else None
    perceptual_network = network.network if isinstance(network, Efficientnet) else load_network(model.device)
    measure_set = _Measurement(val, train, train_features, perceptual_network, segmenter)
    val_pairs, no_shapes = photo_pairs(val, model.image_condition), [None] * len(val)
    val_set, _, _ = measure_set(val.images, np.arange(len(val)), val_features, val_pairs, no_shapes)
    pairs = generated_pairs(generated, val.category.numpy()[generated.rows])
    generated_set, nearest, measured = measure_set(
        generated.images, generated.rows, generated_features, pairs, generated.shapes
    )
    sample = np.random.default_rng(seed).permutation(len(train))[:pictures]
    groups = {
        name: (generated_set.of(index), val_set.of(index)) for index, name in enumerate(model.categories)
    }
    return Evaluation(
        model=model.name,
        version=model.version,
        family=model.family,
        resolution=model.resolution,
        feature_network=network.name,
        seed=seed,
        neighbours=metrics.NEIGHBOURS,
        overall=group(generated_set, val_set, whole=True),
        training_photos=compare(train_features[sample], val_features, whole=True),
        categories={
            name: group(generated, real, whole=False)
            for name, (generated, real) in groups.items()
            if len(generated.category) and len(real.category)
        },
        near_copies=_near_copies(generated_set, val_set),
        closest=_closest(generated, generated_set, nearest, val, train),
        approval=_approval(model, val, generated, measured, generated_set, val_set, seed),
    )


def _near_copies(generated: SampleSet, val: SampleSet) -> float:
    """Returns the share of pictures that are nearer to a training photo than 99 % of the val photos."""
    return float((generated.to_training < np.quantile(val.to_training, NEAR_COPY_QUANTILE)).mean())


def pairs_png(pairs: tuple[Pair, ...]) -> bytes:
    """Returns a PNG of the pairs side by side: the generated picture above, the training photo below."""
    columns = [np.concatenate(list(pair.pixels), axis=0) for pair in pairs]
    return encode(np.concatenate(columns, axis=1), "png")


def _fit_segmenter(
    model: Model, val: PhotoSet, train: PhotoSet, seed: int, on_batch: Callable[[int], None]
) -> Segmenter:
    classes = 1 + max(int(photos.condition_images.max()) for photos in (val, train))  # type: ignore[union-attr]
    assert train.condition_images is not None
    return fit_segmenter(
        train.images, train.condition_images, classes, seed, model.device, epochs=EPOCHS, on_batch=on_batch
    )


class _Measurement:
    """Measures the photos of val, and generated pictures with the conditions of these photos."""

    def __init__(
        self,
        val: PhotoSet,
        train: PhotoSet,
        train_features: Features,
        perceptual_network: EfficientNet,
        segmenter: Segmenter | None,
    ) -> None:
        self.val = val
        self.train_features = train_features
        self.segmenter = segmenter
        self.classifier = fit_classifier(train_features, train.category.numpy())
        self.perceptual_network = perceptual_network

    def __call__(
        self,
        images: Tensor,
        rows: NDArray[np.int64],
        found: Features,
        pairs: Pairs,
        shapes: Sequence[Shape | None],
    ) -> tuple[SampleSet, NDArray[np.int64], list[Measures]]:
        """Returns the sample set, the row of each picture's nearest training photo, and the measures.

        `images` are (N, 3, R, R) uint8. `rows` (N,) are the val photos that gave the conditions. `shapes` are
        those of the N products, None where they are not known.
        """
        category = self.val.category.numpy()[rows]
        hexes = [self.val.colour_hexes[row] for row in rows]
        measured = measure(images.permute(0, 2, 3, 1).numpy(), hexes, shapes)
        nearest, distance = metrics.nearest(found, self.train_features)
        segmented = None
        if self.segmenter is not None and self.val.condition_images is not None:
            segmented = Segmented(
                found=segment(self.segmenter, images),
                wanted=shrink(self.val.condition_images[rows]),
                classes=self.segmenter.classes,
            )
        right = None
        if self.classifier is not None:
            right = np.asarray(self.classifier.predict(found) == category)
        side = SampleSet(
            features=found,
            category=category,
            delta_e=colour_errors(measured),
            right=right,
            to_training=distance,
            pair_category=category[pairs[:, 0]],
            pair_distance=perceptual_distances(
                self.perceptual_network, images[pairs[:, 0]], images[pairs[:, 1]]
            ),
            segmented=segmented,
        )
        return side, nearest, measured


def _approval(
    model: Model,
    val: PhotoSet,
    pictures: GeneratedPictures,
    measured: list[Measures],
    generated: SampleSet,
    real: SampleSet,
    seed: int,
) -> Approval | None:
    """Measures the benefit of the model's calibration; returns None for a model without a calibration."""
    if model.calibration is None:
        return None
    calibration, category, names = model.require_calibration(), generated.category, model.categories
    calibrations = [calibration.of(name) for name in names]
    rows = list(range(len(val)))
    val_logits = score_photos(model, val.with_text(model.text_encoder), rows, default_batch_size(model))
    generated_p, val_p = (
        np.array([calibrations[c].p_real(logit) for c, logit in zip(side.category, logits, strict=True)])
        for side, logits in ((generated, pictures.logits), (real, val_logits))
    )
    limits = [calibrations[c].limits for c in category]
    passed = _pass_checks(pictures, measured, limits)
    reached = np.array([p >= calibrations[c].threshold for c, p in zip(category, generated_p, strict=True)])
    random = np.random.default_rng(seed)
    approved = approve(generated_p, passed, category, ACCEPTANCE)
    by_score = approve(generated_p, np.ones_like(passed), category, ACCEPTANCE)
    draws = [approve_randomly(category, ACCEPTANCE, random) for _ in range(RANDOM_DRAWS)]
    bins = calibration.settings.bins
    return Approval(
        acceptance=ACCEPTANCE,
        own_acceptance=float((passed & reached).mean()),
        # FID is left out, because it depends on the number of pictures, and these are only half of them.
        approved=compare(generated.features[approved], real.features, whole=False),
        by_score=compare(generated.features[by_score], real.features, whole=False),
        random=mean_scores([compare(generated.features[each], real.features, whole=False) for each in draws]),
        calibration_error=calibration_error(val_p, generated_p, bins=bins, seed=seed),
        category_calibration_error={
            name: calibration_error(
                val_p[real.category == index], generated_p[category == index], bins=bins, seed=seed
            )
            for index, name in enumerate(names)
        },
    )


def _pass_checks(
    pictures: GeneratedPictures, measured: Sequence[Measures], limits: Sequence[CategoryLimits]
) -> NDArray[np.bool_]:
    """Says for each picture whether it passes the checks that a run makes, (N,)."""
    passed = []
    for number, (measures, of_category) in enumerate(zip(measured, limits, strict=True)):
        failed: Sequence[Reason] = check(measures, of_category, pictures.layout_similarities[number])
        agrees = pictures.agree[number]
        passed.append(not (failed if agrees is None else with_snapshot(failed, agrees=agrees)))
    return np.array(passed)


def _closest(
    pictures: GeneratedPictures,
    generated: SampleSet,
    nearest: NDArray[np.int64],
    val: PhotoSet,
    train: PhotoSet,
) -> tuple[Pair, ...]:
    """Returns the closest pairs of a generated picture and its nearest training photo.

    Each photo is in at most one pair.
    """
    pairs: dict[int, Pair] = {}
    for number in np.argsort(generated.to_training, kind="stable").tolist():
        photo, row = int(nearest[number]), int(pictures.rows[number])
        if photo in pairs:
            continue
        both = torch.stack([pictures.images[number], train.images[photo]])
        pairs[photo] = Pair(
            category=val.categories[val.category[row]],
            colour_hex=val.colour_hexes[row],
            seed=pictures.seeds[number],
            sku=train.skus[photo],
            distance=float(generated.to_training[number]),
            pixels=both.permute(0, 2, 3, 1).numpy(),
        )
        if len(pairs) == CLOSEST:
            break
    return tuple(pairs.values())
