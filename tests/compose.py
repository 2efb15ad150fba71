"""The services of docker/compose.yaml as processes of this machine, with what is described there.

Their commands, environment, health checks and order are those of the file. What differs: hosts and ports are
the loopback interface and free ports of it, volumes are folders, a database is what
`tests.servers.postgresql_server` starts, and the S3 server is rclone. Programs of images are those that are
installed here.
"""

import os
import re
import socket
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.servers import REPOSITORY, free_port, postgresql_server

COMPOSE = REPOSITORY / "docker" / "compose.yaml"
_LIMIT_S = 360.0
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)(?::([-?])([^}]*))?\}")
_SCRIPTS = Path(sysconfig.get_path("scripts"))

Service = dict[str, Any]


def read_compose(variables: Mapping[str, str]) -> dict[str, Service]:
    """The services by name, with the variables filled in as docker-compose does it."""

    def fill(found: re.Match[str]) -> str:
        name, kind, rest = found.groups()
        if variables.get(name):
            return variables[name]
        assert kind == "-", f"{name} is not set: {rest}"
        return str(rest)

    services: dict[str, Service] = yaml.safe_load(_VARIABLE.sub(fill, COMPOSE.read_text()))["services"]
    return services


@dataclass
class Running:
    """The services that have been started."""

    folder: Path
    ports: Mapping[tuple[str, int], int]  # by service and port in its container
    processes: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)

    def address(self, service: str, port: int) -> str:
        """Where a port of a service is reached."""
        return f"http://127.0.0.1:{self.ports[service, port]}"

    def log(self, service: str) -> str:
        """What a service has written."""
        return (self.folder / f"{service}.log").read_text()

    def wait_for(self, what: str, look: Callable[[], Any]) -> Any:
        """What `look` returns, once that is something."""
        limit_s = time.monotonic() + _LIMIT_S
        while time.monotonic() < limit_s:
            for name, process in self.processes.items():
                assert process.poll() is None, f"{name} ended:\n{self.log(name)[-3000:]}"
            if found := look():
                return found
            time.sleep(0.3)
        logs = "\n".join(f"== {name}\n{self.log(name)[-1500:]}" for name in self.processes)
        raise AssertionError(f"{what} did not come:\n{logs}")


@contextmanager
def compose_up(folder: Path, variables: Mapping[str, str], **settings: str) -> Iterator[Running]:
    """All services, healthy; `settings` are variables that toygan's get besides those of the file."""
    services = read_compose(variables)
    ports = {
        (name, int(port)): free_port()
        for name, service in services.items()
        for port in _ports_of(name, service)
    }
    running = Running(folder=folder, ports=ports)
    with ExitStack() as stack:
        for name in _in_order(services):
            service = services[name]
            if service["image"].startswith("postgres:"):
                uri = stack.enter_context(_database(folder, service["environment"]))
                running.ports = {**running.ports, (name, 5432): int(uri.rpartition(":")[2])}
                continue
            here = _Here(running, name, service, settings)
            running.processes[name] = stack.enter_context(here.started())
            running.wait_for(f"the health of {name}", here.is_healthy)
        yield running


