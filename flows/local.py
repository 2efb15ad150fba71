"""Flows started in this process, for the command line: against the server set for Prefect, else its own."""

import os
import sys
from typing import Any

from toygan.generation.plan import check_catalog
from toygan.generation.run import RunSummary, new_run_id

# Set before prefect is imported; what the user has set stays.
DEFAULTS = {
    # Prefect's own patience of 20 s is too short for a busy machine.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "WARNING",
}


def run_generate(*, catalog: str, run_id: str | None, **parameters: Any) -> RunSummary:
    """Runs the flow `generate-catalog` here and raises what it raises.

    A catalog that cannot be used stops it before the flow, or anything else, starts.
    """
    check_catalog(catalog)
    run_id = run_id or new_run_id()
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    server = (
        "" if os.environ.get("PREFECT_API_URL") else "; starting Prefect's temporary server, a few seconds"
    )
    print(f"run {run_id}{server}", file=sys.stderr, flush=True)
    from flows.generate_catalog import generate_catalog

    summary: RunSummary = generate_catalog(catalog=catalog, run_id=run_id, **parameters)
    return summary
