"""Real Ray nodes on this machine, each with processes of its own that can be killed together."""

import os
import secrets
import shutil
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.servers import free_port

_START_LIMIT_S = 180.0
_STOP_LIMIT_S = 30.0
_MARK = "TOYGAN_TEST_CLUSTER"  # in the environment of every process of a cluster
_OBJECT_STORE_BYTES = 80_000_000  # close to the least that Ray takes


@dataclass(frozen=True, kw_only=True)
class RayNode:
    """What `ray start` started."""

    process: "subprocess.Popen[bytes]"

    def processes(self) -> list[psutil.Process]:
        """All processes of the node, the first one included."""
        first = psutil.Process(self.process.pid)
        return [first, *first.children(recursive=True)]

    def at_work(self) -> list[psutil.Process]:
        """The worker processes that compute a shard at this moment: Ray names them for their task."""
        return [each for each in self.processes() if "ray::generate-shard" in " ".join(_words_of(each))]

    def kill(self) -> None:
        """All of it at once, as when the power fails."""
        for process in self.processes():
            process.kill()
        self.process.wait()


@dataclass(frozen=True, kw_only=True)
class RayCluster:
    """A head and its workers. `environment` leads a process to them."""

    address: str
    nodes: tuple[RayNode, ...]
    environment: Mapping[str, str]


@contextmanager
def ray_cluster(
    nodes: int, environment: Mapping[str, str], *, cpus: int = 1, gpus: int = 0, pinned: bool = False
) -> Iterator[RayCluster]:
    """Starts `sizes` nodes, which have `cpus` and `gpus` by Ray's books; the processes end with the block.

    With `pinned` the processes of each node run on one core of their own.
    """
    # Ray's sockets lie here, whose paths may have 107 letters.
    folder = tempfile.mkdtemp(prefix="ray-")
    variables = {
        **environment,
        _MARK: folder,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    port = free_port()
    address = f"127.0.0.1:{port}"
    size = [f"--num-cpus={cpus}", f"--num-gpus={gpus}", f"--object-store-memory={_OBJECT_STORE_BYTES}"]
    cores = sorted(os.sched_getaffinity(0))
    try:
        with ExitStack() as stack:
            started = []
            for number in range(nodes):
                where = [f"--address={address}"]
                if number == 0:
                    where = ["--head", f"--port={port}", f"--temp-dir={folder}", "--include-dashboard=false"]
                    where += [f"--ray-client-server-port={free_port()}"]
                core = {cores[number]} if pinned else None
                log = Path(folder) / f"node-{number}.log"
                started.append(stack.enter_context(_node([*where, *size], variables, log, core)))
                _wait_for_nodes(number + 1, address, variables, started[-1], log)
            yield RayCluster(address=address, nodes=tuple(started), environment=variables)
    finally:
        _end_all(folder)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _node(
    options: list[str], environment: Mapping[str, str], log: Path, cores: set[int] | None
) -> Iterator[RayNode]:
    command = [str(Path(sysconfig.get_path("scripts")) / "ray"), "start", "--block", "--disable-usage-stats"]
    command += ["--node-ip-address=127.0.0.1", f"--dashboard-agent-listen-port={free_port()}", *options]
    if cores:
        command = ["taskset", "--cpu-list", ",".join(map(str, sorted(cores))), *command]
    with log.open("wb") as sink:
        process = subprocess.Popen(command, env=environment, stdout=sink, stderr=sink, start_new_session=True)
    try:
        yield RayNode(process=process)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_nodes(
    count: int, address: str, environment: Mapping[str, str], node: RayNode, log: Path
) -> None:
    """Waits until `ray status` counts `count` nodes."""
    ray = str(Path(sysconfig.get_path("scripts")) / "ray")
    limit_s = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < limit_s and node.process.poll() is None:
        answer = subprocess.run(
            [ray, "status", f"--address={address}"], env=environment, capture_output=True, text=True
        )
        if answer.returncode == 0 and answer.stdout.count("node_") >= count:
            return
        time.sleep(0.5)
    raise RuntimeError(f"a Ray node did not start:\n{log.read_text()[-2000:]}")


def _end_all(mark: str) -> None:
    """Ends what is left of a cluster, by its mark: what `ray start` does not wait for."""
    left = [each for each in psutil.process_iter() if _mark_of(each) == mark]
    _, alive = psutil.wait_procs(left, timeout=_STOP_LIMIT_S)
    for process in alive:
        process.kill()
    _, alive = psutil.wait_procs(alive, timeout=_STOP_LIMIT_S)
    assert not alive, "processes of Ray outlived their cluster"


def _mark_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(_MARK)
    except psutil.Error:
        return None


def _words_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
