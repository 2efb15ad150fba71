"""What an operator sees of a run: log lines, metrics, alerts."""

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from catalog_schemas.images import DECISIONS
from catalog_schemas.runs import Manifest
from tests.conftest import REPOSITORY
from tests.faulty_proxy import Fault, faulty_proxy
from tests.flows.catalogs import product, products, write_catalog
from tests.flows.conftest import COMMAND_LIMIT_S, Toygan
from tests.flows.serving import running
from tests.models import CATEGORIES, nan_model, tiny_model
from tests.servers import S3Server, free_port
from toygan.planning.finished import read_manifest
from toygan.storage.keys import COMMITS_KEY, manifest_key
from toygan.storage.open_store import open_store
from toygan.storage.store import ObjectStore

RUN_ID = "nightly"
OUTAGE = 40  # requests; 2 x 18 and one more are enough
Samples = dict[tuple[str, ...], float]


@contextmanager
def exporter(environment: Mapping[str, str], port: int) -> Iterator[str]:
    """`python -m flows.metrics` beside the runs; yields its address."""
    process = subprocess.Popen([sys.executable, "-m", "flows.metrics"], env=environment)
    address = f"http://127.0.0.1:{port}/metrics"
    end = time.monotonic() + COMMAND_LIMIT_S
    try:
        while time.monotonic() < end:
            assert process.poll() is None
            try:
                httpx.get(address, timeout=60)
                break
            except httpx.HTTPError:
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait()


