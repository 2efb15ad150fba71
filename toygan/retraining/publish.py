"""Publishes the outcome of a retraining in the store. After a crash it can be repeated without harm."""

import logging

from toygan.artifact.files import LAYOUT_BANK, read_folder
from toygan.registry.aliases import ModelRef, read_aliases
from toygan.registry.models import CHAMPION, add_files
from toygan.registry.promotion import promote, succeed
from toygan.retraining.comparison import Outcome
from toygan.retraining.plan import Attempt
from toygan.storage.store import ObjectStore
from toygan.uploads.retrained import record_retraining

log = logging.getLogger(__name__)

CHALLENGER = "challenger"


def publish(store: ObjectStore, attempt: Attempt, outcome: Outcome, run_id: str) -> bool:
    """Adds the challenger to the store, promotes it if this was decided, and marks the photos as seen.

    The working files are removed last, so a process that resumes after a crash completes the rest. Returns
    whether the challenger is the champion now. If another model has become the champion since the retraining
    began, that model stays champion, because the challenger was not compared with it.
    """
    challenger, plan = outcome.challenger, attempt.plan
    if plan.is_bundled:  # the bundled model is added, so that a rollback finds it
        add_files(store, read_folder(attempt.champion), plan.name)
    version = add_files(store, outcome.files, challenger.name)
    if version != challenger.version:
        raise AssertionError(f"{challenger} was measured, but the published version is {version}")
    promote(store, challenger.name, version, CHALLENGER)
    if outcome.decision.promoted and not succeed(store, challenger, after=plan.champion):
        log.warning(
            "the model %s is not promoted, because the champion is no longer the model that it was compared "
            "with; promote it by hand if you want it",
            challenger,
        )
    if outcome.champions_layouts is not None:
        _publish_layouts(store, attempt, outcome.champions_layouts)
    champion = read_aliases(store).get(CHAMPION)
    is_champion = champion is not None and champion.now == challenger
    result = f"{challenger} {'is the champion' if is_champion else 'was not promoted'}"
    record_retraining(store, attempt.index(), run_id, result)
    attempt.finish()
    return is_champion


def _publish_layouts(store: ObjectStore, attempt: Attempt, layouts: bytes) -> None:
    """Adds the champion with the larger layout bank as a new version, which becomes the champion."""
    files = {**read_folder(attempt.champion), LAYOUT_BANK: layouts}
    ref = ModelRef(name=attempt.plan.name, version=add_files(store, files, attempt.plan.name))
    if succeed(store, ref, after=attempt.plan.champion):
        log.info(
            "the model %s also has the layouts of the uploads, and replaces the champion %s",
            *(ref, attempt.plan.champion),
        )
