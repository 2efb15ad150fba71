"""The service is stopped and killed in the middle of its work, and started again: no run is lost."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.flows.serving import STOP_LIMIT_S, Json, Service, running
from tests.flows.slow_flow import NAME

pytestmark = pytest.mark.service

COMMAND = [sys.executable, "-m", "tests.flows.slow_flow"]


def start_again(service: Service) -> Service:
    """The same command and settings, once the first process has ended."""
    with service.log.open("ab") as sink:
        process = subprocess.Popen(COMMAND, env=service.environment, stdout=sink, stderr=sink)
    return Service(environment=service.environment, log=service.log, process=process)


def state_of(service: Service, run_id: str) -> tuple[str, str]:
    run: Json = service.ask("GET", f"/flow_runs/{run_id}")
    return run["state_type"], run["state_name"]


def end(service: Service, number: signal.Signals) -> Service:
    """Ends the service and checks that its runs end with it; what is left answers without a process."""
    assert service.process is not None
    runs = psutil.Process(service.process.pid).children(recursive=True)
    assert runs
    service.process.send_signal(number)
    code = service.process.wait(STOP_LIMIT_S)
    assert code == (0 if number == signal.SIGTERM else -signal.SIGKILL), service.log.read_text()
    _, alive = psutil.wait_procs(runs, timeout=STOP_LIMIT_S)
    assert not alive, "runs outlived the service"
    return Service(environment=service.environment, log=service.log)


def test_a_service_that_was_stopped_and_killed_loses_no_run(
    tmp_path: Path, prefect_environment: dict[str, str]
) -> None:
    log, go = tmp_path / "log", tmp_path / "go"

    def lines() -> list[str]:
        return log.read_text().splitlines() if log.exists() else []

    with running(COMMAND, prefect_environment, tmp_path) as first:
        given = {"log": str(log), "go": str(go)}
        first.deployment(NAME)
        runs = [first.start(NAME, number=number, **given) for number in (1, 2, 3)]
        first.wait_for("the first run", lambda: lines() == ["start 1"])
        # Only here does a run wait for certain: the first one does not end before `go` is there.
        waits = "waits until the run before it is over"
        first.wait_for("a word on the next run", lambda: waits in first.log.read_text())
        stopped = end(first, signal.SIGTERM)
    assert state_of(stopped, runs[0]) == ("SCHEDULED", "AwaitingRetry")
    assert {state_of(stopped, run_id)[0] for run_id in runs[1:]} == {"SCHEDULED"}
    assert not stopped.deployment(NAME)["paused"]

    second = start_again(stopped)
    try:
        second.wait_for("the first run again", lambda: lines() == ["start 1"] * 2)
        killed = end(second, signal.SIGKILL)
    finally:
        assert second.process is not None
        second.process.kill()
    assert state_of(killed, runs[0])[0] == "RUNNING"  # nobody was left to tell Prefect

    go.touch()
    third = start_again(killed)
    assert third.process is not None
    try:
        assert [third.finished(run_id)["state_type"] for run_id in runs] == ["COMPLETED"] * 3
        third.process.terminate()
        assert third.process.wait(STOP_LIMIT_S) == 0
    finally:
        third.process.kill()
        third.process.wait()
    # In the order in which they were asked for, one at a time.
    assert lines() == [*["start 1"] * 3, "end 1", "start 2", "end 2", "start 3", "end 3"]
