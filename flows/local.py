"""Flows started in this process, for the command line: against the server set for Prefect, else its own."""

import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from toygan.errors import Retryable
from toygan.generation.catalog import check_catalog

if TYPE_CHECKING:
    from toygan.generation.run import RunSummary

# Set before prefect is imported; what the user has set stays.
DEFAULTS = {
    # Prefect's own patience of 20 s is too short for a busy machine.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "WARNING",
}


def run_generate(*, catalog: str, run_id: str | None, **parameters: Any) -> "RunSummary":
    """Runs the flow `generate-catalog` here and raises what it raises.

    Bad input is refused before the flow, or anything else, starts; a bad catalog even before torch is
    imported, prefect comes last.
    """
    check_catalog(catalog)
    from toygan.generation.run import RunRequest, check_request, new_run_id

    request = RunRequest(catalog=catalog, run_id=run_id or new_run_id(), **parameters)
    check_request(request)
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    _reach_server(f"run {request.run_id}")
    from flows.generate_catalog import generate_catalog

    summary: RunSummary = generate_catalog(**asdict(request))
    return summary


def _reach_server(what: str) -> None:
    """Says what is about to start, and starts Prefect's own server where no other is set.

    Raises Retryable when the server does not answer.
    """
    from prefect.client.orchestration import get_client
    from prefect.settings import get_current_settings

    server = get_current_settings().api.url
    wait = "" if server else "; starting Prefect's temporary server, a few seconds"
    print(what + wait, file=sys.stderr, flush=True)
    try:
        with get_client(sync_client=True) as client:
            problem = client.api_healthcheck()
    except RuntimeError as error:  # its own server did not come up
        problem = error
    if problem:
        where = server or "its temporary server"
        raise Retryable(f"Prefect cannot reach {where} ({problem}); start it, or correct PREFECT_API_URL")
