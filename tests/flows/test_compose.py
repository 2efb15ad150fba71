"""docker/: what it describes is accepted by docker-compose, and runs, without Docker, as processes."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.settings import ServiceSettings
from tests.compose import COMPOSE, Running, compose_up, read_compose
from tests.servers import REPOSITORY, ask_prefect
from toygan.publishing.verify import verify
from toygan.storage.open_store import open_store

DOCKERFILE = REPOSITORY / "docker" / "Dockerfile"
DEPLOYMENTS = {"generate-catalog", "export-channel", "retrain", "watch-photos"}
SECRETS = {"DATABASE_PASSWORD": "database-password", "S3_SECRET": "s3-secret-key"}


def docker_compose(*arguments: str | Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Debian's docker-compose, which needs no daemon for what is asked here."""
    if not shutil.which("docker-compose"):
        message = "docker-compose is not installed (Debian: apt-get install docker-compose)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    known = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    command = ["docker-compose", *map(str, arguments)]
    return subprocess.run(command, env=known | variables, capture_output=True, text=True)


@pytest.mark.parametrize("files", [[COMPOSE], [COMPOSE, COMPOSE.with_name("compose.cuda.yaml")]])
@pytest.mark.service
def test_docker_compose_accepts_it(files: list[Path]) -> None:
    options = [option for file in files for option in ("-f", str(file))]
    result = docker_compose(*options, "config", "--quiet", **SECRETS)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("missing", sorted(SECRETS))
@pytest.mark.service
def test_a_secret_has_no_default(missing: str) -> None:
    result = docker_compose("-f", COMPOSE, "config", "--quiet", **{**SECRETS, missing: ""})
    assert result.returncode != 0
    assert f"set {missing} in docker/.env" in result.stderr


def test_services_have_health_checks_and_ports_for_this_machine_only() -> None:
    services = read_compose(SECRETS)
    assert services.keys() == {"database", "server", "s3", "worker", "watcher"}
    for name, service in services.items():
        assert "healthcheck" in service, name
        assert service["restart"] == "unless-stopped", name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


def test_each_service_has_limits_of_memory_and_logs_and_time_to_stop() -> None:
    for name, service in read_compose(SECRETS).items():
        assert re.fullmatch(r"\d+g", service["mem_limit"]), name
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name
        assert service["stop_grace_period"] == "1m", name


def test_base_images_are_those_of_a_digest() -> None:
    pinned = re.compile(r"\S+:\S+@sha256:[0-9a-f]{64}")
    for name, service in read_compose(SECRETS).items():
        assert "build" in service or pinned.fullmatch(service["image"]), name
    for name, (first, *_) in stages().items():
        base = first.split()[1]
        assert base in stages() or pinned.fullmatch(base), name


SHOP = {
    "TOYGAN_CATALOG": "/shop/catalog.parquet",
    "TOYGAN_CRON": "30 1 * * *",
    "TOYGAN_TIMEZONE": "Europe/Berlin",
    "TOYGAN_MODE": "refresh",
    "TOYGAN_REFRESH_SHARE": "0.05",
    "TOYGAN_PHOTOS": "/shop/photos",
    "TOYGAN_GRACE_H": "3",
}


def test_what_docker_env_says_of_the_shop_reaches_worker_and_watcher() -> None:
    for variables in (SHOP, {}):
        services = read_compose({**SECRETS, **variables})
        for name in ("worker", "watcher"):
            environment = services[name]["environment"]
            assert {key: environment[key] for key in SHOP} == {key: variables.get(key, "") for key in SHOP}
    assert any(volume.endswith(":/shop:ro") for volume in services["worker"]["volumes"])


# Paths, ports and logs of the containers, and clusters, for which docker/README.md describes nodes instead.
NOT_THE_SHOPS = {"STORE", "WORK", "LOG_FORMAT", "METRICS_PORT", "METRICS_ADDRESS", "SHARD_CPUS", "SHARD_GPUS"}
NOT_THE_SHOPS |= {"RUNNER", "RUNNER_ADDRESS"}


def test_each_setting_of_a_shop_can_be_given_in_docker_env() -> None:
    settings = {name.upper() for name in ServiceSettings.model_fields} - NOT_THE_SHOPS
    variables = {f"TOYGAN_{name}": f"of the shop: {name}" for name in settings}
    services = read_compose({**SECRETS, **variables})
    for name in ("worker", "watcher"):
        assert services[name]["environment"].items() >= variables.items()


def test_the_pages_ask_whatever_served_them() -> None:
    """A browser behind a proxy does not find the server by the name that the server has for itself."""
    assert read_compose(SECRETS)["server"]["environment"]["PREFECT_UI_API_URL"] == "/api"


