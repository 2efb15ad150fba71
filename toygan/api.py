"""The public functions of toygan: load a model, generate pictures of rows, score pictures, evaluate a model.

They run in this process, without Prefect and without a store. For a whole catalog use `toygan generate`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from catalog_schemas.products import DEFAULT_LANGUAGE, EDIT_COLUMNS
from toygan.approval.checks import Reason, check
from toygan.approval.fidelity import check_snapshot
from toygan.approval.measures import measure
from toygan.approval.policy import reasons_against, reasons_before_generation
from toygan.artifact.load import load_model as load_files
from toygan.artifact.model import GeneratedBatch, Model
from toygan.conditions.condition_types import DRAWINGS, ImageCondition
from toygan.conditions.image import READERS
from toygan.conditions.main_colour import MainColours
from toygan.conditions.product import ProductConditions, encode_conditions
from toygan.device import pick_device
from toygan.errors import BadInput
from toygan.evaluation.evaluate import PICTURES, evaluate_model
from toygan.evaluation.result import Evaluation
from toygan.generation.engine import batch_shapes, default_batch_size
from toygan.images import from_uint8
from toygan.planning.edited_layouts import layout_of_row
from toygan.registry.models import resolve
from toygan.seeds import image_seed
from toygan.storage.open_store import open_store

_REQUIRED: Final = ("sku", "category", "title")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One generated picture and the decision about it."""

    sku: str
    pixels: NDArray[np.uint8]  # (R, R, 3)
    seed: int
    p_real: float | None  # the calibrated score, 0..1; None for a picture that is not finite
    threshold: float  # the score that a picture of its category needs for approval
    # the reasons against approval, see toygan/approval/README.md; empty if approved
    reasons: tuple[Reason, ...]

    @property
    def approved(self) -> bool:
        return not self.reasons


def load_model(reference: str | None = None, *, store: str | None = None, device: str = "auto") -> Model:
    """Loads a calibrated model.

    `reference` is a folder (./FOLDER), or the NAME, NAME@VERSION or alias of a bundled model or of a model in
    the store with the URI `store`. The default is the store's champion, or the bundled text model if there is
    no champion. `device` is auto, cpu, cuda or cuda:N. Raises BadInput.
    """
    found = resolve(reference, open_store(store) if store else None)
    model = load_files(found, pick_device(device))
    model.require_calibration()
    return model


def generate(
    model: Model, rows: Iterable[Mapping[str, Any]], *, image_index: int = 0, attempt: int = 0
) -> list[Picture]:
    """Generates and scores one picture for each row, in the order of the rows.

    A row has the columns of a catalog, see catalog_schemas/README.md; sku, category and title are required. A
    model that takes sketches, layouts or snapshots needs a file's path in `sketch_uri`, `layout_uri` or
    `photo_uri`. For a model that takes layouts, `variant_of`, `recolour` and `dress_from` make a layout from
    the layouts of other `rows`; other models refuse such a row. Another `image_index` or `attempt` gives
    another picture; both count from 0, as in a run. The pictures are not checked for near copies of each
    other. Raises BadInput, whose message names the row.
    """
    taken = list(rows)
    products = _all_conditions(model, taken)
    seeds = [image_seed(row["sku"], image_index, attempt, model.name, model.version) for row in taken]
    shapes = batch_shapes(default_batch_size(model), model.device)
    pictures: list[Picture] = []
    while left := len(taken) - len(pictures):
        batch = slice(len(pictures), len(pictures) + max(shape for shape in shapes if shape <= left))
        generated = model.generate(seeds[batch], products[batch], batch.stop - batch.start)
        for position, reasons in enumerate(_reasons(model, seeds[batch], products[batch], generated)):
            row = batch.start + position
            scale = model.require_calibration().of(products[row].category)
            finite = bool(generated.finite[position])
            pictures.append(
                Picture(
                    sku=taken[row]["sku"],
                    pixels=generated.pixels[position],
                    seed=seeds[row],
                    p_real=scale.p_real(float(generated.logits[position])) if finite else None,
                    threshold=scale.threshold,
                    reasons=reasons,
                )
            )
    return pictures


