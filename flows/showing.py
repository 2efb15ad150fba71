"""Makes the artifacts of a run, which Prefect's pages show."""

from pathlib import Path
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from toygan.publishing.summary import RunSummary

KEY = "generate-catalog"
_STEP = 5  # in per cent; each update is a request to Prefect's server


class RunProgress:
    """The share of a run's products that are done, as an artifact."""

    def __init__(self, run_id: str, total: int) -> None:
        self._total, self._done, self._shown = total, 0, 0.0
        self._artifact: UUID | None = None
        if total:
            made = create_progress_artifact(0.0, key=f"{KEY}-progress", description=f"Run {run_id}")
            assert isinstance(made, UUID)  # the declared type includes coroutines
            self._artifact = made

    def advance(self, products: int) -> None:
        """Adds finished products. Updates the artifact at each further `_STEP` per cent, and at the end."""
        self._done += products
        share = 100.0 * self._done / self._total if self._total else 0.0
        if self._artifact is not None and (share >= self._shown + _STEP or self._done == self._total):
            update_progress_artifact(self._artifact, progress=share)
            self._shown = share


def show_run(summary: RunSummary) -> None:
    """Makes the artifacts of a run that has ended without an error."""
    run = f"Run {summary.manifest.run_id}"
    create_markdown_artifact(key=KEY, markdown=summary.markdown(), description=run)
    create_table_artifact(key=f"{KEY}-categories", table=summary.table(), description=run)
    uri = summary.report_uri
    link = uri if "://" in uri else Path(uri).as_uri()
    create_link_artifact(link, link_text="Contact sheet", key=f"{KEY}-report", description=run)
