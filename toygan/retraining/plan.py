"""The plan of a retraining. It is written once, so that a process that resumes the retraining follows it."""

import json
import logging
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from catalog_schemas.photos import PHOTO_INDEX
from toygan.artifact.config import ModelConfig, config_of
from toygan.artifact.files import CALIBRATION, ENHANCER_CONFIG, ModelFiles
from toygan.data.upload_products import (
    UploadedProduct,
    skus_by_category,
    with_known_languages,
    with_main_colours,
)
from toygan.disk import replace_file
from toygan.errors import BadInput, ModelError, RunFailed, StoreConfigError
from toygan.evaluation.evaluate import FEWEST
from toygan.registry.aliases import ModelRef, read_aliases
from toygan.registry.models import CHAMPION, resolve
from toygan.retraining.request import RetrainRequest
from toygan.retraining.snapshot import ROLES, Contents, count_compared, count_measured, take_snapshot
from toygan.storage.store import ObjectStore
from toygan.uploads.categories import known_categories
from toygan.uploads.indexing import index_when_quiet
from toygan.uploads.new_categories import learnable, photos_to_learn_from
from toygan.uploads.products import products_of_uploads
from toygan.uploads.retrained import read_retrained, record_retraining, unseen_photos

log = logging.getLogger(__name__)

PLAN, INDEX = "plan.json", "index.parquet"
_ID_LETTERS = 12


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The content of plan.json. A request resumes a retraining only if its plan would be the same."""

    name: str  # the name of the champion, which is also the challenger's
    version: str  # the version of the champion
    is_bundled: bool  # whether the champion is the bundled model, because the store has no champion yet
    photos: str | None
    max_images: int
    contents: Contents

    def to_json(self) -> bytes:
        return (json.dumps(asdict(self), indent=1, sort_keys=True) + "\n").encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Reads plan.json. Raises RunFailed for any content that `begin` did not write."""
        try:
            values = json.loads(text)
            return cls(**{**values, "contents": Contents(**values["contents"])})
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise RunFailed(f"{PLAN} is damaged ({error!r})") from error

    @property
    def champion(self) -> ModelRef:
        """The model that the retraining starts from and is compared with."""
        return ModelRef(name=self.name, version=self.version)


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A retraining that has begun."""

    folder: Path
    plan: Plan

    @property
    def champion(self) -> Path:
        """The folder of the model that the retraining starts from."""
        return self.folder / "champion" / self.plan.name

    @property
    def photos(self) -> Path:
        """The folder of the snapshot's photos."""
        return self.folder / "photos"

    @property
    def training(self) -> Path:
        return self.folder / "training"

    @property
    def outcome(self) -> Path:
        return self.folder / "outcome"

    def index(self) -> pa.Table:
        """Returns the rows of the photo index in the snapshot, with the schema PHOTO_INDEX."""
        return pq.read_table(self.folder / INDEX, schema=PHOTO_INDEX)

    def finish(self) -> None:
        """Removes the working files. It is called when everything is in the store."""
        (self.folder / PLAN).unlink(missing_ok=True)
        shutil.rmtree(self.folder)


@dataclass(frozen=True, kw_only=True)
class NothingToDo:
    """Says that there is nothing to retrain, and the reason."""

    reason: str


def begin(request: RetrainRequest, store: ObjectStore, work: Path) -> Attempt | NothingToDo:
    """Resumes an interrupted retraining, or takes a snapshot of the uploads for a new one.

    An interrupted retraining that has an outcome is always resumed, so that the outcome is published. Any
    other interrupted retraining is discarded if the champion, the request or the training photos besides the
    uploads have changed since.

    If the photos are too few to train, to calibrate or to compare, they are marked as seen. The next
    retraining then starts when there are enough new photos, and uses all photos. Raises ModelError for a
    champion that is damaged or not calibrated, and what `take_snapshot` and `index_when_quiet` raise.
    """
    champion = resolve(None, store)
    ref = ModelRef(name=champion.name, version=champion.version)
    if attempt := _find_attempt(work, request, ref):
        log.info("resuming the retraining in %s", attempt.folder)
        return attempt
    config = config_of(champion)
    # The challenger is calibrated with the champion's settings.
    if CALIBRATION not in champion.files:
        raise ModelError(
            f"the champion {ref} is not calibrated; run `toygan calibrate` on it and promote the new version"
        )
    known = known_categories(store)
    # Photos are counted only after this wait. Events during the wait do not start another run, so this run
    # must include their photos.
    index = index_when_quiet(store, known, quiet_s=request.quiet_s)
    if not unseen_photos(index, read_retrained(store)).num_rows:
        return NothingToDo(reason="every photo in the index has been seen by a retraining")
    counts = photos_to_learn_from(index["photo_uri"].to_pylist(), config.categories)
    folder = work / _snapshot_id(index)
    shutil.rmtree(folder, ignore_errors=True)
    contents = take_snapshot(
        folder / "photos",
        store=store,
        index=index,
        photos=request.photos,
        categories=(*config.categories, *sorted(learnable(counts))),
        resolution=_final_resolution(champion),
        with_layouts=config.layout_bank is not None,
        products=_described(store, index, request.catalog, config),
    )
    compared = count_compared(folder / "photos", config.categories)
    if reason := _why_too_few(contents, compared, config.categories):
        shutil.rmtree(folder)
        record_retraining(store, index, request.run_id)
        return NothingToDo(reason=reason)
    _warn_of_unmeasured(folder / "photos", config.categories)
    plan = Plan(
        name=champion.name,
        version=champion.version,
        is_bundled=CHAMPION not in read_aliases(store),
        photos=request.photos,
        max_images=request.max_images,
        contents=contents,
    )
    attempt = Attempt(folder=folder, plan=plan)
    _keep_files(attempt.champion, champion)
    pq.write_table(index, folder / INDEX)
    replace_file(folder / PLAN, plan.to_json())
    return attempt


