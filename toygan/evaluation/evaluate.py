"""`toygan evaluate`: the pictures of a model against the photos of the split `val`.

`val` is there for measuring only: no model trains on it, is calibrated or chosen by it. The generated
pictures are in the conditions of its photos, each photo's equally often. The photos of `train` serve
as the memory that a model may have copied from, as the teacher of the category classifier, and as the
pictures that a perfect model would draw.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from toygan.approval.measures import measure
from toygan.data.photos import PhotoSet, load_photos
from toygan.errors import BadInput, ModelError
from toygan.evaluation import features, metrics
from toygan.evaluation.result import Evaluation, Group, Pair, Scores
from toygan.generation.engine import default_batch_size
from toygan.generation.model import Model, load_model
from toygan.images import encode
from toygan.progress import Progress
from toygan.registry import resolve
from toygan.seeds import image_seed
from toygan.storage.store import open_store

PICTURES: Final = 1000
FEWEST: Final = 10  # of pictures and of photos, for figures that compare the two
CLOSEST: Final = 8
NEAR_COPY_QUANTILE: Final = 0.01

Features = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Drawings:
    """The N generated pictures of an evaluation."""

    images: Tensor  # (N, 3, R, R) uint8
    rows: NDArray[np.int64]  # (N,), the photo whose conditions were drawn
    seeds: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class _Side:
    """N pictures, generated or real, with all that is compared."""

    features: Features  # (N, D)
    category: NDArray[np.int64]  # (N,)
    delta_e: NDArray[np.float64]  # (N,), NaN where no colour is wanted
    right: NDArray[np.bool_] | None  # (N,), whether the classifier names the category
    to_training: NDArray[np.float64]  # (N,), distance to the nearest training photo

    def of(self, category: int) -> "_Side":
        chosen = self.category == category
        return _Side(
            features=self.features[chosen],
            category=self.category[chosen],
            delta_e=self.delta_e[chosen],
            right=None if self.right is None else self.right[chosen],
            to_training=self.to_training[chosen],
        )


def evaluate_model(
    reference: str,
    *,
    photos: str | Path,
    store_uri: str | None,
    device: torch.device,
    pictures: int = PICTURES,
    seed: int = 0,
) -> Evaluation:
    """Evaluates the model that `reference` names (`toygan.registry.resolve`).

    `photos`: see `toygan.data.sources`. Raises ModelError, and BadInput for photos that cannot be used.
    """
    model = load_model(resolve(reference, open_store(store_uri) if store_uri else None), device)
    val, train = (
        load_photos(
            photos,
            resolution=model.resolution,
            split=split,
            categories=model.categories,
            image_condition=model.image_condition,
        )
        for split in ("val", "train")
    )
    return evaluate(model, val, train, pictures=pictures, seed=seed)


def evaluate(
    model: Model, val: PhotoSet, train: PhotoSet, *, pictures: int = PICTURES, seed: int = 0
) -> Evaluation:
    """Draws `pictures` pictures and measures them, on the model's device; equal seeds give equal figures.

    Both photo sets are of the model's resolution and categories. Takes some 50 ms a picture and photo on a
    core. Raises BadInput for fewer than ten of pictures, of `val` or of `train`, ModelError where a picture
    is not finite.
    """
    for count, what in ((pictures, "pictures"), (len(val), "photos of val"), (len(train), "training photos")):
        if count < FEWEST:
            raise BadInput(f"{count} {what} are too few to measure with; {FEWEST} is the least")
    network = features.load_network(model.device)
    work = 2 * pictures + len(val) + len(train)
    with Progress(total=work, unit="pictures", description="evaluating") as progress:
        drawings = draw(model, val, pictures=pictures, seed=seed, progress=progress)
        train_features, val_features, drawn_features = (
            features.extract(network, images, progress.advance)
            for images in (train.images, val.images, drawings.images)
        )
    classifier = _fit_classifier(train_features, train.category.numpy())
    val_side, _ = _measure(val.images, val, np.arange(len(val)), val_features, train_features, classifier)
    drawn_side, nearest = _measure(
        drawings.images, val, drawings.rows, drawn_features, train_features, classifier
    )
    sample = np.random.default_rng(seed).permutation(len(train))[:pictures]
    groups = {name: (drawn_side.of(index), val_side.of(index)) for index, name in enumerate(model.categories)}
    return Evaluation(
        model=model.name,
        version=model.version,
        family=model.family,
        resolution=model.resolution,
        feature_network=features.NETWORK,
        seed=seed,
        neighbours=metrics.NEIGHBOURS,
        overall=_group(drawn_side, val_side, whole=True),
        training_photos=_compare(train_features[sample], val_features, whole=True),
        categories={
            name: _group(drawn, real, whole=False)
            for name, (drawn, real) in groups.items()
            if len(drawn.category) and len(real.category)
        },
        near_copies=float(
            (drawn_side.to_training < np.quantile(val_side.to_training, NEAR_COPY_QUANTILE)).mean()
        ),
        closest=_closest(drawings, drawn_side, nearest, val, train),
    )


def draw(model: Model, photos: PhotoSet, *, pictures: int, seed: int, progress: Progress) -> Drawings:
    """Pictures in the conditions of `photos`, each photo's equally often, within one.

    The latents depend on `seed` and the model's name, so two versions of a model draw from the same ones.
    Raises ModelError where a picture is not finite.
    """
    random = np.random.default_rng(seed)
    rounds = -(-pictures // len(photos))
    rows = np.concatenate([random.permutation(len(photos)) for _ in range(rounds)])[:pictures]
    # No sku holds a space, so these pictures are of no product.
    seeds = [image_seed(f"evaluation {seed}", number, 0, model.name, "") for number in range(pictures)]
    batch_size = default_batch_size(model)
    pixels, broken = [], 0
    for first in range(0, pictures, batch_size):
        chosen = rows[first : first + batch_size]
        drawn = model.draw(
            seeds[first : first + batch_size], [photos.product(row) for row in chosen], batch_size
        )
        pixels.append(drawn.pixels)
        broken += int((~drawn.finite).sum())
        progress.advance(len(chosen))
    if broken:
        raise ModelError(
            f"{broken} of {pictures} pictures of {model.name} are not finite; the model is broken"
        )
    images = torch.from_numpy(np.concatenate(pixels)).permute(0, 3, 1, 2)
    return Drawings(images=images, rows=rows, seeds=tuple(seeds))


def pairs_png(pairs: tuple[Pair, ...]) -> bytes:
    """A PNG of the pairs, side by side: the generated picture above, the training photo below."""
    columns = [np.concatenate(list(pair.pixels), axis=0) for pair in pairs]
    return encode(np.concatenate(columns, axis=1), "png")


def _fit_classifier(train_features: Features, category: NDArray[np.int64]) -> Pipeline | None:
    """Names the category of a picture by its features; None where there is but one to name."""
    if len(np.unique(category)) < 2:
        return None
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(train_features, category)


def _measure(
    images: Tensor,
    photos: PhotoSet,
    rows: NDArray[np.int64],
    found: Features,
    train_features: Features,
    classifier: Pipeline | None,
) -> tuple[_Side, NDArray[np.int64]]:
    """The side, and for each picture the row of the nearest training photo. `rows`: see `Drawings`."""
    category = photos.category.numpy()[rows]
    measured = measure(images.permute(0, 2, 3, 1).numpy(), [photos.colour_hexes[row] for row in rows])
    delta_e = [np.nan if each.colour_delta_e is None else each.colour_delta_e for each in measured]
    nearest, distance = metrics.nearest(found, train_features)
    side = _Side(
        features=found,
        category=category,
        delta_e=np.array(delta_e),
        right=None if classifier is None else np.asarray(classifier.predict(found) == category),
        to_training=distance,
    )
    return side, nearest


def _group(drawn: _Side, real: _Side, *, whole: bool) -> Group:
    compared = _compare(drawn.features, real.features, whole=whole)
    return Group(
        pictures=_describe(drawn, compared), photos=_describe(real, Scores(pictures=len(real.category)))
    )


def _compare(drawn: Features, real: Features, *, whole: bool) -> Scores:
    """The figures that compare two sets. The Frechet distance of a few dozen pictures would be all bias."""
    if min(len(drawn), len(real)) < FEWEST:
        return Scores(pictures=len(drawn))
    overlap = metrics.manifolds(real, drawn)
    return Scores(
        pictures=len(drawn),
        fid=metrics.frechet_distance(real, drawn) if whole else None,
        kid=metrics.kernel_distance(real, drawn),
        precision=overlap.precision,
        recall=overlap.recall,
        density=overlap.density,
        coverage=overlap.coverage,
    )


def _describe(side: _Side, compared: Scores) -> Scores:
    """`compared` with the figures that one side has for itself."""
    known = side.delta_e[~np.isnan(side.delta_e)]
    members = [side.features[side.category == category] for category in np.unique(side.category)]
    spreads = [metrics.diversity(each) for each in members if len(each) >= 2]
    return replace(
        compared,
        diversity=float(np.mean(spreads)) if spreads else None,
        colour_delta_e=float(np.median(known)) if len(known) else None,
        category_accuracy=None if side.right is None else float(side.right.mean()),
        nearest_training=float(np.median(side.to_training)),
    )


def _closest(
    drawings: Drawings, drawn: _Side, nearest: NDArray[np.int64], val: PhotoSet, train: PhotoSet
) -> tuple[Pair, ...]:
    """The pairs of a picture and its nearest training photo that are nearest, each photo once."""
    pairs: dict[int, Pair] = {}
    for number in np.argsort(drawn.to_training, kind="stable").tolist():
        photo, row = int(nearest[number]), int(drawings.rows[number])
        if photo in pairs:
            continue
        both = torch.stack([drawings.images[number], train.images[photo]])
        pairs[photo] = Pair(
            category=val.categories[val.category[row]],
            colour_hex=val.colour_hexes[row],
            seed=drawings.seeds[number],
            sku=train.skus[photo],
            distance=float(drawn.to_training[number]),
            pixels=both.permute(0, 2, 3, 1).numpy(),
        )
        if len(pairs) == CLOSEST:
            break
    return tuple(pairs.values())