@pytest.mark.service
def test_what_compose_describes_runs(tmp_path: Path) -> None:
    """Server on PostgreSQL, worker, watcher and S3 server; a run of the catalog ends in the bucket."""
    with compose_up(tmp_path, SECRETS, TOYGAN_WATCH_INTERVAL_S="5", OMP_NUM_THREADS="1") as running:
        api = running.address("server", 4200) + "/api"
        deployments = running.wait_for("the deployments", lambda: deployments_at(api))
        assert deployments.keys() == DEPLOYMENTS

        asked = {"parameters": {"parameters": {"limit": 3}}}
        identifier = deployments["generate-catalog"]["id"]
        run = ask_prefect(api, "POST", f"/deployments/{identifier}/create_flow_run", asked)
        ended = running.wait_for("the run", lambda: run_if_over(api, run["id"]))
        assert ended["state_type"] == "COMPLETED", running.log("worker")

        watched = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
        watched |= {"deployments": {"name": {"any_": ["watch-photos"]}}}
        running.wait_for(
            "a look at the uploads", lambda: ask_prefect(api, "POST", "/flow_runs/filter", watched)
        )

        metrics = httpx.get(running.address("worker", 9464) + "/metrics", timeout=60).text
        assert sum(map(float, re.findall(r"^toygan_candidates_total\{.*\} (\S+)$", metrics, re.M))) >= 3
        assert_store_is_whole(running)
        assert '"shard": 0' in running.log("worker")
        for secret in SECRETS.values():
            assert all(secret not in running.log(name) for name in running.processes)


def deployments_at(api: str) -> dict[str, Any] | None:
    """By name, once all are there."""
    found = {each["name"]: each for each in ask_prefect(api, "POST", "/deployments/filter", {})}
    return found if len(found) == len(DEPLOYMENTS) else None


def run_if_over(api: str, run_id: str) -> dict[str, Any] | None:
    run: dict[str, Any] = ask_prefect(api, "GET", f"/flow_runs/{run_id}")
    return run if run["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else None


def assert_store_is_whole(running: Running) -> None:
    environment = {
        "AWS_ENDPOINT_URL": running.address("s3", 8333),
        "AWS_ACCESS_KEY_ID": "toygan",
        "AWS_SECRET_ACCESS_KEY": SECRETS["S3_SECRET"],
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        verdict = verify(open_store("s3://toygan/shop"))
    assert (verdict.problems, verdict.finished_runs) == ((), 1)


def stages() -> dict[str, list[str]]:
    """The instructions of the Dockerfile by stage, each on a line."""
    text = re.sub(r"\\\n\s*", " ", DOCKERFILE.read_text())
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if begun := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            lines = found.setdefault(begun[2], [line])
        elif line and not line.startswith("#") and found:
            lines.append(line)
    return found


def test_the_images_run_as_nobody_in_particular_and_hold_no_build_tools() -> None:
    """Both begin with the bare Python image, and take one folder from a stage that builds."""
    found = stages()
    assert found.keys() == {"build", "build-cpu", "run", "cpu", "cuda"}
    for name, source in (("cpu", "build-cpu"), ("cuda", "build")):
        first, *rest = found[name]
        assert first == f"FROM run AS {name}"
        assert f"COPY --from={source} /opt/toygan /opt/toygan" in rest
        assert not any(line.startswith(("USER", "RUN")) for line in rest)
    run = found["run"]
    assert any(re.fullmatch(r"USER [1-9]\d*", line) for line in run)
    assert not any("apt-get" in line or "pip install" in line or "COPY" in line for line in run)
    assert any("pip uninstall --yes setuptools wheel pip" in line for line in run)
    assert found["build"][-1].endswith("pip uninstall --yes pip")


def test_the_cpu_image_is_not_built_with_cuda() -> None:
    """The line of the Dockerfile that refuses it, with a torch of either kind."""
    first, refuses = stages()["build-cpu"]
    assert first == "FROM build AS build-cpu"
    (program,) = re.findall(r'python -c "(.*)"$', refuses)
    for cuda, code in ((None, 0), ("13.0", 1)):
        module = f"types.SimpleNamespace(version=types.SimpleNamespace(cuda={cuda!r}))"
        fake = f"import sys, types; sys.modules['torch'] = {module}"
        ended = subprocess.run([sys.executable, "-c", f"{fake}; {program}"], capture_output=True, text=True)
        assert ended.returncode == code
        assert ("CPU_WHEELS" in ended.stderr) == bool(code)


def test_what_the_image_is_made_of_is_let_into_its_build() -> None:
    """.dockerignore keeps everything out but what is copied."""
    let_in = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line[0] == "!"}
    copied = {word for line in stages()["build"] if line.startswith("COPY") for word in line.split()[1:-1]}
    assert copied == let_in
    assert all((REPOSITORY / name).exists() for name in copied)