def give_up(work: Path) -> None:
    """Removes the files of interrupted retrainings, so that the next one starts from the beginning."""
    for folder in _folders(work):
        shutil.rmtree(folder)


@contextmanager
def hopeless_if_unusable() -> Iterator[None]:
    """Turns BadInput about the photos of an attempt into RunFailed, so that the attempt is given up.

    The photos of an attempt never change, so it would fail again. The next attempt has the new uploads, too.
    Errors of models and stores are raised unchanged, because a resumed attempt may succeed.
    """
    try:
        yield
    except (ModelError, StoreConfigError):
        raise
    except BadInput as error:
        raise RunFailed(str(error)) from error


def _find_attempt(work: Path, request: RetrainRequest, champion: ModelRef) -> Attempt | None:
    """Returns the retraining that can be resumed, and removes any other."""
    for folder in _folders(work):
        attempt = _read_attempt(folder)
        if attempt is not None:
            plan = attempt.plan
            asked = (champion, request.photos, request.max_images)
            if attempt.outcome.is_dir() or asked == (plan.champion, plan.photos, plan.max_images):
                return attempt
        log.info("the retraining in %s is discarded, because it has another champion or request", folder)
        shutil.rmtree(folder)
    return None


def _read_attempt(folder: Path) -> Attempt | None:
    try:
        return Attempt(folder=folder, plan=Plan.from_json((folder / PLAN).read_bytes()))
    except (FileNotFoundError, RunFailed):  # the process died before it wrote the plan
        return None


def _folders(work: Path) -> list[Path]:
    return sorted(folder for folder in work.iterdir() if folder.is_dir())


def _described(
    store: ObjectStore, index: pa.Table, catalog: str | None, config: ModelConfig
) -> dict[str, UploadedProduct]:
    """Returns the descriptions of uploaded products as a nightly run of the model gives them to it."""
    products = products_of_uploads(store, skus_by_category(index), catalog)
    products = with_main_colours(products, config.text.colour_names)
    if config.text_encoder is None:
        return products
    return with_known_languages(products, config.text_encoder["name"])


def _final_resolution(model: ModelFiles) -> int:
    """Returns the side of the model's final pictures in pixels: that of its enhancer, if it has one."""
    if ENHANCER_CONFIG in model.files:
        return ModelConfig.from_json(model.files[ENHANCER_CONFIG], ENHANCER_CONFIG).resolution
    return config_of(model).resolution


def _snapshot_id(index: pa.Table) -> str:
    digest = sha256()
    for row in index.select(["photo_uri", "sha256"]).to_pylist():
        digest.update(f"{row['photo_uri']}\x1f{row['sha256']}\n".encode())
    return digest.hexdigest()[:_ID_LETTERS]


def _why_too_few(contents: Contents, compared: Mapping[str, int], known: Collection[str]) -> str | None:
    """Returns why these photos are too few to train or to measure a challenger; None if they suffice.

    `known` are the champion's categories. `compared` counts the photos that the comparison can use, by role,
    see `count_compared`. The calibration uses the photos of new categories, too.
    """
    needs = (
        (compared["train"], FEWEST, "of the champion's categories to learn from"),
        (contents.of_role("calibration"), 1, "to calibrate with"),
        (compared["val"], FEWEST, "of the champion's categories to measure with"),
    )
    missing = [f"{count} {use}, but {least} are needed" for count, least, use in needs if count < least]
    if forgotten := [name for name, roles in contents.by_category.items() if not roles["train"]]:
        missing.append(f"none for training of {', '.join(forgotten)}, which the model would forget")
    if not missing:
        return None
    of_known = sum(contents.by_category[name][role] for name in known for role in ROLES)
    others = [name for name in contents.by_category if name not in known]
    if uncounted := of_known - sum(compared[role] for role in ROLES):
        missing.append(f"{uncounted} do not count, because their products are in {', '.join(others)}, too")
    is_other_shop = others and not of_known
    alone = f", or train a model of {', '.join(others)} alone with `toygan train`" if is_other_shop else ""
    return (
        f"the photos are too few: {'; '.join(missing)}. Upload photos of more products of the champion's "
        f"categories {', '.join(known)} (a tenth of the products is held out), or set TOYGAN_PHOTOS to "
        f"further training photos, such as those that the champion was trained on{alone}"
    )


def _warn_of_unmeasured(photos: Path, categories: Collection[str]) -> None:
    """Warns before a training of hours whose challenger no decision can promote."""
    counts = count_measured(photos, categories)
    if too_few := [f"{name} ({counts[name]})" for name in categories if counts[name] < FEWEST]:
        log.warning(
            "the challenger cannot be promoted, because a category needs %d photos of val, and "
            "these have fewer: %s. Upload photos of more of their products, or set TOYGAN_PHOTOS to further "
            "training photos. Layouts of titled uploads are used in any case",
            *(FEWEST, ", ".join(too_few)),
        )


def _keep_files(folder: Path, model: ModelFiles) -> None:
    folder.mkdir(parents=True)
    for name, data in model.files.items():
        (folder / name).write_bytes(data)