@dataclass(frozen=True)
class _Here:
    """One service, with what its container would have translated to this machine."""

    running: Running
    name: str
    service: Service
    settings: Mapping[str, str]

    def environment(self) -> dict[str, str]:
        """Nothing of this process's own but what every process needs."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "OMP_NUM_THREADS") if name in os.environ}
        stated = {name: self._here(str(value)) for name, value in self.service.get("environment", {}).items()}
        home = self.running.folder / "home" / self.name
        home.mkdir(parents=True, exist_ok=True)
        common = {"HOME": str(home), "PYTHONPATH": str(REPOSITORY), "NO_PROXY": "127.0.0.1,localhost"}
        own = self.settings if self.service["image"].startswith("toygan") else {}
        return kept | common | {"PATH": f"{_SCRIPTS}{os.pathsep}{os.environ['PATH']}"} | stated | own

    def command(self) -> list[str]:
        if self.is_s3:
            return self._rclone()
        return [self._here(str(word)) for word in [*self.service["entrypoint"], *self.service["command"]]]

    @property
    def is_s3(self) -> bool:
        return bool(self.service["image"].startswith("chrislusf/seaweedfs:"))

    def _rclone(self) -> list[str]:
        """A server with the same login, which finds the bucket that SeaweedFS makes."""
        (bucket,) = re.findall(r"-bucket=(\S+)", " ".join(self.service["command"]))
        data = self.running.folder / "volumes" / "pictures"
        (data / bucket).mkdir(parents=True, exist_ok=True)
        login = "{AWS_ACCESS_KEY_ID},{AWS_SECRET_ACCESS_KEY}".format(**self.service["environment"])
        address = f"127.0.0.1:{self.running.ports[self.name, 8333]}"
        command = ["rclone", "serve", "s3", "--addr", address, "--auth-key", login]
        return [*command, "--config", "/dev/null", str(data)]

    @contextmanager
    def started(self) -> "Iterator[subprocess.Popen[bytes]]":
        with (self.running.folder / f"{self.name}.log").open("wb") as log:
            process = subprocess.Popen(
                self.command(), env=self.environment(), stdout=log, stderr=log, cwd=self.running.folder
            )
        try:
            yield process
        finally:
            process.terminate()
            process.wait()

    def is_healthy(self) -> bool:
        if self.is_s3:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.running.ports[self.name, 8333])) == 0
        kind, *check = self.service["healthcheck"]["test"]
        assert kind == "CMD"
        command = [self._here(word) for word in check]
        return subprocess.run(command, env=self.environment(), capture_output=True).returncode == 0

    def _here(self, text: str) -> str:
        """Hosts, ports and folders of containers as they are called here."""
        for (name, port), local in self.running.ports.items():
            text = text.replace(f"{name}:{port}", f"127.0.0.1:{local}")
            if name == self.name:
                text = re.sub(rf"(localhost|^):{port}\b", f"127.0.0.1:{local}", text)
                text = re.sub(rf"^{port}$", str(local), text)
        for volume in self.service.get("volumes", []):
            source, target = volume.split(":")[:2]
            if text == target or text.startswith(f"{target}/"):
                folder = self.running.folder / "volumes" / source
                folder.mkdir(parents=True, exist_ok=True)
                text = f"{folder}{text.removeprefix(target)}"
        return text.replace("0.0.0.0", "127.0.0.1")


def _ports_of(name: str, service: Service) -> set[str]:
    """What a container listens on: published ports, and those that its environment names."""
    published = {port.rpartition(":")[2] for port in service.get("ports", [])}
    named = {
        str(value) for key, value in service.get("environment", {}).items() if key.endswith("_SERVER_PORT")
    }
    return published | named


def _in_order(services: Mapping[str, Service]) -> list[str]:
    """Each after all that it depends on."""
    ordered: list[str] = []

    def add(name: str) -> None:
        for other in services[name].get("depends_on", {}):
            add(other)
        if name not in ordered:
            ordered.append(name)

    for name in services:
        add(name)
    return ordered


@contextmanager
def _database(folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """PostgreSQL with the database that the image would make; yields HOST:PORT."""
    with postgresql_server(folder) as uri:
        place = uri.partition("@")[2].partition("/")[0]
        user, name = environment["POSTGRES_USER"], environment["POSTGRES_DB"]
        assert uri.partition("://")[2].startswith(f"{user}@"), "the test's server knows one user only"
        host, port = place.split(":")
        command = ["psql", "--host", host, "--port", port, "--username", user, "--dbname", "postgres"]
        subprocess.run([*command, "--command", f'CREATE DATABASE "{name}"'], check=True, capture_output=True)
        yield place