def score(model: Model, images: NDArray[np.uint8], rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Returns the calibrated score of each picture, 0..1: the probability that it is a photo.

    `images` are (N, R, R, 3) uint8 of the model's resolution, one for each row of a catalog. Raises BadInput
    for other images, for a wrong row as `generate` does, and for a model whose score depends on a layout that
    the rows do not name.
    """
    needs_more = model.image_condition != model.learns_from or model.image_condition == "photo"
    if model.probe is None and needs_more:
        raise BadInput(
            f"{model.name} scores pictures with its discriminator, which needs layouts; "
            "run `toygan calibrate --probe`"
        )
    wanted = (len(rows), model.resolution, model.resolution, 3)
    if images.shape != wanted or images.dtype != np.uint8:
        raise BadInput(
            f"the images are {images.shape} {images.dtype}; {model.name} scores {wanted} uint8 for these rows"
        )
    products = _all_conditions(model, rows)
    conditions = encode_conditions(
        products,
        categories=model.categories,
        text_encoder=model.text_encoder,
        image_condition=None if model.image_condition == "photo" else model.image_condition,
        accent_colours=model.text_config.accent_colours,
    )
    shown = torch.from_numpy(images).permute(0, 3, 1, 2).to(model.device)
    on_device = {name: value.to(model.device) for name, value in conditions.items()}
    logits = model.score(from_uint8(shown), on_device).tolist()
    calibration = model.require_calibration()
    return [
        calibration.of(product.category).p_real(logit)
        for product, logit in zip(products, logits, strict=True)
    ]


def evaluate(
    reference: str,
    photos: str | Path,
    *,
    store: str | None = None,
    device: str = "auto",
    pictures: int = PICTURES,
    seed: int = 0,
) -> Evaluation:
    """Measures a model's pictures against the photos of the split `val`, as `toygan evaluate` does.

    `reference`, `store` and `device` are those of `load_model`; `photos` is a path or URI, see
    toygan/data/sources.py. Raises BadInput.
    """
    return evaluate_model(
        reference,
        photos=photos,
        store_uri=store,
        device=pick_device(device),
        pictures=pictures,
        seed=seed,
    )


def _all_conditions(model: Model, rows: Sequence[Mapping[str, Any]]) -> list[ProductConditions]:
    layouts = {
        row.get("sku", ""): str(row["layout_uri"]) for row in rows if row.get("layout_uri") is not None
    }
    return [_conditions(model, row, layouts) for row in rows]


def _conditions(model: Model, row: Mapping[str, Any], layouts: Mapping[str, str]) -> ProductConditions:
    for name in _REQUIRED:
        if not isinstance(row.get(name), str) or not row[name]:
            raise BadInput(f"the row {row.get('sku')!r} has no {name}; a row has {', '.join(_REQUIRED)}")
    main = MainColours(model.text_config.colour_names).find(
        title=row["title"],
        colour=row.get("colour"),
        colour_hex=row.get("colour_hex"),
        finish=row.get("finish"),
    )
    product = model.conditions_of(
        category=row["category"],
        title=row["title"],
        description=row.get("description"),
        language=row.get("language") or DEFAULT_LANGUAGE,
        colour=main.name,
        colour_hex=main.hex,
        finish=row.get("finish"),
    )
    if product.category not in model.categories:
        raise BadInput(
            f"the row {row['sku']!r}: {model.name} knows no category {product.category!r}; it knows "
            f"{', '.join(model.categories)}"
        )
    return _with_image(model, product, row, layouts)


def _with_image(
    model: Model, product: ProductConditions, row: Mapping[str, Any], layouts: Mapping[str, str]
) -> ProductConditions:
    """Adds the images of the row that the model generates from."""
    kind = model.image_condition
    edits = [column for column in EDIT_COLUMNS if row.get(column) is not None]
    if edits and kind != "layout":
        raise BadInput(
            f"the row {row['sku']!r}: {edits[0]} describes a layout, and {model.name} takes none; leave the "
            "column out, or load a model that takes layouts, such as toybricks-layout128"
        )
    if kind is not None and not edits and row.get(f"{kind}_uri") is None:
        raise BadInput(f"the row {row['sku']!r} has no {kind}_uri, and {model.name} generates from this file")
    taken = model.config.images_taken([each for each in DRAWINGS if row.get(f"{each}_uri") is not None])
    return product.with_images({each: _read_image(model, row, each, layouts) for each in taken})


def _read_image(
    model: Model, row: Mapping[str, Any], kind: ImageCondition, layouts: Mapping[str, str]
) -> NDArray[np.uint8]:
    """Reads the file of a row, or makes the layout that the row describes."""
    try:
        if kind == "layout" and any(row.get(column) is not None for column in EDIT_COLUMNS):
            content = layout_of_row(row, layouts, lambda path: Path(path).read_bytes())
        else:
            content = Path(row[f"{kind}_uri"]).read_bytes()
        image = READERS[kind](content, model.resolution)
    except (BadInput, OSError) as error:
        raise BadInput(f"the row {row['sku']!r}: {error}") from None
    classes = model.config.networks.layout_classes
    if kind == "layout" and (largest := int(image.max())) >= classes:
        raise BadInput(
            f"the row {row['sku']!r}: its layout holds the label {largest}, {model.name} knows 0 to "
            f"{classes - 1}"
        )
    return image


def _reasons(
    model: Model, seeds: Sequence[int], products: Sequence[ProductConditions], generated: GeneratedBatch
) -> Iterator[tuple[Reason, ...]]:
    """Yields the reasons against each picture of a batch."""
    calibration = model.require_calibration()
    similarities = model.best_similarities(products, [[seed] for seed in seeds])
    colours = [product.colour_hex for product in products]
    for position, measures in enumerate(measure(generated.pixels, colours, generated.shapes)):
        scale = calibration.of(products[position].category)
        snapshot = generated.snapshots[position]
        needs_colour = snapshot is None and scale.limits.colour_delta_e_max is not None
        failed = check(measures, scale.limits, generated.layout_similarities[position])
        if snapshot is not None:
            checked = check_snapshot(failed, generated.pixels[position], snapshot.pixels)
            failed = [*snapshot.problems, *checked]
        reasons = reasons_against(
            finite=bool(generated.finite[position]),
            before_generation=reasons_before_generation(
                best_similarity=similarities[position],
                lacks_colour=needs_colour and colours[position] is None,
            ),
            failed_checks=failed,
            p_real=scale.p_real(float(generated.logits[position])),
            threshold=scale.threshold,
        )
        yield tuple(reasons)
