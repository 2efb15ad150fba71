"""What a finished run shows: artifacts on Prefect's pages, the page of the store, metrics for Prometheus."""

from pathlib import Path
from uuid import UUID

import pyarrow.compute as pc
from prefect import get_run_logger
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from catalog_schemas.validation import TableError
from toygan.errors import ToyganError
from toygan.metrics import LAST_SUCCESS, PHOTOS_QUARANTINED, PICTURES_MISSING, REVIEW_BACKLOG
from toygan.planning.decisions import stored_decisions
from toygan.publishing.nights import record_night
from toygan.publishing.store_report import write_store_report
from toygan.publishing.summary import RunSummary
from toygan.storage.store import ObjectStore
from toygan.uploads.history import read_history

KEY = "generate-catalog"
_STEP = 5  # per cent; each update is a request to Prefect's server


class RunProgress:
    """The share of a run's products that are done, as an artifact."""

    def __init__(self, run_id: str, total: int) -> None:
        self._total, self._done, self._shown = total, 0, 0.0
        self._artifact: UUID | None = None
        if total:
            made = create_progress_artifact(0.0, key=f"{KEY}-progress", description=f"Run {run_id}")
            assert isinstance(made, UUID)  # its type includes coroutines
            self._artifact = made

    def advance(self, products: int) -> None:
        """Adds products; shows every twentieth of them."""
        self._done += products
        share = 100.0 * self._done / self._total if self._total else 0.0
        if self._artifact is not None and (share >= self._shown + _STEP or self._done == self._total):
            update_progress_artifact(self._artifact, progress=share)
            self._shown = share


def show_store(store: ObjectStore, summary: RunSummary) -> None:
    """Writes the page of the store and sets its metrics; problems with that do not fail the run."""
    try:
        uploads, decisions = read_history(store), stored_decisions(store)
        nights = record_night(store, summary.manifest, decisions)
        write_store_report(store, nights, decisions, uploads)
    except (ToyganError, TableError) as error:
        get_run_logger().warning("the page of the store is not up to date: %s", error)
        return
    is_of_run = pc.and_(pc.equal(nights["run_id"], summary.manifest.run_id), pc.is_null(nights["category"]))
    for night in nights.filter(is_of_run).to_pylist():
        PICTURES_MISSING.labels(store.uri).set(night["wanted"] - night["covered"])
        REVIEW_BACKLOG.labels(store.uri).set(night["backlog"])
    PHOTOS_QUARANTINED.labels(store.uri).set(len(uploads.quarantined_at))


def show_run(store: ObjectStore, summary: RunSummary) -> None:
    """Makes the artifacts of a run that broke nowhere, and notes its time for Prometheus."""
    LAST_SUCCESS.labels(store.uri).set_to_current_time()
    run = f"Run {summary.manifest.run_id}"
    create_markdown_artifact(key=KEY, markdown=summary.markdown(), description=run)
    create_table_artifact(key=f"{KEY}-categories", table=summary.table(), description=run)
    uri = summary.report_uri
    link = uri if "://" in uri else Path(uri).as_uri()
    create_link_artifact(link, link_text="Contact sheet", key=f"{KEY}-report", description=run)
