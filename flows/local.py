"""Runs flows in this process for the command line, with Prefect's configured or a temporary server."""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from types import FrameType
from typing import TYPE_CHECKING, Any

from flows.reach import check_server, prefect_settings, reach_loopback_directly
from toygan.errors import RunFailed
from toygan.planning.catalog import check_catalog
from toygan.planning.catalog_files.convert import parse_mapping

if TYPE_CHECKING:
    from toygan.publishing.summary import RunSummary

# Set before prefect is imported; the user's own values take precedence.
DEFAULTS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "WARNING",
}


def run_generate(
    *, catalog: str, columns: Sequence[str], run_id: str | None, **parameters: Any
) -> "RunSummary":
    """Runs the flow `generate-catalog` in this process and raises what it raises.

    Bad input is refused before the flow starts, a bad catalog before torch and prefect are imported. A
    temporary server starts while this process imports torch and checks the models, which takes about as long.
    `columns` are values of `--map`.
    """
    mapping = parse_mapping(columns)
    check_catalog(catalog, mapping)
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    reach_loopback_directly()
    server = _find_server()
    from flows.metrics import serve_metrics
    from flows.settings import service_settings
    from toygan.generation.request import RunRequest, check_request, new_run_id

    request = RunRequest(catalog=catalog, columns=mapping, run_id=run_id or new_run_id(), **parameters)
    check_request(request)
    settings = service_settings()
    if settings.metrics_port:
        serve_metrics(settings.metrics_port, settings.metrics_address)
    _reach_server(f"run {request.run_id}", server)
    from flows.generate_catalog import generate_catalog
    from flows.parameters import GenerateParameters

    with _stops_when_told(request.run_id, is_temporary=server is None):
        summary: RunSummary = generate_catalog(GenerateParameters(**asdict(request)))
    return summary


@contextmanager
def _stops_when_told(run_id: str, *, is_temporary: bool) -> Iterator[None]:
    """Ends this process at Ctrl-C or SIGTERM; that is safe at any moment, because the run can be resumed.

    With the user's server, the active shards are finished first, and Prefect reports the flow as crashed; a
    second signal ends the shards, too. With a temporary server, the process ends at once.
    """
    signals = 0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal signals
        signals += 1
        if signals == 1 and not is_temporary:
            print("stopping when the active shards are done; a second signal stops at once", file=sys.stderr)
            raise KeyboardInterrupt
        signal.signal(number, signal.SIG_IGN)
        print(f"stopped; the same command with --run-id {run_id} resumes it", file=sys.stderr, flush=True)
        os._exit(1)  # a temporary server ends with this process

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        raise RunFailed(f"stopped; the same command with --run-id {run_id} resumes it") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _find_server() -> str | None:
    """Returns the URL of the configured server. If there is none, starts a temporary one and returns None."""
    server = prefect_settings().api.url
    if server is None:
        from flows.local_server import start_temporary_server

        start_temporary_server()
    return server


def _reach_server(what: str, server: str | None) -> None:
    """Prints `what`, and waits for the configured `server`, or for the temporary one if it is None.

    Raises BadInput or Retryable for a server that cannot be used.
    """
    wait = "" if server else "; starting Prefect's temporary server, a few seconds"
    print(what + wait, file=sys.stderr, flush=True)
    if server:
        check_server(server)
    else:
        from flows.local_server import temporary_server

        temporary_server()
