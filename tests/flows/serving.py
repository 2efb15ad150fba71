"""The service as a process: `python -m flows.deployments`, and what its Prefect server says of it."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.servers import ask_prefect

LIMIT_S = 360.0
STOP_LIMIT_S = 180.0
_ASK_AGAIN_S = 15.0

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Service:
    """A Prefect server, and a process that serves the deployments with it."""

    environment: Mapping[str, str]
    log: Path
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """Of the server's API."""
        return self.environment["PREFECT_API_URL"]

    def ask(self, method: str, path: str, content: object = None) -> Any:
        """See `ask_prefect`; the service's log is in the message of a failure."""
        try:
            return ask_prefect(self.url, method, path, content)
        except httpx.HTTPError as error:
            raise AssertionError(f"{error!r}:\n{self.log.read_text()[-4000:]}") from error

    def deployment(self, name: str) -> Json:
        """The deployment NAME/NAME, once it is there."""
        found: Json = self.wait_for(f"the deployment {name}", lambda: self._deployment(name))
        return found

    def _deployment(self, name: str) -> Json | None:
        found: list[Json] = self.ask(
            "POST", "/deployments/filter", {"deployments": {"name": {"any_": [name]}}}
        )
        return found[0] if found else None

    def runs(self, name: str, *states: str) -> list[Json]:
        """The runs of a deployment, the oldest first; with `states` only those in one of these."""
        wanted: Json = {
            "deployments": {"name": {"any_": [name]}},
            "sort": "EXPECTED_START_TIME_ASC",
        }
        if states:
            wanted["flow_runs"] = {"state": {"type": {"any_": list(states)}}}
        found: list[Json] = self.ask("POST", "/flow_runs/filter", wanted)
        return found

    def start(self, name: str, **parameters: object) -> str:
        """Asks for a run of a deployment, as `prefect deployment run` does; returns its id."""
        identifier = self.deployment(name)["id"]
        given = {"parameters": {"parameters": parameters}} if parameters else {}
        run: Json = self.ask("POST", f"/deployments/{identifier}/create_flow_run", given)
        return str(run["id"])

    def finished(self, run_id: str) -> Json:
        """The run, once it is over."""
        run: Json = self.wait_for(f"the end of {run_id}", lambda: self._if_over(run_id))
        return run

    def _if_over(self, run_id: str) -> Json | None:
        run: Json = self.ask("GET", f"/flow_runs/{run_id}")
        return run if run["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else None

    def wait_for(self, what: str, look: Callable[[], Any]) -> Any:
        """What `look` returns, once that is something."""
        limit_s = time.monotonic() + LIMIT_S
        while time.monotonic() < limit_s:
            if self.process is not None and self.process.poll() is not None:
                break
            if found := look():
                return found
            time.sleep(0.3)
        raise AssertionError(f"{what} did not come:\n{self.log.read_text()[-4000:]}")


@contextmanager
def serving(environment: Mapping[str, str], folder: Path, **settings: str) -> Iterator[Service]:
    """Serves the deployments with the server of `environment`; `settings` are variables of the process."""
    with running([sys.executable, "-m", "flows.deployments"], environment, folder, **settings) as service:
        yield service


@contextmanager
def running(
    command: list[str], environment: Mapping[str, str], folder: Path, **settings: str
) -> Iterator[Service]:
    """A process that runs deployments; those that others made with the same server are removed before."""
    own = {**environment, "PREFECT_LOGGING_LEVEL": "INFO", "XDG_CACHE_HOME": str(folder), **settings}
    log = folder / "service.log"
    left = Service(environment=own, log=log)
    for deployment in left.ask("POST", "/deployments/filter", {}):
        left.ask("DELETE", f"/deployments/{deployment['id']}")
    with log.open("wb") as sink:
        process = subprocess.Popen(command, env=own, stdout=sink, stderr=sink)
    try:
        yield Service(environment=own, log=log, process=process)
    finally:
        _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Asks it to end until it does: Prefect ends a worker by an exception, which a destructor may swallow."""
    give_up_at = time.monotonic() + STOP_LIMIT_S
    while process.poll() is None and time.monotonic() < give_up_at:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_ASK_AGAIN_S)
    process.kill()
    process.wait()
