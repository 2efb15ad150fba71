"""SIGTERM ends the service at every moment of its start: before, between and after its signal handlers."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.service

LIMIT_S = 240
MOMENTS = [
    "flows.deployments:_apply",
    "prefect.client.orchestration:SyncPrefectClient.request",  # while the deployments are made
    "flows.service:ServiceRunner.start",
    "prefect.runner.runner:get_client",  # Prefect has set the handler, its runner has nothing yet
    "prefect.runner.runner:ScheduledRunPoller",
    "flows.service:take_up",
]
# Imports once what each child would import; each one sends itself SIGTERM just before a call.
SERVES = """
import importlib, os, signal, sys
import flows.deployments, flows.generate_catalog, flows.kept, flows.local_server, flows.retrain, flows.service
import flows.settings, flows.watch_photos, prefect.deployments.runner

def sends_before(place):
    module, names = place.split(":")
    *outer, last = names.split(".")
    holder = importlib.import_module(module)
    for name in outer:
        holder = getattr(holder, name)
    real = getattr(holder, last)

    def call(*arguments, **options):
        setattr(holder, last, real)
        print(place, flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments, **options)

    setattr(holder, last, call)

for place in sys.argv[1:]:
    pid = os.fork()
    if pid == 0:
        sys.argv[1:] = []
        sends_before(place)
        flows.deployments.main()
        sys.exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


def test_sigterm_ends_the_service_at_every_moment_of_its_start(
    tmp_path: Path, prefect_environment: dict[str, str]
) -> None:
    environment = {**prefect_environment, "PYTHONPATH": str(REPOSITORY), "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", SERVES, *MOMENTS],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.stdout.splitlines() == [line for place in MOMENTS for line in (place, "0")], done.stderr
    assert "Traceback" not in done.stderr
