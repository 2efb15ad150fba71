"""Metrics over HTTP for Prometheus, on TOYGAN_METRICS_ADDRESS and TOYGAN_METRICS_PORT.

Flows run in short-lived processes. All of them write their counts into the folder PROMETHEUS_MULTIPROC_DIR,
and one long-lived process adds them up. This process is the service of `flows.deployments`, which makes the
folder, or `python -m flows.metrics` on a node of Ray or Dask.
"""

import atexit
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from flows.exits import BAD_INPUT
from toygan.errors import BadInput

if TYPE_CHECKING:
    from prometheus_client import Metric

FOLDER = "PROMETHEUS_MULTIPROC_DIR"


def share_metrics() -> None:
    """Sets the folder in which child processes leave their counts for serve_metrics."""
    if FOLDER not in os.environ:
        folder = os.environ[FOLDER] = tempfile.mkdtemp(prefix="toygan-metrics-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)


def serve_metrics(port: int, address: str) -> None:
    """Answers `GET /metrics` from a thread until this process ends.

    Raises BadInput if the port is in use, or if this machine does not have the address.
    """
    from prometheus_client import REGISTRY, CollectorRegistry, start_http_server

    registry = REGISTRY
    if name := os.environ.get(FOLDER):
        folder = Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        registry = CollectorRegistry()
        registry.register(_AllProcesses(folder))
    try:
        start_http_server(port, addr=address, registry=registry)
    except OSError as error:
        raise BadInput(
            f"TOYGAN_METRICS_PORT={port} on TOYGAN_METRICS_ADDRESS={address}: {error.strerror}; set them "
            "to a free port and an address of this machine"
        ) from None


class _AllProcesses:
    """Sums the counts that processes have left in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> "Iterable[Metric]":
        """Returns the metrics; prometheus_client calls this for every request."""
        from prometheus_client.multiprocess import MultiProcessCollector

        _forget_the_dead(self._folder)
        metrics: Iterable[Metric] = MultiProcessCollector(None, path=str(self._folder)).collect()
        return metrics


def _forget_the_dead(folder: Path) -> None:
    """Removes the gauges of ended processes, because a gauge shows the present state."""
    if not Path("/proc/self").exists():  # only Linux lists the living processes in /proc
        return
    for file in folder.glob("gauge_live*_*.db"):
        number = file.stem.rpartition("_")[2]
        if number.isdigit() and not Path("/proc", number).exists():
            file.unlink(missing_ok=True)


def main() -> None:
    """Serves the counts in PROMETHEUS_MULTIPROC_DIR until this process is stopped."""
    from flows.settings import service_settings

    settings = service_settings()
    if not settings.metrics_port or FOLDER not in os.environ:
        print(
            f"toygan: set TOYGAN_METRICS_PORT to a port and {FOLDER} to the folder of the counts",
            file=sys.stderr,
        )
        sys.exit(BAD_INPUT)
    serve_metrics(settings.metrics_port, settings.metrics_address)
    threading.Event().wait()


if __name__ == "__main__":
    main()
