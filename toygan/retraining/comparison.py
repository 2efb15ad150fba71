"""Compares challenger and champion on the photos of val. Neither model was trained on these photos."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from toygan.artifact.files import EXTRAS, LAYOUT_BANK, ModelFiles, model_version, read_folder
from toygan.artifact.load import load_model
from toygan.artifact.model import Model
from toygan.calibration.photos import photos_of
from toygan.disk import replace_file, sync_folder
from toygan.errors import BadInput, ModelError, RunFailed
from toygan.evaluation.evaluate import evaluate
from toygan.registry.aliases import ModelRef
from toygan.registry.models import resolve
from toygan.retraining.card import PREVIEW, model_card, with_preview
from toygan.retraining.decide import Decision, Rule, decide
from toygan.retraining.layouts import bank_with
from toygan.retraining.plan import Attempt, hopeless_if_unusable
from toygan.retraining.request import Limits
from toygan.retraining.snapshot import known_products, titled_uploads

CARD, VERDICT = "model_card.md", "verdict.json"
CHAMPIONS_LAYOUTS = "champions_layouts.parquet"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The results of a retraining, to be published."""

    challenger: ModelRef
    decision: Decision
    files: Mapping[str, bytes]  # the files of the challenger, including card and preview
    # The champion's layout bank with the layouts of the uploads added; None if the challenger is promoted or
    # no layout is new.
    champions_layouts: bytes | None = None

    def card_with_preview(self) -> str:
        """Returns the model card with its preview embedded."""
        return with_preview(self.files[CARD].decode(), self.files[PREVIEW])


def compare(
    attempt: Attempt, challenger: ModelFiles, *, pictures: int, limits: Limits, device: torch.device
) -> Outcome:
    """Evaluates both models, decides, writes the model card, and commits all results to `attempt.outcome`.

    Raises RunFailed for a challenger that cannot be measured, for example if its pictures are not finite, and
    for photos on which nothing can be measured, for example if they are too few.
    """
    models = [load_model(each, device) for each in (challenger, resolve(str(attempt.champion), None))]
    is_known = known_products(attempt.photos, models[1].categories)
    try:
        with hopeless_if_unusable():
            new, old = (
                evaluate(
                    model,
                    val=photos_of(model, attempt.photos, split="val", keep_sku=is_known),
                    train=photos_of(model, attempt.photos, split="train", keep_sku=is_known),
                    pictures=pictures,
                )
                for model in models
            )
    except ModelError as error:
        raise RunFailed(str(error)) from error
    decision = decide(new, old, categories=models[1].categories, limits=limits)
    grids = sorted((attempt.training / "grids").glob("*.png"))
    bank = _bank_of_uploads(attempt, models[0 if decision.promoted else 1])
    files = {**challenger.files, PREVIEW: grids[-1].read_bytes()}
    if bank is not None and decision.promoted:
        files[LAYOUT_BANK] = bank
    ref = ModelRef(name=challenger.name, version=model_version(files))
    # The bank changes the version that was measured. The card is no part of the version.
    files[CARD] = model_card(
        attempt.plan,
        challenger=replace(new, version=ref.version),
        champion=old,
        decision=decision,
        training_log=attempt.training / "log.jsonl",
    ).encode()
    verdict = {"name": ref.name, "version": ref.version, "rules": decision.rules}
    kept = {**files, VERDICT: json.dumps(verdict, indent=1).encode()}
    champions_layouts = None if decision.promoted else bank
    if champions_layouts is not None:
        kept[CHAMPIONS_LAYOUTS] = champions_layouts
    _commit(attempt.outcome, kept)
    return Outcome(challenger=ref, decision=decision, files=files, champions_layouts=champions_layouts)


def _bank_of_uploads(attempt: Attempt, model: Model) -> bytes | None:
    uploads = set(attempt.index()["sku"].to_pylist())
    return bank_with(model, attempt.photos, titled_uploads(attempt.photos, uploads, model.categories))


def read_outcome(attempt: Attempt) -> Outcome | None:
    """Returns the committed outcome, or None if there is no outcome yet.

    Raises RunFailed for a damaged folder.
    """
    if not attempt.outcome.is_dir():
        return None
    try:
        verdict = json.loads((attempt.outcome / VERDICT).read_bytes())
        extras = {name: (attempt.outcome / name).read_bytes() for name in EXTRAS}
        layouts = attempt.outcome / CHAMPIONS_LAYOUTS
        return Outcome(
            challenger=ModelRef(name=verdict["name"], version=verdict["version"]),
            decision=Decision(rules=tuple(Rule(*rule) for rule in verdict["rules"])),
            files={**extras, **read_folder(attempt.outcome)},
            champions_layouts=layouts.read_bytes() if layouts.exists() else None,
        )
    except (OSError, KeyError, TypeError, ValueError, BadInput) as error:
        raise RunFailed(f"{attempt.outcome} is damaged ({error!r})") from error


def _commit(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes the folder in one step."""
    unfinished = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    for name, data in files.items():
        replace_file(unfinished / name, data)
    unfinished.rename(folder)
    sync_folder(folder.parent)