def samples(address: str) -> Samples:
    """The values that Prometheus would read, by name and labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(httpx.get(address, timeout=60).text)
        for sample in family.samples
    }


def test_a_run_reports_to_prometheus_and_to_a_log_collector(
    tmp_path: Path,
    toygan: Toygan,
    prefect_environment: dict[str, str],
    rclone: S3Server,
    s3_uri: str,
) -> None:
    """Into a bucket that refuses everything for a while, once the first picture is there.

    Of 18 calls at most that are under way at a time, each of three tries, one at least fails within
    `OUTAGE` requests.
    """
    model = tiny_model().write(tmp_path / "tiny")
    catalog = products(tmp_path / "catalog.parquet", 60)
    behind = open_store(f"{s3_uri}/shop")
    refused = 0
    lock = threading.Lock()

    def fault() -> Fault:
        nonlocal refused
        with lock:
            if refused < OUTAGE and (refused or any(behind.list("images/"))):
                refused += 1
                return "503"
            return "none"

    port = free_port()
    shared = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics")}
    log_settings = {"TOYGAN_LOG_FORMAT": "json", "PREFECT_LOGGING_LEVEL": "INFO"}
    alone = {**prefect_environment, **shared, "TOYGAN_METRICS_PORT": str(port)}
    with exporter(alone, port) as address, faulty_proxy(rclone, fault) as network:
        assert samples(address) == {}
        command = ["generate", "--catalog", catalog, "--model", model, "--run-id", RUN_ID]
        result = toygan(
            *command, "--output", f"{s3_uri}/shop", **network.environment(), **shared, **log_settings
        )
        assert result.returncode == 0, result.stderr
        found = samples(address)

    store = open_store(f"{s3_uri}/shop")
    counts = manifest_of(store, RUN_ID).categories
    for category in CATEGORIES:
        for decision in DECISIONS:
            counted = found.get(("toygan_candidates_total", category, decision), 0)
            assert counted == counts[category][decision]
        assert found["toygan_shard_seconds_total", category] > 0
    assert found["toygan_store_failures_total", "StoreUnavailable"] >= 1
    of_store = {name: value for (name, *labels), value in found.items() if labels == [f"{s3_uri}/shop"]}
    totals = manifest_of(store, RUN_ID).counts
    assert of_store["toygan_pictures_missing"] == totals["planned"] - totals["approved"]
    assert of_store["toygan_review_backlog"] == totals["review"]
    assert of_store["toygan_photos_quarantined"] == 0
    assert 0 < time.time() - of_store["toygan_last_success_timestamp_seconds"] < COMMAND_LIMIT_S
    # The process of the run is gone, and with it what only it could know.
    assert not any(name == "toygan_shards_waiting" for name, *_ in found)

    lines = [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    done = {line["shard"]: line for line in lines if line["message"].endswith("}") and "shard" in line}
    assert {(line["run"], line["category"]) for line in done.values()} == {
        (RUN_ID, category) for category in CATEGORIES
    }
    assert all(line["task_run_id"] and line["flow_run_id"] for line in done.values())
    failures = [line for line in lines if line["logger"] == "toygan.storage.s3"]
    assert failures
    assert all(line["level"] == "WARNING" for line in failures)
    # Uploads run in threads of their own, and still say for which shard.
    assert any(line.get("shard") in done for line in failures)


def test_the_metrics_show_the_queue_of_a_run(tmp_path: Path, prefect_environment: dict[str, str]) -> None:
    """From the process of the run itself, which TOYGAN_METRICS_PORT is enough for."""
    model = tiny_model().write(tmp_path / "tiny")
    catalog = products(tmp_path / "catalog.parquet", 300)
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "flows.cli",
        "generate",
        "--catalog",
        str(catalog),
        "--model",
        str(model),
    ]
    command += ["--run-id", RUN_ID, "--output", str(tmp_path / "out")]
    seen: list[float] = []
    with (tmp_path / "log").open("wb") as log:
        environment = {**prefect_environment, "TOYGAN_METRICS_PORT": str(port)}
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    end = time.monotonic() + COMMAND_LIMIT_S
    while process.poll() is None and time.monotonic() < end:
        try:
            found = samples(f"http://127.0.0.1:{port}/metrics")
        except httpx.HTTPError:
            found = {}
        seen += [value for name, value in found.items() if name == ("toygan_shards_waiting", RUN_ID)]
        time.sleep(0.05)
    assert process.wait() == 0, (tmp_path / "log").read_text()
    assert seen[0] == 3
    assert seen == sorted(seen, reverse=True)


def test_a_port_in_use_is_named(tmp_path: Path, toygan: Toygan, rclone: S3Server) -> None:
    model, catalog = tiny_model().write(tmp_path / "tiny"), products(tmp_path / "catalog.parquet", 3)
    arguments = ["--catalog", catalog, "--model", model, "--output", tmp_path / "out"]
    result = toygan("generate", *arguments, TOYGAN_METRICS_PORT=str(rclone.port))
    assert result.returncode == 2
    assert f"TOYGAN_METRICS_PORT={rclone.port}" in result.stderr
    assert not (tmp_path / "out").exists()


def alert_script(folder: Path) -> Path:
    """The script of flows/README.md."""
    (code,) = re.findall(
        r"```python\n(# alerts.py\n.*?)```", (REPOSITORY / "flows/README.md").read_text(), re.S
    )
    script = folder / "alerts.py"
    script.write_text(code)
    return script


def test_alerts_become_events_that_start_a_flow(
    tmp_path: Path, toygan: Toygan, prefect_environment: dict[str, str]
) -> None:
    """After three good nights the generator returns NaN, and one product has never had a picture."""
    rows = [product(number, category=CATEGORIES[0]) for number in range(21)]
    catalog = write_catalog(tmp_path / "catalog.parquet", rows)
    command = ["generate", "--catalog", catalog, "--output", tmp_path / "out"]
    good = tiny_model(acceptance=1.0).write(tmp_path / "good" / "tiny")
    store = open_store(tmp_path / "out")
    result = toygan(*command, "--model", good, "--run-id", "first", "--limit", "20")
    assert result.returncode == 0, result.stderr
    for commit, run_id in ((2, "second"), (3, "third")):
        again = Manifest.from_json(store.get(manifest_key("first")))
        again = replace(again, run_id=run_id, shards=0, commit=commit)
        store.put(manifest_key(run_id), again.to_json().encode())
    store.delete(COMMITS_KEY)  # it is made again from the manifests
    bad = nan_model().write(tmp_path / "bad" / "tiny")
    with running([sys.executable, str(alert_script(tmp_path))], prefect_environment, tmp_path) as alerts:
        alerts.deployment("alerts")
        result = toygan(*command, "--model", bad, "--mode", "all", "--run-id", "broken")
        assert result.returncode == 1
        assert "none is finite" in result.stderr
        wanted = {"event": {"prefix": ["toygan.alert."]}}

        def look() -> list[dict[str, Any]]:
            found = alerts.ask("POST", "/events/filter", {"filter": wanted})["events"]
            return [event for event in found if event["payload"]["store"] == store.uri]

        events = alerts.wait_for("the events", lambda: found if len(found := look()) == 3 else None)
        runs = alerts.wait_for(
            "a run for each event",
            lambda: found if len(found := alerts.runs("alerts", "COMPLETED")) == len(events) else None,
        )
    assert all(event["payload"]["run_id"] == "broken" for event in events)
    kinds = {event["event"].removeprefix("toygan.alert."): event for event in events}
    assert kinds.keys() == {"acceptance-halved", "no-picture", "none-approved"}
    assert kinds["acceptance-halved"]["resource"]["prefect.resource.name"] == CATEGORIES[0]
    assert kinds["acceptance-halved"]["payload"]["acceptance"] == 0
    assert kinds["no-picture"]["payload"]["skus"] == [rows[20]["sku"]]
    messages = sorted(event["payload"]["message"] for event in events)
    assert sorted(run["name"] for run in runs) == messages


def manifest_of(store: ObjectStore, run_id: str) -> Manifest:
    manifest = read_manifest(store, run_id)
    assert manifest is not None
    return manifest


@pytest.fixture(autouse=True)
def _no_port_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOYGAN_METRICS_PORT", "PROMETHEUS_MULTIPROC_DIR"):
        monkeypatch.delenv(name, raising=False)
