"""Runs `generate-catalog` in this process for the command line: as a flow, or without Prefect."""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from types import FrameType
from typing import TYPE_CHECKING, Any

from flows.reach import check_server, configured_server, reach_loopback_directly
from flows.stopping import say_in_handler
from toygan.errors import RunFailed
from toygan.memory import importing
from toygan.planning.catalog import check_catalog
from toygan.planning.catalog_files.convert import parse_mapping

if TYPE_CHECKING:
    from toygan.publishing.summary import RunSummary


def run_generate(
    *, catalog: str, run_id: str | None, columns: Sequence[str] = (), **parameters: Any
) -> "RunSummary":
    """Runs `generate-catalog` in this process and raises its errors.

    With a configured server this is the flow. Without one there is nobody to report to: the same steps run
    without Prefect, which halves the time of a small run. Only Dask and Ray then need a temporary server.

    Bad input is refused before anything starts, a bad catalog even before torch is imported. `columns` are
    values of `--map`.
    """
    mapping = parse_mapping(columns)
    check_catalog(catalog, mapping)
    server = configured_server()
    reach_loopback_directly()
    with importing():
        from flows.metrics import serve_metrics
        from flows.settings import service_settings
        from toygan.generation.request import RunRequest, check_request, new_run_id

    request = RunRequest(catalog=catalog, columns=mapping, run_id=run_id or new_run_id(), **parameters)
    settings = service_settings()
    is_new = run_id is None
    needs_server = server is not None or settings.runner != "threads"
    if needs_server:
        check_request(request, is_new=is_new)
    if settings.metrics_port:
        serve_metrics(settings.metrics_port, settings.metrics_address)
    print(f"run {request.run_id}", file=sys.stderr, flush=True)
    with _stops_at_signals(request.run_id, is_temporary=server is None):
        if not needs_server:
            from flows.steps import run_here

            return run_here(request, is_new=is_new)
        if server is not None:
            check_server(server)
        else:
            from flows.local_server import temporary_server

            print("starting Prefect's temporary server", file=sys.stderr, flush=True)
            temporary_server()
        from flows.generate_catalog import generate_catalog
        from flows.parameters import GenerateParameters

        summary: RunSummary = generate_catalog(GenerateParameters(**asdict(request)))
    return summary


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
