"""Runs flows in this process for the command line, with Prefect's configured or a temporary server."""

import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from types import FrameType
from typing import TYPE_CHECKING, Any

from flows.reach import check_server, prefect_settings, reach_loopback_directly
from flows.stopping import say_in_handler
from toygan.errors import RunFailed, ToyganError
from toygan.planning.catalog import check_catalog
from toygan.planning.catalog_files.convert import parse_mapping
from toygan.storage.keys import CURRENT_KEY

if TYPE_CHECKING:
    from toygan.generation.request import RunRequest
    from toygan.publishing.summary import RunSummary

# These are set before prefect is imported. The user's own values take precedence.
DEFAULTS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "WARNING",
}


def run_generate(
    *, catalog: str, run_id: str | None, columns: Sequence[str] = (), **parameters: Any
) -> "RunSummary":
    """Runs the flow `generate-catalog` in this process and raises its errors.

    Bad input is refused before the flow starts, a bad catalog even before torch is imported. If no server is
    configured, the run is planned first. A temporary server starts only if there is something to generate.
    `columns` are values of `--map`.
    """
    mapping = parse_mapping(columns)
    check_catalog(catalog, mapping)
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    reach_loopback_directly()
    server = _configured_server()
    if server is None and _is_first_run(parameters["output"]):
        from flows.local_server import start_temporary_server

        # the store is new, so there is something to generate; the server starts while torch is imported
        start_temporary_server()
    from flows.metrics import serve_metrics
    from flows.settings import service_settings
    from toygan.generation.request import RunRequest, check_request, new_run_id

    request = RunRequest(catalog=catalog, columns=mapping, run_id=run_id or new_run_id(), **parameters)
    settings = service_settings()
    if server:
        check_request(request, is_new=run_id is None)
    if settings.metrics_port:
        serve_metrics(settings.metrics_port, settings.metrics_address)
    print(f"run {request.run_id}", file=sys.stderr, flush=True)
    with _stops_at_signals(request.run_id, is_temporary=server is None):
        if server is not None:
            check_server(server)
        elif (ended := _plan_first(request, is_new=run_id is None)) is not None:
            return ended
        from flows.generate_catalog import generate_catalog
        from flows.parameters import GenerateParameters

        summary: RunSummary = generate_catalog(GenerateParameters(**asdict(request)))
    return summary


def _plan_first(request: "RunRequest", *, is_new: bool) -> "RunSummary | None":
    """Plans a run, and ends it if there is nothing to generate.

    Otherwise starts a temporary server. That takes many seconds, so shards are computed until it answers.
    """
    from flows.logs import log_fields, use_the_log_format
    from flows.steps import begin_early, compute_early, end_run

    use_the_log_format()
    with log_fields(run=request.run_id):
        begun = begin_early(request, is_new=is_new)
        if not begun.run.pending:
            return end_run(begun, logging.getLogger(__name__), lambda store, run_id, alerts: None)
    print("starting Prefect's temporary server, and generating meanwhile", file=sys.stderr, flush=True)
    from flows.local_server import has_settled, start_temporary_server, temporary_server
    from flows.settings import service_settings

    computed = 0
    try:
        start_temporary_server()
        if service_settings().runner == "threads":
            with log_fields(run=request.run_id):
                computed = compute_early(request, has_settled)
        temporary_server()
    except ToyganError:
        if begun.is_new and not computed:
            from toygan.publishing.commit import abandon

            abandon(begun.run.store, request.run_id)
        raise
    return None


@contextmanager
def _stops_at_signals(run_id: str, *, is_temporary: bool) -> Iterator[None]:
    """Ends this process at Ctrl-C or SIGTERM. This is safe at any moment, because the run can be resumed.

    With the user's server, the active shards are finished first, and Prefect shows the flow as crashed. A
    second signal ends the active shards at once. With a temporary server, the process ends at once.
    """
    signals = 0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal signals
        signals += 1
        if signals == 1 and not is_temporary:
            say_in_handler("stopping when the active shards are done; a second signal stops at once")
            raise KeyboardInterrupt
        signal.signal(number, signal.SIG_IGN)
        say_in_handler(f"stopped; the same command with --run-id {run_id} resumes it")
        os._exit(1)  # a temporary server ends together with this process

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        raise RunFailed(f"stopped; the same command with --run-id {run_id} resumes it") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _configured_server() -> str | None:
    """Returns the URL of the server that the environment or Prefect's profile names."""
    return prefect_settings().api.url


def _is_first_run(output: str) -> bool:
    """Says whether a store has no live pictures yet."""
    from toygan.storage.open_store import open_store

    return not open_store(output).exists(CURRENT_KEY)
